"""One file: written by .ci/make_sync.py from helix_fast.locks. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helix_fast.locks import manager as _manager

from .base import BlockingStore
from .locking import Hold, Holding, told
from .loop import call, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Unpack

    from helix_fast.locks.schema import LockInfo
    from helix_fast.options import ConnectionOptions


class Lock(Holding):
    """An acquired lock. Made by the managers' ``acquire`` and ``hold``.

    Attributes:
        session_id: the locked session.
        owner: the ``owner`` of ``acquire``.
        ttl_ms: the TTL of the last request, in milliseconds.
    """

    @property
    def session_id(self) -> str:
        """The locked session."""
        return self._async.session_id

    @property
    def owner(self) -> str:
        """The ``owner`` of ``acquire``."""
        return self._async.owner

    @property
    def ttl_ms(self) -> int:
        """The TTL of the last request, in milliseconds."""
        return self._async.ttl_ms

    def refresh(self, ttl_ms: float | None = None) -> bool:
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
        return run(self._async.refresh(ttl_ms))

    def release(self) -> bool:
        """Release the lock.

        Returns:
            True if this call released it; False if it was released before, has expired or is another's.

        Raises:
            StoreConnectionError, StoreResponseError: the outcome is unknown. A repeated call continues the same
                operation, and returns True if either call released the lock.
        """
        return run(self._async.release())


class RedisLockManager(BlockingStore["_manager.RedisLockManager"]):
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
        self._async = _manager.RedisLockManager(
            redis, key_prefix=key_prefix, default_ttl_ms=default_ttl_ms, **connection
        )

    @property
    def default_ttl_ms(self) -> int:
        """Default TTL of ``acquire`` in milliseconds, from 10."""
        return self._async.default_ttl_ms

    def acquire(
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
        return Lock._over_any(run(self._async.acquire(session_id, ttl_ms=ttl_ms, owner=owner, wait_ms=wait_ms)))

    def hold(
        self,
        session_id: str,
        *,
        ttl_ms: float | None = None,
        owner: str | None = None,
        wait_ms: float = 0,
        renew: bool = True,
        on_lost: Callable[[Lock], object] | None = None,
    ) -> Hold[Lock]:
        """Hold a lock for the length of a ``with`` block, which gets the :class:`Lock`.

        A background task renews the lock at a third of its TTL. The lock is released on every way out of the block,
        also when the body raises. An outage of the server for up to two thirds of the TTL does no harm.

        Args:
            session_id, ttl_ms, owner, wait_ms: as in ``acquire``.
            renew: False: the body refreshes the lock itself.
            on_lost: a plain function, called with the lock on the background event loop, where it must be quick, as
                soon as it may belong to another.

        Raises:
            LockNotAcquiredError: on entering, if another held the lock for ``wait_ms``.
            LockLostError: on leaving, if the lock was lost and the body did not raise. An error of the body goes up
                unchanged.
            InvalidIdError, InvalidArgumentError: from this call; nothing was sent.

        Example:
            with locks.hold("session-123", wait_ms=5_000) as lock:
                state.save_state("session-123", changed, fencing_token=lock.fencing_token)
        """
        return Hold._of(
            call(
                lambda: self._async.hold(
                    session_id, ttl_ms=ttl_ms, owner=owner, wait_ms=wait_ms, renew=renew, on_lost=told(on_lost, Lock)
                )
            ),
            Lock,
        )

    def is_locked(self, session_id: str) -> bool:
        """Whether the session is locked now.

        Raises:
            InvalidIdError: nothing was sent.
        """
        return run(self._async.is_locked(session_id))

    def get_holder(self, session_id: str) -> LockInfo | None:
        """The holder of the session's lock; None if it is not locked.

        Raises:
            InvalidIdError: nothing was sent.
            MalformedLockError: the stored bytes are no lock.
        """
        return run(self._async.get_holder(session_id))

    def close(self) -> None:
        """End all renewals and waits, then close the connections unless a Helix shares them. Held locks expire.

        Callers that wait for a lock get StoreClosedError. Safe to call twice.
        """
        run(self._async.close())
