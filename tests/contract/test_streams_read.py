"""Readers: from any sequence exactly the rest, stored and live, with no gap and no repeat at the seam."""

from __future__ import annotations

from helix_fast.testing.contract.streams.reading import *
