"""A pub/sub channel and its subscribers in this process."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol

from helix_fast import codec


class Subscriber(Protocol):
    """A subscriber of a channel, by identity.

    Both methods are called from the event loop, and must not block, raise, or unsubscribe from the channel.
    """

    def pushed(self, message: Any, /) -> None:
        """One message: its bytes, or what a StreamChannel makes of them."""

    def resync(self) -> None:
        """Messages may have been missed."""


class Channel:
    """A channel with subscribers in this process, whether or not the server has confirmed the subscription yet.

    Attributes:
        subscribers: the subscribers, by weak references.
        confirmed: done when the server has confirmed the subscription.
        counted: the server counts this process among the channel's subscribers.
    """

    __slots__ = ("confirmed", "counted", "subscribers")

    def __init__(self, confirmed: asyncio.Future[None]) -> None:
        self.subscribers: list[weakref.ref[Subscriber]] = []
        self.confirmed: asyncio.Future[None] = confirmed
        self.counted: bool = False

    def receive(self, payload: bytes) -> None:
        """Deliver a message from the server."""
        self.push(payload)

    def push(self, message: Any) -> None:
        """Give a message to every subscriber."""
        for ref in self.subscribers:
            subscriber = ref()
            if subscriber is not None:
                subscriber.pushed(message)

    def resync(self) -> None:
        """Notify every subscriber that messages may be missing."""
        for ref in self.subscribers:
            subscriber = ref()
            if subscriber is not None:
                subscriber.resync()


class StreamChannel(Channel):
    """The channel of a stream. Its subscribers get ``StreamEntry`` objects; None has them read the log.

    A writer of this process hands its entries over (``push_entry``); those of other processes are parsed once for all
    subscribers.
    """

    __slots__ = ()

    def receive(self, payload: bytes) -> None:
        """Deliver a message from the server."""
        codec.push_payload(self.subscribers, payload)

    def push_entry(self, entry: codec.StreamEntry) -> None:
        """Give a stored entry to every subscriber."""
        codec.push_entry(self.subscribers, entry)
