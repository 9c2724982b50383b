"""The blocking face: the same stores for threads, on one background event loop per process, which all threads share."""

from __future__ import annotations

from .base import Flag
from .connect import connect
from .helix import Helix
from .locking import Hold
from .locks import Lock, RedisLockManager
from .state import RedisStateStore
from .streams import RedisResumableStorage, RedisStreamManager, ResumableReader, StreamReader, StreamWriter
from .subscription import Subscription
from .usage import RedisUsageStore, UsageRecorder

__all__ = [
    "Flag",
    "Helix",
    "Hold",
    "Lock",
    "RedisLockManager",
    "RedisResumableStorage",
    "RedisStateStore",
    "RedisStreamManager",
    "RedisUsageStore",
    "ResumableReader",
    "StreamReader",
    "StreamWriter",
    "Subscription",
    "UsageRecorder",
    "connect",
]
