"""NoOpLockManager: the manager that locks nothing. No server and no keys in here."""

from __future__ import annotations

import logging
import math
import time
from typing import TypeVar

from helix_fast.errors import StoreClosedError
from helix_fast.keys import check_id
from helix_fast.reporting import ErrorReporting

from .hold import LockHolding
from .lock import Lock, LockBackend, monotonic
from .schema import LockInfo

Self = TypeVar("Self", bound="NoOpLockManager")


class NoOpLockManager(LockHolding, ErrorReporting, LockBackend):
    """Locks nothing: every ``acquire`` succeeds at once, and no lock is ever lost.

    For one process that runs a session once by its own means. Tokens grow all the same, so fenced writes go through.

    Args:
        default_ttl_ms: checked and otherwise unused, as every TTL and ``wait_ms`` is.
        logger: receives background errors that no callback takes.
    """

    clock = staticmethod(monotonic)

    def __init__(self, *, default_ttl_ms: float = 30_000, logger: logging.Logger | None = None) -> None:
        LockHolding.__init__(self, default_ttl_ms=default_ttl_ms)
        ErrorReporting.__init__(self, logger)
        self._closed = False
        self._last_token = 0

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """A lock that excludes nobody; arguments are checked as in RedisLockManager.acquire."""
        ttl, name, _ = self._checked(session_id, ttl_ms, owner, wait_ms)
        if self._closed:
            raise StoreClosedError("the store is closed")
        # One counter for all sessions: none has to be remembered for a session that is over.
        self._last_token = max(self._last_token + 1, time.time_ns() // 1000)
        return Lock(self, session_id, name, self._last_token, ttl, self.clock())

    def valid_for(self, ttl_ms: int) -> float:
        """Seconds for which a holder may rely on a TTL: all."""
        return math.inf

    async def is_locked(self, session_id: str) -> bool:
        """False."""
        check_id(session_id, "session_id")
        return False

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """None."""
        check_id(session_id, "session_id")
        return None

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, patience: float | None) -> tuple[float, int]:
        """Refreshed at once, whatever the TTL; see LockBackend."""
        return self.clock(), 1

    async def release_lock(self, lock: Lock, *, patience: float) -> bool:
        """Released at once; see LockBackend."""
        return True

    def drop_lock(self, lock: Lock) -> None:
        """Nothing to release."""

    async def close(self) -> None:
        """End all renewals. Safe to call twice."""
        self._closed = True
        await self._stop_renewals()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _backend(self) -> LockBackend:
        return self
