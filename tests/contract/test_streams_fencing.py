"""Fencing tokens: a larger one takes the stream over, the same one joins, a smaller one is refused."""

from __future__ import annotations

from helix_fast.testing.contract.streams.fencing import *
