"""What usage adds up to: never wrong, whoever writes, deletes or reads at the same time."""

from __future__ import annotations

from helix_fast.testing.contract.usage.rollups import *
