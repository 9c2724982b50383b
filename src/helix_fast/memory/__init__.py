"""The stores in memory: the code that runs on Redis, over a server in this process that runs the same scripts.

A second implementation of an operation must stay out.
"""

from __future__ import annotations

from .keyspace import CommandError
from .server import MemoryServer, Snapshot
from .stores import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
)

__all__ = [
    "CommandError",
    "InMemoryLockManager",
    "InMemoryResumableStorage",
    "InMemoryStateStore",
    "InMemoryStreamManager",
    "InMemoryUsageStore",
    "MemoryServer",
    "Snapshot",
]
