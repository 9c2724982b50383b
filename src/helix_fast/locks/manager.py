"""RedisLockManager: acquires the locks of sessions, with fencing tokens. Locks and holds are in lock.py and hold.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis, RedisCluster

from helix_fast.arguments import to_json
from helix_fast.errors import StoreTimeoutError
from helix_fast.keys import LockKeys
from helix_fast.lua import script
from helix_fast.options import ConnectionOptions
from helix_fast.store import RedisStore, on_own_loop

from .backend import RedisLockBackend
from .hold import Hold, Holds
from .lock import Lock
from .schema import LockInfo, decode_record
from .waiter import POLL_SECONDS, Waiter

if TYPE_CHECKING:
    from typing_extensions import Unpack

# More than a year, so that a counter outlives the use of its session. Tokens are never below the server's time.
FENCE_TTL_SECONDS: Final = 400 * 86_400
_HOLDER: Final = script("locks", "lock_holder")


class RedisLockManager(RedisStore):
    """Locks over sessions, with fencing tokens that only ever grow.

    Args:
        redis: a URL or a ``redis.asyncio`` client; see RedisStore for this and all other options.
        key_prefix: put before every key: ``{key_prefix}lock:{session_id}``.
        default_ttl_ms: default TTL of ``acquire`` in milliseconds, from 10.
        wait_replicas: replicas that must have a lock, or its refresh, before it counts; see ``connect``.

    Raises:
        InvalidArgumentError, InvalidUrlError: invalid settings. No connection was opened.

    Source: "RedisLockManager" on the reference page. Locks are stored as its ``{owner, fencingToken, acquiredAt}``.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "",
        default_ttl_ms: float = 30_000,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self._holds = Holds(default_ttl_ms)
        self.default_ttl_ms: int = self._holds.default_ttl_ms
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._backend = RedisLockBackend(self._requests, self.key_prefix, self._errors.report)
        self._waiters: set[Waiter] = set()

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """Acquire the lock of a session; None if another holds it.

        After a lost reply the request is repeated, and finds that it holds the lock. Waiters are served in the order of
        their calls. A caller that does not wait may overtake them when the lock is free.

        Args:
            session_id: the session to lock.
            ttl_ms: milliseconds until the lock expires unless it is refreshed, from 10; default ``default_ttl_ms``.
            owner: name of the holder, up to 256 bytes; default: host, process and manager. It need not be unique.
            wait_ms: milliseconds to wait for the lock; 0: one attempt, infinity: without limit.

        Raises:
            InvalidIdError, InvalidArgumentError: nothing was sent.
            NotReplicatedError: fewer than ``wait_replicas`` replicas had the lock in time; it was released.
            StoreConnectionError, StoreResponseError: whether the lock was acquired is unknown. It is released if the
                server can be reached, and expires otherwise.
        """
        ttl, name, wait = self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        keys = self._backend.keys(session_id)
        operation = os.urandom(8).hex()
        try:
            return await self._acquire(session_id, keys, operation, ttl, name, wait)
        except BaseException:
            # A lock that was not returned to the caller must not stay, even if this was cancelled after the reply.
            self._backend.drop(session_id, b"", operation)
            raise

    async def _acquire(
        self, session_id: str, keys: LockKeys, operation: str, ttl: int, name: str, wait: float
    ) -> Lock | None:
        backend, topology = self._backend, self._requests.topology
        give_up = backend.clock() + wait
        publish = topology.publish or await self._requests.publish_command()
        alive_ms = int(POLL_SECONDS * 3000) if wait else 0
        waiter: Waiter | None = None
        try:
            while True:
                sent, reply = await backend.timed(
                    "lock_acquire", session_id,
                    [keys.lock, keys.fence, keys.operation(operation), keys.queue, keys.alive],
                    [operation, to_json(name), ttl, alive_ms, FENCE_TTL_SECONDS, publish, keys.released],
                )  # fmt: skip
                if reply[0] == b"held":
                    record: bytes = reply[1]
                    token = decode_record(record, keys.lock.decode()).fencing_token
                    lock = Lock(backend, session_id, name, token, ttl, sent, record=record, operation=operation)
                    if not lock.held:
                        raise StoreTimeoutError("the reply took longer than the lock's TTL")
                    return lock
                left = give_up - backend.clock()
                if left <= 0 or reply[0] == b"over":
                    if wait:
                        backend.drop(session_id, b"", operation)
                    return None
                if waiter is None:
                    waiter = Waiter(topology, session_id, keys.released, operation)
                    self._waiters.add(waiter)
                await waiter.wait(left, expires_ms=reply[1], place=reply[2])
        finally:
            if waiter is not None:
                self._waiters.discard(waiter)
                await waiter.close()

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
        """Hold a lock for the length of an ``async with`` block, which gets the :class:`Lock`.

        A background task renews the lock at a third of its TTL. The lock is released on every way out of the block,
        also when the body raises or is cancelled. An outage of the server for up to two thirds of the TTL does no harm.

        Args:
            session_id, ttl_ms, owner, wait_ms: as in ``acquire``.
            renew: False: the body refreshes the lock itself.
            on_lost: a plain function, called with the lock by the event loop, as soon as it may belong to another.
            cancel_on_lost: also cancel the task of the body then.

        Raises:
            LockNotAcquiredError: on entering, if another held the lock for ``wait_ms``.
            LockLostError: on leaving, if the lock was lost and the body did not raise; with ``cancel_on_lost``, instead
                of the cancellation. An error of the body goes up unchanged.
            InvalidIdError, InvalidArgumentError: from this call; nothing was sent.

        Example:
            async with locks.hold("session-123", wait_ms=5_000) as lock:
                await state.save_state("session-123", changed, fencing_token=lock.fencing_token)
        """
        self._holds.checked(session_id, ttl_ms, owner, wait_ms)
        return self._holds.new(
            lambda: self.acquire(session_id, ttl_ms=ttl_ms, owner=owner, wait_ms=wait_ms),
            self._backend,
            renew=renew,
            on_lost=on_lost,
            cancel_on_lost=cancel_on_lost,
        )

    async def is_locked(self, session_id: str) -> bool:
        """Whether the session is locked now.

        Raises:
            InvalidIdError: nothing was sent.
        """
        return await self._holder(session_id, self._backend.keys(session_id)) is not None

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """The holder of the session's lock; None if it is not locked.

        Raises:
            InvalidIdError: nothing was sent.
            MalformedLockError: the stored bytes are no lock.
        """
        keys = self._backend.keys(session_id)
        reply = await self._holder(session_id, keys)
        if reply is None:
            return None
        record = decode_record(reply[0], keys.lock.decode())
        return LockInfo(
            owner=record.owner,
            fencing_token=record.fencing_token,
            acquired_at=record.acquired_at,
            expires_in_ms=reply[1] if reply[1] >= 0 else None,
        )

    async def _holder(self, session_id: str, keys: LockKeys) -> Any:
        return await self._requests.run(_HOLDER, session_id, [keys.lock], [])

    @on_own_loop
    async def close(self) -> None:
        """End all renewals and waits, then close the connections unless a Helix shares them. Held locks expire.

        Callers that wait for a lock get StoreClosedError. Safe to call twice.
        """
        await self._holds.stop_renewals()
        await super().close()
        for waiter in self._waiters:
            waiter.resync()
