"""Sessions as a whole: create, save, load, delete, status, counters, fencing."""

from __future__ import annotations

import pytest

from helix_fast.testing.contract.state.sessions import *

# Thousands of races with two hundred callers each: seconds on an idle machine.
pytestmark = pytest.mark.timeout(600)
