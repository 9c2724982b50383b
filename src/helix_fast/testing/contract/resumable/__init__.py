"""Chunks by sequence: what every ResumableStorage promises. Needs the fixture ``new_resumable_storage``."""

from __future__ import annotations

from helix_fast.testing.contract.resumable.appending import *
from helix_fast.testing.contract.resumable.keeping import *
from helix_fast.testing.contract.resumable.subscribing import *
