"""RedisLockBackend: the scripts of locks on Redis or Valkey. Deadlines and renewal are in lock.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from helix_fast.errors import HelixError
from helix_fast.keys import LockKeys
from helix_fast.lua import Argument, script
from helix_fast.requests import Requests

from .lock import Clock, Lock, LockBackend, monotonic

# An operation is remembered for longer than it, or a copy of it in the buffers of a dead connection, can last.
FINISHED_MS: Final = 60_000


class RedisLockBackend(LockBackend):
    """Refreshes and releases the locks of one manager.

    Args:
        requests: the manager's.
        key_prefix: put before every key.
        report: gets errors of background work.
    """

    clock: Clock

    def __init__(self, requests: Requests, key_prefix: str, report: Callable[[HelixError], None]) -> None:
        self.clock = monotonic
        self._requests = requests
        self.keys: Callable[[str], LockKeys] = partial(_keys, key_prefix)
        """The keys of a session's lock; InvalidIdError for an id that cannot be one."""
        self._report = report
        self._remember_ms = max(FINISHED_MS, int(requests.retry_timeout * 2_000))

    def valid_for(self, ttl_ms: int) -> float:
        """Less than the TTL: clocks drift (by far less than 1 %), and servers expire keys by whole milliseconds."""
        return ttl_ms * 0.99e-3 - 0.002

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, retry_timeout: float) -> tuple[float, int]:
        """Set a new TTL, if the stored record is still that of the lock."""
        keys = self.keys(lock.session_id)
        return await self.timed(
            "lock_refresh", lock.session_id, [keys.lock, keys.operation(lock.operation)],
            [lock.record, serial, ttl_ms], retry_timeout,
        )  # fmt: skip

    async def release_lock(self, lock: Lock, *, retry_timeout: float) -> bool:
        """Delete the lock, if the stored record is still its own, and wake the next waiter."""
        keys = self.keys(lock.session_id)
        _, released = await self.timed(
            "lock_release", lock.session_id, *self._release_arguments(keys, lock.record, lock.operation),
            min(retry_timeout, self._requests.retry_timeout),
        )  # fmt: skip
        return bool(released)

    def drop_lock(self, lock: Lock) -> None:
        """Send a release, and ignore its reply."""
        self.drop(lock.session_id, lock.record, lock.operation)

    def report(self, error: HelixError) -> None:
        """Report an error to the manager's ``on("error")``."""
        self._report(error)

    def drop(self, session_id: str, record: bytes, operation: str) -> None:
        """Send a release of the lock that an operation holds or may hold, and ignore the reply.

        If this release is lost too, the lock expires.
        """
        if self._requests.closed:
            return
        args = self._release_arguments(self.keys(session_id), record, operation)
        try:
            self._requests.topology.send(session_id, script("locks", "lock_release").frame(*args, by_text=True))
        except HelixError:
            return

    def _release_arguments(
        self, keys: LockKeys, record: bytes, operation: str
    ) -> tuple[Sequence[bytes], Sequence[Argument]]:
        return (
            [keys.lock, keys.operation(operation), keys.queue, keys.alive],
            [record, operation, self._remember_ms, self._requests.topology.publish, keys.released],
        )

    async def timed(
        self,
        name: str,
        tag: str,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        retry_timeout: float | None = None,
    ) -> tuple[float, Any]:
        """Run a script; returns when the successful attempt was sent, and the reply.

        Args:
            retry_timeout: as in ``Requests.run``.
        """
        sent = 0.0

        def note() -> None:
            nonlocal sent
            sent = self.clock()

        reply = await self._requests.run(
            script("locks", name), tag, keys, args, retry_timeout=retry_timeout, before_attempt=note
        )
        return sent, reply


@lru_cache(maxsize=64)
def _keys(prefix: str, session_id: str) -> LockKeys:
    return LockKeys(prefix, session_id)
