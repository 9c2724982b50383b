"""The blocking stores under the async contract: each call of a coroutine method runs in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from helix_fast.sync import (
    Flag,
    RedisLockManager,
    RedisResumableStorage,
    RedisStateStore,
    RedisStreamManager,
    RedisUsageStore,
    Subscription,
)
from helix_fast.sync.base import Blocking
from helix_fast.transport.binding import running_loop
from tests.support.backends import Backend

STORES: Final = {
    "state": RedisStateStore,
    "streams": RedisStreamManager,
    "resumable": RedisResumableStorage,
    "usage": RedisUsageStore,
    "locks": RedisLockManager,
}
# More than any test has calls in flight: one that waits for a lock keeps its thread.
_threads: Final = ThreadPoolExecutor(max_workers=400, thread_name_prefix="contract")
_END: Final = object()


def store_of(backend: Backend, area: str, **options: Any) -> Any:
    """A blocking store, with async methods."""
    return threaded(STORES[area]._over(backend.make(area, **options)))  # type: ignore[attr-defined]


async def in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: function(*args, **options))


def threaded(value: Any) -> Any:
    """What a blocking call returns, as the contract expects it."""
    if isinstance(value, Blocking):
        return Threaded(value)
    if isinstance(value, Flag):
        return ThreadedFlag(value)
    if isinstance(value, Subscription):
        return ThreadedSubscription(value)
    return value


def plain(value: Any) -> Any:
    """A callback that a thread can call."""
    if not callable(value) or isinstance(value, type):
        return value
    loop = asyncio.get_running_loop()
    if inspect.iscoroutinefunction(value):
        return lambda *args: asyncio.run_coroutine_threadsafe(value(*args), loop).result()
    return lambda *args: value(*(threaded(arg) for arg in args))


class ThreadedFlag:
    """A flag that tasks can wait for."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self.is_set = flag.is_set

    async def wait(self) -> bool:
        return bool(await in_thread(self._flag.wait))

    def __bool__(self) -> bool:
        return bool(self._flag)


class ThreadedSubscription:
    """A subscription that tasks can wait for."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __call__(self) -> asyncio.Future[None] | None:
        loop = running_loop()
        if loop is None:  # called by its callback
            self._subscription()
            return None
        return loop.run_in_executor(_threads, self._subscription)

    def __await__(self) -> Generator[Any, None, Any]:
        return in_thread(self._subscription.wait).__await__()


class Threaded:
    """A blocking object with the async methods of what it is made of. Private names are those of the async object."""

    def __init__(self, blocking: Blocking[Any]) -> None:
        self.blocking = blocking

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return getattr(self.blocking._async, name)
        value = getattr(self.blocking, name)
        if not callable(value) or isinstance(value, Flag):
            return threaded(value)
        if not inspect.iscoroutinefunction(getattr(self.blocking._async, name)):
            return lambda *args, **options: threaded(value(*map(plain, args), **_plain(options)))

        async def call(*args: Any, **options: Any) -> Any:
            return threaded(await in_thread(value, *args, **options))

        return call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Threaded) and self.blocking == other.blocking

    def __hash__(self) -> int:
        return hash(self.blocking)

    async def __aenter__(self) -> Any:
        return threaded(await in_thread(self.blocking.__enter__))  # type: ignore[attr-defined]

    async def __aexit__(self, *exc_info: Any) -> None:
        await in_thread(self.blocking.__exit__, *exc_info)  # type: ignore[attr-defined]

    def __aiter__(self) -> Any:
        iter(self.blocking)  # type: ignore[call-overload]
        return self

    async def __anext__(self) -> Any:
        item = await in_thread(next, self.blocking, _END)
        if item is _END:
            raise StopAsyncIteration
        return item


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) if name in {"callback", "on_lost"} else value for name, value in options.items()}


__all__ = ["Threaded", "in_thread", "store_of", "threaded"]
