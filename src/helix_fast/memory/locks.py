"""Locks in this process: the twin of the locks on Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.keys import check_id, check_prefix
from helix_fast.locks.hold import Hold, Holds
from helix_fast.locks.lock import Clock, Lock, LockBackend, monotonic
from helix_fast.locks.schema import LockInfo
from helix_fast.reporting import BackgroundErrors, ErrorCallback

from .server import LockTable, MemoryServer

Self = TypeVar("Self", bound="_LocalLockManager")


class _LocalLockManager(LockBackend):
    """Tokens, error callbacks, closing."""

    def __init__(
        self, *, default_ttl_ms: float = 30_000, clock: Clock = monotonic, logger: logging.Logger | None = None
    ) -> None:
        self._holds = Holds(default_ttl_ms)
        self.default_ttl_ms = self._holds.default_ttl_ms
        self._errors = BackgroundErrors(logger)
        self.clock = clock
        self._closed = False
        self._last_token = 0

    async def close(self) -> None:
        """End all renewals. Safe to call twice."""
        self._closed = True
        await self._holds.stop_renewals()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the store is closed")

    def _next_token(self) -> int:
        # One counter for all sessions, so that none has to be remembered for a session that is done with.
        self._last_token = max(self._last_token + 1, time.time_ns() // 1000)
        return self._last_token

    def valid_for(self, ttl_ms: int) -> float:
        """See LockBackend: one clock, so the whole TTL."""
        return ttl_ms / 1000

    def drop_lock(self, lock: Lock) -> None:
        """See LockBackend."""

    def report(self, error: HelixError) -> None:
        """See LockBackend."""
        self._errors.report(error)

    def on(self, event: str, callback: ErrorCallback) -> None:
        """Register ``callback(error)`` for errors of background work; ``event`` is ``"error"``."""
        self._errors.on(event, callback)


class _Held(NamedTuple):
    operation: str
    owner: str
    token: int
    acquired_at: int
    expires: float


class InMemoryLockManager(_LocalLockManager):
    """The locks of RedisLockManager, for one process and one event loop: same methods, same answers, same errors.

    Args:
        key_prefix: keeps apart the locks of one server.
        default_ttl_ms: TTL of a lock in milliseconds, from 10, where ``acquire`` is given none.
        clock: seconds that never go back; for tests. Default: the server's, where that was given one.
        logger: where background errors go that nobody listens for.
        server: managers of one server and ``key_prefix`` lock the same sessions; None: one of its own.
    """

    def __init__(
        self,
        key_prefix: str = "",
        default_ttl_ms: float = 30_000,
        *,
        clock: Clock | None = None,
        logger: logging.Logger | None = None,
        server: MemoryServer | None = None,
    ) -> None:
        if clock is None:
            clock = monotonic if server is None or server.clock is None else server.clock
        super().__init__(default_ttl_ms=default_ttl_ms, clock=clock, logger=logger)
        self.key_prefix = check_prefix(key_prefix)
        self._table = LockTable() if server is None else server.lock_table(self.key_prefix)
        self._held: dict[str, _Held] = self._table.held
        self._waiting: dict[str, deque[asyncio.Event]] = self._table.waiting

    def _next_token(self) -> int:
        self._last_token = self._table.last_token
        self._table.last_token = super()._next_token()
        return self._table.last_token

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """Acquire the lock of a session, or None where another has it; see RedisLockManager.acquire."""
        ttl, name, wait = self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        self._check_open()
        if not wait:
            return None if self._current(session_id) else self._take(session_id, name, ttl)
        give_up = self.clock() + wait
        turn = asyncio.Event()
        queue = self._waiting.setdefault(session_id, deque())
        queue.append(turn)
        try:
            while True:
                self._check_open()
                held = self._current(session_id)
                if held is None and queue[0] is turn:
                    return self._take(session_id, name, ttl)
                left = give_up - self.clock()
                if left <= 0:
                    return None
                await self._wait(turn, min(left, held.expires - self.clock()) if held else left)
        finally:
            queue.remove(turn)
            if not queue:
                self._waiting.pop(session_id, None)
            self._call_next(session_id)

    def hold(
        self,
        session_id: str,
        *,
        ttl_ms: float | None = None,
        owner: str | None = None,
        wait_ms: float = 0,
        renew: bool = True,
        on_lost: Callable[[Lock], object] | None = None,
        cancel_on_lost: bool = False,
    ) -> Hold:
        """Hold a lock for the length of an ``async with`` block; as RedisLockManager.hold."""
        self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        return self._holds.new(
            lambda: self.acquire(session_id, ttl_ms=ttl_ms, owner=owner, wait_ms=wait_ms),
            self,
            renew=renew,
            on_lost=on_lost,
            cancel_on_lost=cancel_on_lost,
        )

    async def _wait(self, turn: asyncio.Event, seconds: float) -> None:
        turn.clear()
        timer = asyncio.get_running_loop().call_later(min(max(0.0, seconds), 86_400.0), turn.set)
        try:
            await turn.wait()
        finally:
            timer.cancel()

    def _call_next(self, session_id: str) -> None:
        queue = self._waiting.get(session_id)
        if queue:
            queue[0].set()

    def _take(self, session_id: str, owner: str, ttl: int) -> Lock:
        now, token = self.clock(), self._next_token()
        self._held[session_id] = _Held(str(token), owner, token, time.time_ns() // 1_000_000, now + ttl / 1000)
        return Lock(self, session_id, owner, token, ttl, now, operation=str(token))

    def _current(self, session_id: str) -> _Held | None:
        self._check_open()
        held = self._held.get(session_id)
        if held is not None and held.expires <= self.clock():
            del self._held[session_id]
            return None
        return held

    async def is_locked(self, session_id: str) -> bool:
        """Whether anybody holds the session's lock now."""
        return self._current(check_id(session_id, "session_id")) is not None

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """Who holds the session's lock now, or None."""
        held = self._current(check_id(session_id, "session_id"))
        if held is None:
            return None
        return LockInfo(
            owner=held.owner,
            fencing_token=held.token,
            acquired_at=held.acquired_at,
            expires_in_ms=int((held.expires - self.clock()) * 1000),
        )

    def _mine(self, lock: Lock) -> _Held | None:
        held = self._current(lock.session_id)
        return held if held is not None and held.operation == lock.operation else None

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, retry_timeout: float) -> tuple[float, int]:
        """See LockBackend."""
        now, held = self.clock(), self._mine(lock)
        if held is None:
            return now, 0
        self._held[lock.session_id] = held._replace(expires=now + ttl_ms / 1000)
        if ttl_ms / 1000 < held.expires - now:
            self._call_next(lock.session_id)  # the first waiter has to wake earlier
        return now, 1

    async def release_lock(self, lock: Lock, *, retry_timeout: float) -> bool:
        """See LockBackend."""
        if self._mine(lock) is None:
            return False
        del self._held[lock.session_id]
        self._call_next(lock.session_id)
        return True

    async def close(self) -> None:
        """End all renewals; whoever waits for a lock gets StoreClosedError. Safe to call twice."""
        await super().close()
        for queue in self._waiting.values():
            for turn in queue:
                turn.set()
