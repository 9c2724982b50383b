"""Locks: what every LockManager promises. Needs the fixture ``new_lock_manager``."""

from __future__ import annotations

from .acquiring import *
from .holding import *
