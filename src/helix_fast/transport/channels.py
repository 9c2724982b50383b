"""A pub/sub channel and its subscribers in this process."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol

from helix_fast import codec


class Listener(Protocol):
    """A subscriber of a channel. Both methods are called from the event loop, must not block and must not raise."""

    def pushed(self, message: Any, /) -> None:
        """One message: its bytes, or what a StreamChannel makes of them."""

    def resync(self) -> None:
        """Messages may have been missed."""


class Channel:
    """A channel with subscribers in this process, whether or not the server has confirmed the subscription yet.

    Attributes:
        listeners: the subscribers, by weak references.
        confirmed: done when the server has confirmed the subscription.
        counted: the server counts this process among the channel's subscribers.
    """

    __slots__ = ("confirmed", "counted", "listeners")

    def __init__(self, confirmed: asyncio.Future[None]) -> None:
        self.listeners: list[weakref.ref[Listener]] = []
        self.confirmed = confirmed
        self.counted = False

    def receive(self, payload: bytes) -> None:
        """Deliver a message from the server."""
        self.push(payload)

    def push(self, message: Any) -> None:
        """Give a message to every subscriber."""
        for ref in self.listeners:
            listener = ref()
            if listener is not None:
                listener.pushed(message)

    def resync(self) -> None:
        """Tell every subscriber that it may have missed something."""
        for ref in self.listeners:
            listener = ref()
            if listener is not None:
                listener.resync()


class StreamChannel(Channel):
    """The channel of a stream. Its subscribers get ``StreamEntry`` objects, or None: then they are to read the log.

    A writer of this process hands its entries over (``push_entry``); those of other processes are parsed once for all
    subscribers.
    """

    __slots__ = ()

    def receive(self, payload: bytes) -> None:
        """Deliver a message from the server."""
        try:
            position = codec.parse_push(payload)
        except ValueError:
            self.push(None)  # the word to catch up, or bytes that no writer of ours publishes
        else:
            self.push_entry(codec.StreamEntry(*position))

    def push_entry(self, entry: codec.StreamEntry) -> None:
        """Give a stored entry to every subscriber."""
        entry.readers = len(self.listeners)
        self.push(entry)
