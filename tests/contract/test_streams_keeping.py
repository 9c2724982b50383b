"""How much of a stream is kept: at least what was asked for, and little more."""

from __future__ import annotations

from helix_fast.testing.contract.streams.trimming import *
