"""The contract of streams on the stores in memory."""

from __future__ import annotations

from helix_fast.testing.contract.streams import *
