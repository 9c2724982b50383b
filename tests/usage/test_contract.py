"""What every usage store does, on each backend."""

from __future__ import annotations

from helix_fast.testing.contract.usage import *
