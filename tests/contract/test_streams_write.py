"""Writers: sequences, order, buffering, and what is refused before it is sent."""

from __future__ import annotations

from helix_fast.testing.contract.streams.writing import *
