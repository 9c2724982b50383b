"""Locks: what every LockManager promises. Needs the fixture ``new_lock_manager``."""

from __future__ import annotations

from helix_fast.testing.contract.locks.acquiring import *
from helix_fast.testing.contract.locks.holding import *
