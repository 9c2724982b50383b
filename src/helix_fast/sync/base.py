"""What the blocking classes share: each has an object of an async class, whose calls it runs on the background loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar, overload

from helix_fast.errors import HelixError
from helix_fast.store import RedisStore

from .loop import run

A = TypeVar("A")
S = TypeVar("S", bound=RedisStore)
Self = TypeVar("Self", bound="Blocking[Any]")
SelfStore = TypeVar("SelfStore", bound="BlockingStore[Any]")


class Blocking(Generic[A]):
    """A blocking object over an async one. Both are equal to another over the same."""

    _async: A

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocking) and self._async is other._async

    def __hash__(self) -> int:
        return hash(id(self._async))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} over {self._async!r}>"

    @classmethod
    def _over(cls: type[Self], wrapped: Any) -> Self:
        made = cls.__new__(cls)
        made._async = wrapped
        return made

    @classmethod
    @overload
    def _over_any(cls: type[Self], wrapped: None) -> None: ...
    @classmethod
    @overload
    def _over_any(cls: type[Self], wrapped: object) -> Self: ...
    @classmethod
    def _over_any(cls: type[Self], wrapped: object) -> Self | None:
        return None if wrapped is None else cls._over(wrapped)


class BlockingStore(Blocking[S]):
    """What all blocking stores have: error callbacks, closing."""

    @property
    def key_prefix(self) -> str:
        """What is put before every key."""
        return self._async.key_prefix

    def on(self, event: Literal["error"], callback: Callable[[HelixError], object]) -> None:
        """Register ``callback(error)`` for errors of background work.

        It is called on the background event loop: it must be quick, and a blocking call in it is refused.

        Args:
            event: ``"error"``, the only one.

        Raises:
            InvalidArgumentError: another event, or a callback that cannot be called.
        """
        self._async.on(event, callback)

    def close(self) -> None:
        """Close the store, and its connections unless a Helix shares them. Safe to call twice, in any thread."""
        run(self._async.close())

    def __enter__(self: SelfStore) -> SelfStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Flag:
    """Tells threads that something has happened. It is true once that is so, and never false again."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens; False where it has not within ``timeout`` seconds. None: without limit."""
        if self._event.is_set():
            return True
        return run(self._wait(timeout))

    async def _wait(self, timeout: float | None) -> bool:
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    def __bool__(self) -> bool:
        return self._event.is_set()


def listed(items: Any) -> Any:
    """A list of what an iterator gives: its code is the caller's, and runs in the caller's thread."""
    return list(items) if isinstance(items, Iterator) else items
