"""Lock: an acquired lock, its deadline, renewal and release, for every lock manager. No server, keys or scripts here.

The rule: a holder may rely on its lock until the TTL has passed since its last successful request was *sent*. The
server counts from the arrival of that request, so the holder's deadline is always the earlier one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.flag import Flag
from helix_fast.transport.binding import follow
from helix_fast.transport.retry import back_off, is_transient

from .schema import check_ttl

_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
Clock = Callable[[], float]
"""Seconds that never go back."""


def monotonic() -> float:
    """Seconds of the monotonic clock; on Linux with the time in which the machine was suspended."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


class LockBackend(Protocol):
    """What a lock needs of its manager."""

    clock: Clock

    def valid_for(self, ttl_ms: int) -> float:
        """Seconds from the sending of a request for which a holder may rely on a TTL."""

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, retry_timeout: float) -> tuple[float, int]:
        """Refresh a lock.

        Args:
            retry_timeout: seconds for which transient faults are retried; 0: no retry.

        Returns:
            When the successful request was sent; and 1: refreshed, 0: the lock is not the caller's, 2: overtaken by a
            refresh with a later ``serial``.
        """

    async def release_lock(self, lock: Lock, *, retry_timeout: float) -> bool:
        """Release a lock; returns whether it was the caller's. A repeated call returns the same."""

    def drop_lock(self, lock: Lock) -> None:
        """Release a lock without waiting, if the connection allows it."""

    def report(self, error: HelixError) -> None:
        """Report an error of background work."""


class Lock:
    """An acquired lock. Made by the managers' ``acquire`` and ``hold``.

    Attributes:
        session_id: the locked session.
        owner: the ``owner`` of ``acquire``.
        ttl_ms: the TTL of the last request, in milliseconds.
    """

    def __init__(
        self, backend: LockBackend, session_id: str, owner: str, token: int, ttl_ms: int, sent: float,
        *, record: bytes = b"", operation: str = "",
    ) -> None:  # fmt: skip
        self.session_id = session_id
        self.owner = owner
        self.ttl_ms: int = ttl_ms
        self.record = record
        self.operation = operation
        self._backend = backend
        self._token = token
        self._lost = Flag()
        self._released = False
        self._not_mine = False
        self._serial = self._armed = 0
        self._deadline = self._renew_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._releasing = asyncio.Lock()
        self._woken: asyncio.Future[None] | None = None
        self._on_lost: Callable[[], object] | None = None
        self._loop = asyncio.get_running_loop()
        self._arm(sent, ttl_ms)

    def __repr__(self) -> str:
        status = "released" if self._released else "lost" if self._lost.is_set() else "held"
        return f"<Lock {self.session_id!r} {status} owner={self.owner!r} fencing_token={self._token}>"

    @property
    def fencing_token(self) -> int:
        """Larger than the token of every earlier holder; pass it to every write as ``fencing_token=``.

        Reading it also sets ``lost`` if the deadline has passed, so that a process that was suspended within a step
        notices before its next write. It never raises.
        """
        self._check()
        return self._token

    @property
    def lost(self) -> asyncio.Event:
        """Set, and true, once the lock may belong to another, and never cleared; a released lock is not lost."""
        self._check()
        return self._lost

    @property
    def held(self) -> bool:
        """Whether the lock is neither released nor lost, on the holder's own clock."""
        self._check()
        return not self._released and not self._lost.is_set()

    @property
    def remaining_ms(self) -> float:
        """Milliseconds for which the holder may still rely on the lock; 0 if it is lost or released."""
        return max(0.0, (self._deadline - self._backend.clock()) * 1000) if self.held else 0.0

    async def refresh(self, ttl_ms: float | None = None) -> bool:
        """Give the lock a new TTL, counted from now.

        Args:
            ttl_ms: milliseconds, from 10; default: the TTL of the last request. A shorter one shortens it.

        Returns:
            True if the lock is still this holder's; False if it was released or lost (then ``lost`` is set).

        Raises:
            InvalidArgumentError: an invalid TTL.
            StoreConnectionError, StoreResponseError: the outcome is unknown. If the lock was not refreshed, ``lost`` is
                set in time.
        """
        ttl = self.ttl_ms if ttl_ms is None else check_ttl(ttl_ms)
        return await self._refresh(ttl, retry_timeout=max(0.0, self._deadline - self._backend.clock()))

    async def _refresh(self, ttl: int, retry_timeout: float) -> bool:
        self._loop = follow(self._loop, "lock")
        if not self.held:
            return False
        self._serial += 1
        serial = self._serial
        # If the reply is lost, the server may count a shorter TTL from now on.
        shorter = self._backend.clock() + self._backend.valid_for(ttl)
        if shorter < self._deadline:
            self._deadline = shorter
            self._schedule()
        self.ttl_ms = ttl
        sent, outcome = await self._backend.refresh_lock(self, ttl, serial, retry_timeout=retry_timeout)
        if outcome == 0:
            self._not_mine = True
            self._lose()
        elif outcome == 1 and serial > self._armed and self.held:
            self._armed = serial
            self._arm(sent, ttl)
        return self.held

    async def release(self) -> bool:
        """Release the lock.

        Returns:
            True if this call released it; False if it was released before, has expired or is another's.

        Raises:
            StoreConnectionError, StoreResponseError: the outcome is unknown. A repeated call continues the same
                operation, and returns True if either call released the lock.
        """
        return await self._release(self._backend.valid_for(self.ttl_ms))

    async def _release(self, retry_timeout: float) -> bool:
        self._loop = follow(self._loop, "lock")
        async with self._releasing:
            if self._released or self._not_mine:
                return False
            mine = await self._backend.release_lock(self, retry_timeout=retry_timeout)
            if mine:
                self._released = True
                self._disarm()
            else:
                self._not_mine = True
                self._lose()
            return mine

    # the deadline

    def _arm(self, sent: float, ttl_ms: int) -> None:
        self._deadline = sent + self._backend.valid_for(ttl_ms)
        self._renew_at = sent + ttl_ms / 3000
        self._schedule()
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, self._deadline - self._backend.clock())
        if delay == math.inf:
            return
        self._timer = self._loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self.held:  # too early: the loop's clock is not the lock's
            self._schedule()

    def _check(self) -> None:
        if not self._released and not self._lost.is_set() and self._backend.clock() >= self._deadline:
            self._lose()

    def _lose(self) -> None:
        if self._released or self._lost.is_set():
            return
        self._lost.set()
        self._disarm()
        if self._on_lost is not None and not self._loop.is_closed():
            # Not called from here: this may run inside a step of the body, whose task cannot be cancelled meanwhile.
            self._loop.call_soon(self._on_lost)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, at most until a refresh, release or loss."""
        woken = self._woken = self._loop.create_future()
        timer = self._loop.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()
            self._woken = None

    async def _renew(self) -> None:
        """Refresh at a third of the TTL until the lock is released or lost. Faults are retried until the deadline."""
        failures = 0
        while self.held:
            if failures:
                await asyncio.sleep(min(back_off(failures), self.ttl_ms / 20_000))
            elif (delay := self._renew_at - self._backend.clock()) > 0:
                await self._sleep(delay)
                continue
            try:
                await self._refresh(self.ttl_ms, retry_timeout=0)
                failures = 0
            except StoreClosedError:
                return
            except HelixError as error:
                failures += 1
                if failures == 1 and not is_transient(error):
                    self._backend.report(error)
