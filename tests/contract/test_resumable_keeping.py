"""What resumable storages keep, and from whom they take it: trimming, and tokens of appends."""

from __future__ import annotations

from helix_fast.testing.contract.resumable.keeping import *
