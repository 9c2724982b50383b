"""The subscriptions of a process: one connection per node for all subscribers.

Pub/sub may lose messages, so a hub guarantees only this: after :meth:`Hub.subscribe` has returned, each message that is
published on the channel reaches the subscriber, or its ``resync`` is called because it may have missed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from helix_fast import codec
from helix_fast.errors import (
    HelixError,
    StoreClosedError,
    StoreResponseError,
    StoreTimeoutError,
)
from helix_fast.keys import has_hash_tag

from .channels import Channel, StreamChannel, Subscriber
from .link import Connector, Link

CHANNELS_PER_COMMAND = 256
# Refusals of a node that does not serve the channel's slot, or not yet.
_NOT_SERVED: Final = frozenset({"MOVED", "CLUSTERDOWN", "TRYAGAIN"})


class Hub(Link):
    """Subscriptions of one process on one node.

    Subscribers are held weakly: one that is collected is unsubscribed.

    Args:
        sharded: channels with a hash tag are subscribed by SSUBSCRIBE.
        local: where the channels of streams are entered while they have subscribers.
        on_counted: called when the server has begun to count this process among the subscribers of such a channel.
    """

    purpose = "subscriptions"

    def __init__(
        self,
        connector: Connector,
        target: str,
        *,
        timeout: float = 5.0,
        sharded: bool = False,
        local: dict[bytes, StreamChannel] | None = None,
        on_counted: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(connector, target, timeout=timeout)
        self.sharded = sharded
        self._channels: dict[bytes, Channel] = {}
        self._cutter: codec.ReplyCutter = codec.ReplyCutter()
        self._local: dict[bytes, StreamChannel] = {} if local is None else local
        self._on_counted = on_counted
        self._joining: list[bytes] = []
        self._leaving: set[bytes] = set()
        self._flush_scheduled = False
        self._answered = False
        self._pinged = False
        self._pulse: asyncio.TimerHandle | None = None
        self.on_moved: Callable[[], None] | None = None

    @property
    def channels(self) -> int:
        """Channels subscribed now."""
        return len(self._channels)

    async def subscribe(self, name: bytes, subscriber: Subscriber, *, stream: bool = False) -> None:
        """Subscribe to a channel; returns when the server has confirmed it.

        Args:
            stream: it is a stream's channel: the subscriber takes entries, also those that a writer of this process
                hands over.

        Raises:
            StoreConnectionError: no connection; the subscriber is not subscribed.
            StoreTimeoutError: no confirmation within twice ``timeout``.
        """
        if self.closed:
            raise StoreClosedError(f"the connection to {self.target} is closed")
        loop = asyncio.get_running_loop()
        channel = self._channels.get(name)
        if channel is None:
            confirmed = loop.create_future()
            channel = self._enter(name, StreamChannel(confirmed) if stream else Channel(confirmed))
            self._leaving.discard(name)  # an UNSUBSCRIBE that has not been sent
            self._joining.append(name)
        channel.subscribers.append(weakref.ref(subscriber, _Forget(self, loop, name)))
        self._schedule()
        try:
            done, _ = await asyncio.wait([channel.confirmed], timeout=2 * self.timeout)
            if not done:
                raise StoreTimeoutError(f"{self.target} confirmed no subscription in {2 * self.timeout:g} s")
            for confirmed in done:
                confirmed.result()  # of a channel that was joined anew meanwhile the next one is due: resync tells
        except BaseException:
            self.unsubscribe(name, subscriber)
            raise

    def unsubscribe(self, name: bytes, subscriber: Subscriber) -> None:
        """Unsubscribe from a channel; a subscriber that is not subscribed is ignored."""
        channel = self._channels.get(name)
        if channel is not None:
            with contextlib.suppress(ValueError):
                # In place: thousands of readers of a stream leave in one turn, mostly in the order in which they came.
                channel.subscribers.remove(weakref.ref(subscriber))
            self._keep(name, channel, channel.subscribers)

    def forget(self, name: bytes) -> None:
        """Drop the channel's subscribers that have been collected."""
        channel = self._channels.get(name)
        if channel is not None:
            self._keep(name, channel, [ref for ref in channel.subscribers if ref() is not None])

    def _enter(self, name: bytes, channel: Channel) -> Channel:
        self._channels[name] = channel
        if isinstance(channel, StreamChannel):
            self._local[name] = channel
        return channel

    def _remove(self, name: bytes) -> Channel | None:
        channel = self._channels.pop(name, None)
        if channel is not None and self._local.get(name) is channel:
            del self._local[name]
        return channel

    def _keep(self, name: bytes, channel: Channel, subscribers: list[weakref.ref[Subscriber]]) -> None:
        channel.subscribers = subscribers
        if subscribers:
            return
        self._remove(name)
        if not channel.confirmed.done():
            channel.confirmed.cancel()
        if name in self._joining:
            self._joining.remove(name)
        else:
            self._leaving.add(name)
            self._schedule()

    def _schedule(self) -> None:
        if self.closed:
            return
        if self._transport is None:
            if self._channels:
                self._demand()
        elif not self._flush_scheduled and (self._joining or self._leaving):
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None:
            return
        leaving, self._leaving = self._leaving, set()
        joining, self._joining = self._joining, []
        for sharded in (False, True):
            self._write(b"UNSUBSCRIBE", leaving, sharded=sharded)
            self._write(b"SUBSCRIBE", joining, sharded=sharded)

    def _write(self, command: bytes, channels: Iterable[bytes], *, sharded: bool) -> None:
        # Channels without a hash tag are plain ones on a cluster too: a message on any node reaches all subscribers.
        names = [name for name in channels if (self.sharded and has_hash_tag(name)) is sharded]
        if sharded:
            command = b"S" + command
        # A cluster refuses one SSUBSCRIBE over several slots.
        step = 1 if sharded else CHANNELS_PER_COMMAND
        frames = [codec.frame_command([command, *names[i : i + step]]) for i in range(0, len(names), step)]
        if frames and self._transport is not None:
            self._transport.write(b"".join(frames))

    # Link

    def _opened(self) -> None:
        loop = asyncio.get_running_loop()
        self._cutter.rest()
        self._leaving.clear()
        self._joining = list(self._channels)
        for channel in self._channels.values():
            if channel.confirmed.done():
                channel.confirmed = loop.create_future()
        self._answered, self._pinged = True, False
        self._beat()
        self._schedule()

    def _broken(self, error: HelixError) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None
        self._flush_scheduled = False
        self._joining.clear()
        self._leaving.clear()
        for name, channel in list(self._channels.items()):
            channel.counted = False
            if not channel.confirmed.done() and not self.generation:
                # The server was never reached: opening a reader fails at once.
                channel.confirmed.set_exception(error)
                channel.confirmed.exception()
                self._remove(name)
        if self.closed:
            for channel in self._channels.values():
                if not channel.confirmed.done():
                    channel.confirmed.set_exception(error)
                    channel.confirmed.exception()
        elif self._channels:
            self._demand()
        if self.on_moved is not None and not self.closed:
            self.on_moved()  # the node may be gone, and its channels served by another

    def _beat(self) -> None:
        """Find out by a ping whether a silent connection still stands."""
        self._pulse = None
        if self._transport is None:
            return
        if not self._answered:
            if self._pinged:
                self._abort(StoreTimeoutError(f"{self.target} did not answer for {self.timeout:g} s"))
                return
            self._pinged = True
            self._transport.write(codec.frame_command([b"PING"]))
        self._answered = False
        self._pulse = asyncio.get_running_loop().call_later(self.timeout / 2, self._beat)

    def data_received(self, data: bytes) -> None:
        """Hand out each message that was received, and parse the other replies."""
        self._answered, self._pinged = True, False
        cutter, channels = self._cutter, self._channels
        try:
            cutter.feed(data)
            while (reply := codec.deliver_messages(cutter, channels)) is not None:
                super().data_received(reply)
        except ValueError as error:
            self._abort_foreign(error)

    def _handle(self, reply: Any) -> None:
        if isinstance(reply, StoreResponseError):
            if reply.server_code in _NOT_SERVED and self.on_moved is not None:
                self.on_moved()
            else:
                self._refused(reply)
            return
        if not isinstance(reply, list) or len(reply) != 3:
            return  # the answer to a ping
        kind, name, _count = reply
        if kind == b"subscribe" or kind == b"ssubscribe":
            channel = self._channels.get(name)
            if channel is not None:
                channel.counted = True
                if self._on_counted is not None and isinstance(channel, StreamChannel):
                    self._on_counted()
                if not channel.confirmed.done():
                    channel.confirmed.set_result(None)
                # Also for a late reply to an earlier SUBSCRIBE of this channel, with an UNSUBSCRIBE between them.
                channel.resync()
        elif kind == b"sunsubscribe":
            channel = self._channels.get(name)
            if channel is not None and channel.confirmed.done() and self.on_moved is not None:
                # Not asked for: the slot has moved to another node.
                channel.counted = False
                channel.confirmed = asyncio.get_running_loop().create_future()
                self.on_moved()

    def _refused(self, error: StoreResponseError) -> None:
        """A subscription was refused, for want of rights for example: ``subscribe`` raises it, and may be repeated."""
        for channel in self._channels.values():
            if not channel.confirmed.done():
                channel.confirmed.set_exception(error)
                channel.confirmed.exception()  # retrieved: there may be no waiter left

    # a cluster's slots move, and their channels with them

    def has(self, name: bytes) -> bool:
        """Whether the channel has subscribers on this node."""
        return name in self._channels

    def release(self, name: bytes) -> Channel | None:
        """Give a channel and its subscribers away, to ``adopt`` of another hub."""
        channel = self._remove(name)
        if channel is not None and name in self._joining:
            self._joining.remove(name)
        return channel

    def adopt(self, name: bytes, channel: Channel | None) -> None:
        """Take over a channel that another hub released. Pending ``subscribe`` calls go on; all subscribers resync."""
        if channel is None:
            return
        loop = asyncio.get_running_loop()
        if channel.confirmed.done():
            channel.confirmed = loop.create_future()
        subscribers = [subscriber for ref in channel.subscribers if (subscriber := ref()) is not None]
        if not subscribers:
            return  # all were collected meanwhile
        channel.subscribers = [weakref.ref(subscriber, _Forget(self, loop, name)) for subscriber in subscribers]
        channel.counted = False
        self._enter(name, channel)
        self._joining.append(name)
        self._schedule()

    def rejoin(self, name: bytes) -> None:
        """Ask again for a channel whose subscription was refused or taken away, and not confirmed since."""
        channel = self._channels.get(name)
        if channel is not None and not channel.confirmed.done() and name not in self._joining:
            self._joining.append(name)
            self._schedule()

    async def close(self) -> None:
        """Close the connection and drop every subscription. Safe to call twice."""
        await super().close()
        for name in list(self._channels):
            self._remove(name)


class _Forget:
    """Called when a subscriber has been collected, in any thread. Does not keep the hub alive."""

    __slots__ = ("hub", "loop", "name")

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, name: bytes) -> None:
        self.hub = weakref.ref(hub)
        self.loop = weakref.ref(loop)
        self.name = name

    def __call__(self, _ref: weakref.ref[Subscriber]) -> None:
        hub, loop = self.hub(), self.loop()
        if hub is None or loop is None or loop.is_closed() or hub.closed:
            return
        forget: Callable[[bytes], None] = hub.forget
        try:
            loop.call_soon_threadsafe(forget, self.name)
        except RuntimeError:
            return  # the loop was closed meanwhile
