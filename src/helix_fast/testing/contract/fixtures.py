"""The fixtures of the contract, for a ``conftest.py``: ``from helix_fast.testing.contract.fixtures import *``.

Below that line the ``conftest.py`` defines the factories of the stores that it wants tested, each as a fixture that
gives a function. All stores made within one test see the same data, as those of several processes would; every test
begins with no data; the suite closes what it makes. The options are those of the stores on Redis; a factory that does
not know one calls ``pytest.skip``.

* ``new_state_store``: a :class:`~helix_fast.interfaces.StateStore`, for ``helix_fast.testing.contract.state``
* ``new_stream_manager``: a :class:`~helix_fast.interfaces.StreamManager`, for ``contract.streams``
* ``new_resumable_storage``: a :class:`~helix_fast.interfaces.ResumableStorage`, for ``contract.resumable``; some of its
  tests need ``new_stream_manager`` as well, of the same streams
* ``new_usage_store``: a :class:`~helix_fast.interfaces.UsageStore`, for ``contract.usage``
* ``new_lock_manager``: a :class:`~helix_fast.interfaces.LockManager`, for ``contract.locks``

``requests_of``, ``waiters_of``, ``stop_renewing`` and ``thorough`` describe a store further, and may be defined again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.interfaces import LockManager, ResumableStorage, StateStore, StreamManager, UsageStore

from .lock_helpers import comes_true

__all__ = [
    "lock_manager",
    "make_lock_manager",
    "make_storage",
    "make_streams",
    "make_usage_store",
    "requests_of",
    "state_store",
    "state_stores",
    "stop_renewing",
    "storage",
    "streams",
    "thorough",
    "usage_store",
    "waiters_of",
    "waiting",
]


Factory = Callable[..., Any]
MakeStateStore = Callable[..., StateStore]
MakeStreams = Callable[..., StreamManager]
MakeStorage = Callable[..., ResumableStorage]
MakeUsageStore = Callable[..., UsageStore]
MakeLockManager = Callable[..., LockManager]
RequestsOf = Callable[[Any], int]
WaitersOf = Callable[[LockManager, str], Awaitable[int | None]]
Waiting = Callable[[LockManager, int], Awaitable[None]]
StopRenewing = Callable[[Any], Awaitable[None]]

UNTOLD_WAITERS_PAUSE = 0.1  # seconds for a waiter to join a queue that cannot be inspected


@contextlib.asynccontextmanager
async def _closing(new: Factory) -> AsyncIterator[Factory]:
    """The same factory; all that it made is closed at the end, the last first."""
    async with contextlib.AsyncExitStack() as stack:

        def make(**options: Any) -> Any:
            store = new(**options)
            stack.push_async_callback(store.close)
            return store

        yield make


# what a store may say about itself


@pytest.fixture
def requests_of() -> RequestsOf:
    """How many requests a store has sent, for "refused before anything is sent". Here: 0, as they are not counted."""
    return lambda store: 0


@pytest.fixture
def waiters_of() -> WaitersOf:
    """How many callers wait for the lock of a session; None: it cannot be known, and the tests wait a moment."""

    async def unknown(manager: LockManager, session_id: str) -> int | None:
        return None

    return unknown


@pytest.fixture
def stop_renewing() -> StopRenewing:
    """Stops the renewal of a stream manager's leases, which stay as they are: as if its process hung."""
    pytest.skip("no fixture stop_renewing: this store's producer cannot be made to hang")


@pytest.fixture
def thorough() -> bool:
    """Whether races and random histories are run long enough to find what is rare; seconds each."""
    return False


# state


@pytest.fixture
async def state_stores(new_state_store: Factory) -> AsyncIterator[MakeStateStore]:
    """Makes stores of the same sessions, each as another process would."""
    async with _closing(new_state_store) as make:
        yield make


@pytest.fixture
def state_store(state_stores: MakeStateStore) -> StateStore:
    """One store."""
    return state_stores()


# streams


@pytest.fixture
async def make_streams(new_stream_manager: Factory) -> AsyncIterator[MakeStreams]:
    """Makes managers of the same streams, each as another process would."""
    async with _closing(new_stream_manager) as make:
        yield make


@pytest.fixture
def streams(make_streams: MakeStreams) -> StreamManager:
    """One manager."""
    return make_streams()


@pytest.fixture
async def make_storage(new_resumable_storage: Factory) -> AsyncIterator[MakeStorage]:
    """Makes resumable storages of the same streams, each as another process would."""
    async with _closing(new_resumable_storage) as make:
        yield make


@pytest.fixture
def storage(make_storage: MakeStorage) -> ResumableStorage:
    """One storage."""
    return make_storage()


# usage


@pytest.fixture
async def make_usage_store(new_usage_store: Factory) -> AsyncIterator[MakeUsageStore]:
    """Makes stores of the same usage, each as another process would."""
    async with _closing(new_usage_store) as make:
        yield make


@pytest.fixture
def usage_store(make_usage_store: MakeUsageStore) -> UsageStore:
    """One store."""
    return make_usage_store()


# locks


@pytest.fixture
async def make_lock_manager(new_lock_manager: Factory) -> AsyncIterator[MakeLockManager]:
    """Makes managers that lock the same sessions, each as another process would."""
    async with _closing(new_lock_manager) as make:
        yield make


@pytest.fixture
def lock_manager(make_lock_manager: MakeLockManager) -> LockManager:
    """One manager."""
    return make_lock_manager()


@pytest.fixture
def waiting(waiters_of: WaitersOf) -> Waiting:
    """Waits until so many callers wait for the lock of session ``s``."""

    async def wait(manager: LockManager, count: int) -> None:
        if await waiters_of(manager, "s") is None:
            await asyncio.sleep(UNTOLD_WAITERS_PAUSE)
            return

        async def stand() -> bool:
            return await waiters_of(manager, "s") == count

        await comes_true(stand)

    return wait
