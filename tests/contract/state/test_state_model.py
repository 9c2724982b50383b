"""State, staging and checkpoints against a plain model, in random order."""

from __future__ import annotations

from helix_fast.testing.contract.state.histories import *
