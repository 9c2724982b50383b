"""What every state store does, on each backend."""

from __future__ import annotations

import pytest

from helix_fast.testing.contract.state import *

# Thousands of races with two hundred callers each: seconds on an idle machine.
pytestmark = pytest.mark.timeout(600)
