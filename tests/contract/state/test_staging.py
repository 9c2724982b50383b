"""Merging into the custom state, at once or staged by the tool calls of a step."""

from __future__ import annotations

from helix_fast.testing.contract.state.staging import *
