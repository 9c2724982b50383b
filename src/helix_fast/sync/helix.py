"""Helix: all blocking stores of one server. It connects with its first use, and anew in the child of a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from helix_fast import Helix as AsyncHelix
from helix_fast.errors import StoreClosedError

from .locks import RedisLockManager
from .loop import BackgroundLoop, background, close_at_exit, run
from .state import RedisStateStore
from .streams import RedisResumableStorage, RedisStreamManager
from .usage import RedisUsageStore

Self = TypeVar("Self", bound="Helix")


class _Opened:
    """The stores of one connection set."""

    def __init__(self, helix: AsyncHelix, loop: BackgroundLoop) -> None:
        self.helix = helix
        self.loop = loop
        self.state = RedisStateStore._over(helix.state)
        self.streams = RedisStreamManager._over(helix.streams)
        self.resumable = RedisResumableStorage._over(helix.resumable)
        self.usage = RedisUsageStore._over(helix.usage)
        self.locks = RedisLockManager._over(helix.locks)


class Helix:
    """All stores of one server, blocking, on shared connections; made by :func:`connect`, used by any thread.

    It connects when it is entered with ``with``, or else with its first use. So one that is made at the top of a module
    may be used in every forked worker: each has connections of its own. A store, reader or lock that was taken from it
    before the fork is the parent's, and is refused in the child with InvalidArgumentError; so is one of ``memory://``
    and of ``embedded://`` without a directory, whose data are the parent's.
    """

    def __init__(self, make: Callable[[], AsyncHelix], target: object) -> None:
        self._make = make
        self._survives_fork = target not in {"memory://", "embedded://"}
        self._next: AsyncHelix | None = make()  # wrong arguments are refused now
        self._now: _Opened | None = None
        self._parents: list[_Opened] = []  # kept, or they would be finalized, which reaches for the parent's loop
        self._closed = False
        self._lock = threading.Lock()
        self._process = os.getpid()

    @property
    def state(self) -> RedisStateStore:
        """The state store."""
        return self._opened().state

    @property
    def streams(self) -> RedisStreamManager:
        """The stream manager."""
        return self._opened().streams

    @property
    def resumable(self) -> RedisResumableStorage:
        """The resumable storage, of the same streams."""
        return self._opened().resumable

    @property
    def usage(self) -> RedisUsageStore:
        """The usage store."""
        return self._opened().usage

    @property
    def locks(self) -> RedisLockManager:
        """The lock manager."""
        return self._opened().locks

    def _opened(self) -> _Opened:
        now = self._now
        if now is not None and now.loop.running:
            return now
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lock = threading.Lock()  # a thread of the parent may have held it
        with self._lock:
            if self._closed:
                raise StoreClosedError("this Helix is closed", hint="call connect() again")
            if self._now is None or (not self._now.loop.running and self._survives_fork):
                if self._now is not None:
                    self._parents.append(self._now)
                helix, self._next = self._next or self._make(), None
                self._now = _Opened(run(_open(helix)), background())
                close_at_exit(helix)
            return self._now

    def close(self) -> None:
        """Close the stores and the connections, and leave an embedded server. Safe to call twice, in any thread."""
        self._closed = True
        now = self._now
        if now is not None:
            run(now.helix.close())

    def __enter__(self: Self) -> Self:
        self._opened()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


async def _open(helix: AsyncHelix) -> AsyncHelix:
    return await helix
