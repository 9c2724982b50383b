"""The factories of the stores in memory: an example of what the author of another store writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from helix_fast.testing.contract.fixtures import *
from helix_fast.testing.contract.own import *

Factory = Callable[..., Any]


@pytest.fixture
def server() -> MemoryServer:
    """What the stores of one test share."""
    return MemoryServer()


@pytest.fixture
def new_state_store(server: MemoryServer) -> Factory:
    """Stores in memory."""
    return partial(InMemoryStateStore, server)


@pytest.fixture
def new_stream_manager(server: MemoryServer) -> Factory:
    """Managers in memory."""
    return partial(InMemoryStreamManager, server)


@pytest.fixture
def new_resumable_storage(server: MemoryServer) -> Factory:
    """Storages in memory."""
    return partial(InMemoryResumableStorage, server)


@pytest.fixture
def new_usage_store(server: MemoryServer) -> Factory:
    """Stores in memory."""
    return partial(InMemoryUsageStore, server)


@pytest.fixture
def new_lock_manager(server: MemoryServer) -> Factory:
    """Managers in memory."""
    return partial(InMemoryLockManager, server)
