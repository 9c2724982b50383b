"""Locks on Redis or Valkey: which script to run and what its answer means. Deadlines and renewal are in locking.py."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis, RedisCluster

from helix_fast.arguments import to_json
from helix_fast.errors import HelixError, StoreClosedError, StoreResponseError, StoreTimeoutError
from helix_fast.keys import LockKeys
from helix_fast.lua import Argument, script
from helix_fast.store import ConnectionOptions, RedisStore
from helix_fast.transport.retry import Retry
from helix_fast.transport.topology import Topology

from .hold import LockHolding
from .lock import Lock, LockBackend, monotonic
from .schema import LockInfo, decode_record

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Above a year, so that a counter outlives its use; server time takes over where it does not.
FENCE_TTL_SECONDS: Final = 400 * 86_400
# A call is remembered for longer than it, or a copy of it in a dead connection's buffers, can go on.
FINISHED_MS: Final = 60_000
# A waiter looks by itself this often, should a notification be lost; one not heard of for three times as long is dead.
POLL_SECONDS: Final = 1.0
# Where the server gives no notifications (an ACL without channels), looking is all there is.
BLIND_POLL_SECONDS: Final = 0.1


class RedisLockManager(LockHolding, RedisStore, LockBackend):
    """Locks over sessions, with fencing tokens that only ever grow.

    Args:
        redis: a URL or a ``redis.asyncio`` client; see RedisStore for this and for what is not named here.
        key_prefix: put before every key: ``{key_prefix}lock:{session_id}``.
        default_ttl_ms: TTL of a lock in milliseconds, from 10, where ``acquire`` is given none.
        wait_replicas: how many replicas must have a lock, or its refresh, before it counts; see ``connect``.

    Raises:
        InvalidArgumentError, InvalidUrlError: settings that make no sense; nothing is connected yet.

    Source: "RedisLockManager" on the reference page; what is stored is its JSON ``{owner, fencingToken, acquiredAt}``.
    """

    clock = staticmethod(monotonic)

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "",
        default_ttl_ms: float = 30_000,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        LockHolding.__init__(self, default_ttl_ms=default_ttl_ms)
        RedisStore.__init__(self, redis, key_prefix=key_prefix, **connection)
        self._patience = self._topology.retry_timeout
        self._waiters: set[_Waiter] = set()
        self._remember_ms = max(FINISHED_MS, int(self._patience * 2_000))

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """Acquire the lock of a session, or None where another has it.

        A reply that is lost costs nothing: the same call, repeated, finds that it has the lock. Waiters are served in
        the order in which they came; a caller that does not wait may pass them where the lock is free.

        Args:
            session_id: what to lock.
            ttl_ms: milliseconds after which the lock is free unless it is refreshed, from 10; default
                ``default_ttl_ms``.
            owner: who holds it, up to 256 bytes; default: host, process and manager. It need not be unique.
            wait_ms: milliseconds to wait for the lock; 0 asks once, infinity waits for ever.

        Raises:
            InvalidIdError, InvalidArgumentError: nothing was sent.
            NotReplicatedError: too few of ``wait_replicas`` had the lock in time; it was given back.
            StoreConnectionError, StoreResponseError: whether the lock was taken is not known; it is given back where
                the server can be reached, and expires otherwise.
        """
        ttl, name, wait = self._checked(session_id, ttl_ms, owner, wait_ms)
        keys = _keys(self.key_prefix, session_id)
        operation = os.urandom(8).hex()
        try:
            return await self._acquire(session_id, keys, operation, ttl, name, wait)
        except BaseException:
            # Wherever it ended, a lock that nobody was handed must not stay: also where it was cancelled with the reply
            # at hand.
            self._drop(session_id, keys, b"", operation)
            raise

    async def _acquire(
        self, session_id: str, keys: LockKeys, operation: str, ttl: int, name: str, wait: float
    ) -> Lock | None:
        give_up = self.clock() + wait
        publish = self._topology.publish or await self.publish_word()
        patience_ms = int(POLL_SECONDS * 3000) if wait else 0
        waiter: _Waiter | None = None
        try:
            while True:
                sent, reply = await self._timed(
                    "lock_acquire", session_id,
                    [keys.lock, keys.fence, keys.operation(operation), keys.queue, keys.alive],
                    [operation, to_json(name), ttl, patience_ms, FENCE_TTL_SECONDS,
                     publish, keys.released],
                    self._patience,
                )  # fmt: skip
                if reply[0] == b"held":
                    record: bytes = reply[1]
                    token = decode_record(record, keys.lock.decode()).fencing_token
                    lock = Lock(self, session_id, name, token, ttl, sent, record=record, operation=operation)
                    if not lock.held:
                        raise StoreTimeoutError("the reply took longer than the lock's TTL")
                    return lock
                left = give_up - self.clock()
                if left <= 0 or reply[0] == b"over":
                    if wait:
                        self._drop(session_id, keys, b"", operation)
                    return None
                if waiter is None:
                    waiter = _Waiter(self._topology, session_id, keys.released, operation)
                    self._waiters.add(waiter)
                await waiter.wait(left, expires_ms=reply[1], place=reply[2])
        finally:
            if waiter is not None:
                self._waiters.discard(waiter)
                await waiter.close()

    async def is_locked(self, session_id: str) -> bool:
        """Whether anybody holds the session's lock now.

        Raises:
            InvalidIdError: nothing was sent.
        """
        keys = _keys(self.key_prefix, session_id)
        _, reply = await self._timed("lock_holder", session_id, [keys.lock], [], self._patience)
        return reply is not None

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """Who holds the session's lock now, or None.

        Raises:
            InvalidIdError: nothing was sent.
            MalformedLockError: what is stored is no lock.
        """
        keys = _keys(self.key_prefix, session_id)
        _, reply = await self._timed("lock_holder", session_id, [keys.lock], [], self._patience)
        if reply is None:
            return None
        record = decode_record(reply[0], keys.lock.decode())
        return LockInfo(
            owner=record.owner,
            fencing_token=record.fencing_token,
            acquired_at=record.acquired_at,
            expires_in_ms=reply[1] if reply[1] >= 0 else None,
        )

    async def close(self) -> None:
        """End all renewals and waits, then close the connections where no Helix shares them. Held locks expire.

        Whoever waits for a lock gets StoreClosedError. Safe to call twice.
        """
        await self._stop_renewals()
        await super().close()
        for waiter in self._waiters:
            waiter.resync()

    # what a lock needs

    def valid_for(self, ttl_ms: int) -> float:
        """Less than the TTL: clocks run apart (by far less than 1 %), and servers expire keys by whole milliseconds."""
        return ttl_ms * 0.99e-3 - 0.002

    async def refresh_lock(self, lock: Lock, ttl_ms: int, serial: int, *, patience: float | None) -> tuple[float, int]:
        """See LockBackend."""
        keys = _keys(self.key_prefix, lock.session_id)
        return await self._timed(
            "lock_refresh", lock.session_id, [keys.lock, keys.operation(lock.operation)],
            [lock.record, serial, ttl_ms], patience,
        )  # fmt: skip

    async def release_lock(self, lock: Lock, *, patience: float) -> bool:
        """See LockBackend."""
        keys = _keys(self.key_prefix, lock.session_id)
        _, reply = await self._timed(
            "lock_release", lock.session_id, *self._release_arguments(keys, lock.record, lock.operation),
            min(patience, self._patience),
        )  # fmt: skip
        return bool(reply)

    def drop_lock(self, lock: Lock) -> None:
        """See LockBackend."""
        self._drop(lock.session_id, _keys(self.key_prefix, lock.session_id), lock.record, lock.operation)

    def _backend(self) -> LockBackend:
        return self

    def _drop(self, session_id: str, keys: LockKeys, record: bytes, operation: str) -> None:
        """Give back, without waiting, what an operation has or may have. Where this is lost too, it expires."""
        if self._closed:
            return
        try:
            frame = script("locks", "lock_release").frame(
                *self._release_arguments(keys, record, operation), by_text=True
            )
            self._topology.send(session_id, frame)
        except HelixError:
            return

    def _release_arguments(
        self, keys: LockKeys, record: bytes, operation: str
    ) -> tuple[Sequence[bytes], Sequence[Argument]]:
        return (
            [keys.lock, keys.operation(operation), keys.queue, keys.alive],
            [record, operation, self._remember_ms, self._topology.publish, keys.released],
        )

    async def _timed(
        self, name: str, tag: str, keys: Sequence[bytes], args: Sequence[Argument], patience: float | None
    ) -> tuple[float, Any]:
        """Run a script, and tell when the attempt that succeeded was sent. ``patience`` None: one attempt."""
        wanted = script("locks", name)
        frame = wanted.frame(keys, args)
        failure: HelixError | None = None
        if self._topology.observer is None and not self._closed:
            sent = self.clock()
            try:
                return sent, await self._topology.call(tag, frame)  # nearly always all that it takes
            except HelixError as error:
                failure = error

        async def attempt() -> tuple[float, Any]:
            nonlocal failure
            error, failure = failure, None
            try:
                if error is not None:
                    raise error
                if self._closed:
                    raise StoreClosedError("the store is closed")
                sent = self.clock()
                return sent, await self._topology.call(tag, frame)
            except StoreResponseError as refused:
                if refused.server_code != "NOSCRIPT":
                    raise
            sent = self.clock()
            return sent, await self._topology.call(tag, wanted.frame(keys, args, by_text=True))

        request = (
            attempt() if patience is None else Retry(patience).run(attempt, lambda: self._topology.ever_connected(tag))
        )
        return await self.observed(request, tag, "EVALSHA", name)


@lru_cache(maxsize=64)
def _keys(prefix: str, session_id: str) -> LockKeys:
    return LockKeys(prefix, session_id)


class _Waiter:
    """Hears on a lock's channel that it is its turn. The hub's listener; held by the acquire that waits."""

    def __init__(self, topology: Topology, tag: str, channel: bytes, operation: str) -> None:
        self._hub = topology.hub(tag)
        self._channel = channel
        self._operation = operation.encode()
        self._turn = asyncio.Event()
        self._subscription = asyncio.get_running_loop().create_task(
            self._hub.subscribe(channel, self), name=f"hear of lock {tag}"
        )
        # What happened before the server confirmed was not heard: look once more then.
        self._subscription.add_done_callback(lambda _: self._turn.set())

    def pushed(self, payload: bytes) -> None:
        """The lock was released; the payload names the waiter whose turn it is."""
        if payload == self._operation:
            self._turn.set()

    def resync(self) -> None:
        """Something may have been missed."""
        self._turn.set()

    async def wait(self, left: float, *, expires_ms: int, place: int) -> None:
        """Until it may be our turn, ``left`` seconds at the most."""
        deaf = self._subscription.done() and (
            self._subscription.cancelled() or self._subscription.exception() is not None
        )
        poll = BLIND_POLL_SECONDS if deaf else POLL_SECONDS
        # Jitter, so that the waiters of a lock do not come all at once.
        delay = min(left, poll * random.uniform(0.8, 1.2))  # noqa: S311
        if place == 0 and expires_ms > 0:
            # A holder that died releases nothing: the first in the queue is there when its lock expires.
            delay = min(delay, expires_ms / 1000 + 0.001)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(delay, self._turn.set)
        try:
            await self._turn.wait()
        finally:
            timer.cancel()
        self._turn.clear()

    async def close(self) -> None:
        """Hear no more."""
        self._subscription.cancel()
        try:
            await asyncio.gather(self._subscription, return_exceptions=True)
        finally:
            self._hub.unsubscribe(self._channel, self)
