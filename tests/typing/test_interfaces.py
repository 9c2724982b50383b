"""Both backends satisfy the Protocols: mypy says so of this file, and a run that no method is missing."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from helix_fast import interfaces
from helix_fast.locks.manager import RedisLockManager
from helix_fast.locks.noop import NoOpLockManager
from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
)
from helix_fast.state.store import RedisStateStore
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.reader import ResumableReader, StreamReader
from helix_fast.streams.storage import RedisResumableStorage
from helix_fast.streams.writer import StreamWriter
from helix_fast.usage.store import RedisUsageStore

STATE: list[type[interfaces.StateStore]] = [RedisStateStore, InMemoryStateStore]
STREAMS: list[type[interfaces.StreamManager]] = [RedisStreamManager, InMemoryStreamManager]
RESUMABLE: list[type[interfaces.ResumableStorage]] = [RedisResumableStorage, InMemoryResumableStorage]
USAGE: list[type[interfaces.UsageStore]] = [RedisUsageStore, InMemoryUsageStore]
LOCKS: list[type[interfaces.LockManager]] = [RedisLockManager, InMemoryLockManager, NoOpLockManager]
WRITER: list[type[interfaces.StreamWriter]] = [StreamWriter]
READER: list[type[interfaces.StreamReader]] = [StreamReader]
RESUMABLE_READER: list[type[interfaces.ResumableReader]] = [ResumableReader]

PAIRS: list[tuple[type[Any], list[Any]]] = [
    (interfaces.StateStore, STATE),
    (interfaces.StreamManager, STREAMS),
    (interfaces.ResumableStorage, RESUMABLE),
    (interfaces.UsageStore, USAGE),
    (interfaces.LockManager, LOCKS),
    (interfaces.StreamWriter, WRITER),
    (interfaces.StreamReader, READER),
    (interfaces.ResumableReader, RESUMABLE_READER),
]


@pytest.mark.parametrize(("protocol", "classes"), PAIRS, ids=[protocol.__name__ for protocol, _ in PAIRS])
def test_every_promised_method_is_there(protocol: type[Any], classes: list[Any]) -> None:
    methods = [name for name, member in vars(protocol).items() if callable(member) and not name.startswith("__")]
    for cls in classes:
        assert [name for name in methods if not callable(getattr(cls, name, None))] == []


@pytest.mark.parametrize("protocol", [protocol for protocol, _ in PAIRS])
def test_the_types_that_a_protocol_names_can_be_resolved(protocol: type[Any]) -> None:
    for name, member in vars(protocol).items():
        if callable(member) and not name.startswith("_"):
            assert "return" in get_type_hints(member)
