"""NoOpLockManager: the interface of a lock manager without any lock. No server, no waiting."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.keys import check_id
from helix_fast.reporting import BackgroundErrors, ErrorCallback

from .hold import Hold, Holds
from .lock import Clock, Lock, LockBackend, monotonic
from .schema import LockInfo

Self = TypeVar("Self", bound="NoOpLockManager")


class _NoBackend(LockBackend):
    """Every request succeeds."""

    clock: Clock

    def __init__(self, report: Callable[[HelixError], None]) -> None:
        self.clock = monotonic
        self._report = report

    def valid_for(self, ttl_ms: int) -> float:
        """Infinity: no lock expires."""
        return math.inf

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, retry_timeout: float) -> tuple[float, int]:
        """Succeed."""
        return self.clock(), 1

    async def release_lock(self, lock: Lock, *, retry_timeout: float) -> bool:
        """Succeed."""
        return True

    def drop_lock(self, lock: Lock) -> None:
        """Do nothing."""

    def report(self, error: HelixError) -> None:
        """Report an error to the manager's ``on("error")``."""
        self._report(error)


class NoOpLockManager:
    """Locks nothing: every ``acquire`` succeeds at once, and no lock is ever lost.

    For a single process that never runs a session twice at a time. Tokens grow, so that fenced writes work.

    Args:
        default_ttl_ms: checked, and otherwise ignored, as every TTL and ``wait_ms``.
        logger: gets background errors while there is no callback for them.
    """

    def __init__(self, *, default_ttl_ms: float = 30_000, logger: logging.Logger | None = None) -> None:
        self._holds = Holds(default_ttl_ms)
        self.default_ttl_ms: int = self._holds.default_ttl_ms
        self._errors = BackgroundErrors(logger)
        self._backend = _NoBackend(self._errors.report)
        self._closed = False
        self._last_token = 0

    def on(self, event: Literal["error"], callback: ErrorCallback) -> None:
        """Register ``callback(error)`` for errors of ``on_lost`` callbacks; ``event`` is ``"error"``.

        Raises:
            InvalidArgumentError: another event, or a callback that cannot be called.
        """
        self._errors.on(event, callback)

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """A lock that excludes no other holder. Arguments are checked as in RedisLockManager."""
        ttl, name, _ = self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        if self._closed:
            raise StoreClosedError("the store is closed")
        # one counter for all sessions, above the tokens of earlier processes
        self._last_token = max(self._last_token + 1, time.time_ns() // 1000)
        return Lock(self._backend, session_id, name, self._last_token, ttl, self._backend.clock())

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
        """Such a lock for the length of an ``async with`` block. Arguments are checked as in RedisLockManager."""
        self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        return self._holds.new(
            lambda: self.acquire(session_id, ttl_ms=ttl_ms, owner=owner, wait_ms=wait_ms),
            self._backend,
            renew=renew,
            on_lost=on_lost,
            cancel_on_lost=cancel_on_lost,
        )

    async def is_locked(self, session_id: str) -> bool:
        """False."""
        check_id(session_id, "session_id")
        return False

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """None."""
        check_id(session_id, "session_id")
        return None

    async def close(self) -> None:
        """Refuse further locks. Safe to call twice."""
        self._closed = True

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
