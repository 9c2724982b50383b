"""The contract of state on the stores in memory."""

from __future__ import annotations

from helix_fast.testing.contract.state import *
