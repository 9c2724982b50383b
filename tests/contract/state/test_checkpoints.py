"""Checkpoints hold the state as it was, whatever happens to it afterwards."""

from __future__ import annotations

from helix_fast.testing.contract.state.checkpoints import *
