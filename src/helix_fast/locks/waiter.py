"""Waiter: wakes a caller of ``acquire`` when it may be its turn, by pushes of the lock's channel and by polling."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from helix_fast.transport.topology import Topology

# Seconds between two polls of the lock, in case a push was lost. A waiter that has not polled for three times as long
# loses its place in the queue.
POLL_SECONDS: Final = 1.0
# The same without pushes (an ACL without channels).
BLIND_POLL_SECONDS: Final = 0.1


class Waiter:
    """A subscription to a lock's channel, for one waiting ``acquire``.

    Args:
        topology: the connections.
        tag: the locked session.
        channel: the lock's.
        operation: id of the ``acquire``, which names it in the queue.
    """

    def __init__(self, topology: Topology, tag: str, channel: bytes, operation: str) -> None:
        self._hub = topology.hub(tag)
        self._channel = channel
        self._operation = operation.encode()
        self._turn = asyncio.Event()
        self._subscription = asyncio.get_running_loop().create_task(
            self._hub.subscribe(channel, self), name=f"subscribe to lock {tag}"
        )
        # A push from before the confirmation was missed: poll the lock once more then.
        self._subscription.add_done_callback(lambda _: self._turn.set())

    def pushed(self, payload: bytes) -> None:
        """The lock was released; the payload is the operation whose turn it is."""
        if payload == self._operation:
            self._turn.set()

    def resync(self) -> None:
        """Pushes may have been missed."""
        self._turn.set()

    async def wait(self, left: float, *, expires_ms: int, place: int) -> None:
        """Wait until it may be our turn.

        Args:
            left: seconds at most.
            expires_ms: milliseconds until the lock expires; 0 or less: it is free, or never expires.
            place: in the queue, from 0.
        """
        blind = self._subscription.done() and (
            self._subscription.cancelled() or self._subscription.exception() is not None
        )
        poll = BLIND_POLL_SECONDS if blind else POLL_SECONDS
        # jitter, so that the waiters of a lock do not poll all at once
        delay = min(left, poll * random.uniform(0.8, 1.2))  # noqa: S311
        if place == 0 and expires_ms > 0:
            # A holder that died releases nothing: the first in the queue polls when the lock expires.
            delay = min(delay, expires_ms / 1000 + 0.001)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(delay, self._turn.set)
        try:
            await self._turn.wait()
        finally:
            timer.cancel()
        self._turn.clear()

    async def close(self) -> None:
        """Unsubscribe."""
        self._subscription.cancel()
        try:
            await asyncio.gather(self._subscription, return_exceptions=True)
        finally:
            self._hub.unsubscribe(self._channel, self)
