"""Hold: the ``async with`` block around a lock, for every lock manager. No server, keys or scripts here."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import socket
from collections.abc import Awaitable, Callable
from functools import cached_property
from types import TracebackType

from helix_fast.errors import HelixError, InvalidArgumentError, LockLostError, LockNotAcquiredError
from helix_fast.keys import check_id
from helix_fast.transport.binding import cancel

from .lock import Lock, LockBackend
from .schema import check_owner, check_ttl, check_wait


class Hold:
    """``async with manager.hold(...) as lock:`` acquires, renews and releases. For one block only.

    Args:
        acquire: acquires the lock; None: another holds it.
        backend: the manager's.
        registry: contains the hold while it renews.
        renew, on_lost, cancel_on_lost: see ``RedisLockManager.hold``.
    """

    def __init__(
        self,
        acquire: Callable[[], Awaitable[Lock | None]],
        backend: LockBackend,
        registry: set[Hold],
        *,
        renew: bool,
        on_lost: Callable[[Lock], object] | None,
        cancel_on_lost: bool,
    ) -> None:
        callback: object = on_lost
        if callback is not None and (not callable(callback) or inspect.iscoroutinefunction(callback)):
            raise InvalidArgumentError("on_lost must be a plain function of the lock, not a coroutine function")
        self._acquire = acquire
        self._backend = backend
        self._registry = registry
        self._renew = renew
        self._callback = on_lost
        self._cancel_on_lost = cancel_on_lost
        self._lock: Lock | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._body: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled = self._leaving = self._entered = False

    async def __aenter__(self) -> Lock:
        if self._entered:
            raise InvalidArgumentError("hold() is for one with-block; call it again for the next")
        self._entered = True
        lock = await self._acquire()
        if lock is None:
            raise LockNotAcquiredError("the session is locked by another", hint="try again later, or pass wait_ms")
        self._lock = lock
        self._body = asyncio.current_task()
        self._cancelling = self._pending_cancellations()
        lock._on_lost = self._lost
        if self._renew and lock.remaining_ms < math.inf:
            self._renewal = asyncio.get_running_loop().create_task(lock._renew(), name=f"renew lock {lock.session_id}")
            self._registry.add(self)
        return lock

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        lock = self._lock
        assert lock is not None
        self._leaving = True
        lost = lock.lost.is_set()
        try:
            await self.stop()
        finally:
            lost = not await self._release(lock) or lost
        if lost:
            self._raise_lost(lock, kind, error)

    async def _release(self, lock: Lock) -> bool:
        """Release the lock; returns whether it was held until now."""
        if lock.lost.is_set():
            self._backend.drop_lock(lock)
            return False
        if lock._released:
            return True
        try:
            return await lock._release(lock.remaining_ms / 1000)
        except HelixError as error:
            # The lock expires by itself, and the body has finished: this is no reason to fail it.
            self._backend.report(error)
            return True

    def _raise_lost(self, lock: Lock, kind: type[BaseException] | None, error: BaseException | None) -> None:
        ours = kind is not None and issubclass(kind, asyncio.CancelledError) and self._cancelled
        if self._cancelled and self._body is not None and hasattr(self._body, "uncancel"):
            # Cancelled by another task as well: that cancellation goes up.
            ours = self._body.uncancel() <= self._cancelling and ours
        if kind is None or ours:
            raise LockLostError(f"the lock of session {lock.session_id!r} was lost") from error

    async def stop(self) -> None:
        """End the renewal. Safe to call twice."""
        self._registry.discard(self)
        task, self._renewal = self._renewal, None
        await cancel(task)

    def _lost(self) -> None:
        lock = self._lock
        if self._leaving or lock is None:
            return
        if self._cancel_on_lost and self._body is not None and not self._body.done():
            self._cancelled = True
            self._body.cancel()
        if self._callback is not None:
            try:
                self._callback(lock)
            except Exception as error:  # noqa: BLE001  a user's function; reported
                report = LockLostError(f"on_lost of session {lock.session_id!r} failed: {error!r}", hint="")
                report.__cause__ = error
                self._backend.report(report)

    def _pending_cancellations(self) -> int:
        cancelling = getattr(self._body, "cancelling", None)
        return cancelling() if cancelling is not None else 0


class Holds:
    """The holds of one manager, and the checked arguments of its ``acquire`` and ``hold``.

    Args:
        default_ttl_ms: TTL of a lock for which ``acquire`` gets none.
    """

    def __init__(self, default_ttl_ms: float) -> None:
        self.default_ttl_ms: int = check_ttl(default_ttl_ms, "default_ttl_ms")
        self._renewing: set[Hold] = set()

    @cached_property
    def _default_owner(self) -> str:
        # made on first use, as the process may fork before
        return f"{socket.gethostname()[:200]}:{os.getpid()}:{os.urandom(4).hex()}"

    def checked(
        self, session_id: str, ttl_ms: float | None, owner: str | None, wait_ms: float
    ) -> tuple[int, str, float]:
        """TTL in milliseconds, owner, and seconds to wait.

        Raises:
            InvalidIdError, InvalidArgumentError: an invalid argument.
        """
        check_id(session_id, "session_id")
        ttl = self.default_ttl_ms if ttl_ms is None else check_ttl(ttl_ms)
        return ttl, self._default_owner if owner is None else check_owner(owner), check_wait(wait_ms)

    def new(
        self,
        acquire: Callable[[], Awaitable[Lock | None]],
        backend: LockBackend,
        *,
        renew: bool,
        on_lost: Callable[[Lock], object] | None,
        cancel_on_lost: bool,
    ) -> Hold:
        """A hold, to be entered with ``async with``."""
        return Hold(acquire, backend, self._renewing, renew=renew, on_lost=on_lost, cancel_on_lost=cancel_on_lost)

    async def stop_renewals(self) -> None:
        """End the renewals of all holds."""
        for hold in list(self._renewing):
            await hold.stop()
