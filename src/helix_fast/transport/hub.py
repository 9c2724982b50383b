"""Push delivery: one subscription connection per node for every listener of the process.

Pub/sub may lose messages, so a hub promises only this: after :meth:`Hub.subscribe` has returned, a message published
on the channel reaches the listener, or the listener's ``resync`` is called because something may have been missed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from helix_fast import codec
from helix_fast.errors import HelixError, StoreClosedError, StoreResponseError, StoreTimeoutError

from .link import Connector, Link

if TYPE_CHECKING:
    from .presence import Audience

CHANNELS_PER_COMMAND = 256
# A node that refuses a subscription thus does not serve its slot, or not yet.
_ELSEWHERE: Final = frozenset({"MOVED", "CLUSTERDOWN", "TRYAGAIN"})


class Listener(Protocol):
    """Who hears a channel. Both methods are called from the event loop, must not block and must not raise."""

    def pushed(self, payload: bytes) -> None:
        """One message."""

    def resync(self) -> None:
        """Messages may have been missed."""


class Channel:
    """A channel that listeners of this process hear, or wait to hear.

    Attributes:
        heard: the server counts this process among the channel's subscribers.
    """

    __slots__ = ("confirmed", "heard", "listeners")

    def __init__(self, confirmed: asyncio.Future[None]) -> None:
        self.listeners: list[weakref.ref[Listener]] = []
        self.confirmed = confirmed
        self.heard = False

    def push(self, payload: bytes) -> None:
        """Hand a message to its listeners."""
        for ref in self.listeners:
            listener = ref()
            if listener is not None:
                listener.pushed(payload)

    def resync(self) -> None:
        """Tell its listeners that they may have missed something."""
        for ref in self.listeners:
            listener = ref()
            if listener is not None:
                listener.resync()


class Hub(Link):
    """Subscriptions of one process on one node.

    Listeners are held weakly: one that is collected is unsubscribed. ``sharded`` takes SSUBSCRIBE for SUBSCRIBE.
    ``audience`` is told which channels are heard.
    """

    purpose = "subscriptions"

    def __init__(
        self,
        connector: Connector,
        target: str,
        *,
        timeout: float = 5.0,
        sharded: bool = False,
        audience: Audience | None = None,
    ) -> None:
        super().__init__(connector, target, timeout=timeout)
        self.sharded = sharded
        self._channels: dict[bytes, Channel] = {}
        self._audience = audience
        self._joining: list[bytes] = []
        self._leaving: set[bytes] = set()
        self._flush_scheduled = False
        self._heard = False
        self._pinged = False
        self._pulse: asyncio.TimerHandle | None = None
        self.on_moved: Callable[[], None] | None = None

    @property
    def channels(self) -> int:
        """Channels subscribed now."""
        return len(self._channels)

    async def subscribe(self, channel: bytes, listener: Listener) -> None:
        """Hear a channel; returns when the server has confirmed it.

        Raises:
            StoreConnectionError: no connection; the listener is not subscribed.
            StoreTimeoutError: no confirmation within twice ``timeout``.
        """
        if self.closed:
            raise StoreClosedError(f"the connection to {self.target} is closed")
        loop = asyncio.get_running_loop()
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._enter(channel, Channel(loop.create_future()))
            self._leaving.discard(channel)  # where it stands there, its UNSUBSCRIBE has not been sent
            self._joining.append(channel)
        entry.listeners.append(weakref.ref(listener, _Forget(self, loop, channel)))
        self._schedule()
        try:
            done, _ = await asyncio.wait([entry.confirmed], timeout=2 * self.timeout)
            if not done:
                raise StoreTimeoutError(f"{self.target} confirmed no subscription in {2 * self.timeout:g} s")
            entry.confirmed.result()
        except BaseException:
            self.unsubscribe(channel, listener)
            raise

    def unsubscribe(self, channel: bytes, listener: Listener) -> None:
        """Stop hearing a channel; a listener that does not hear it is ignored."""
        entry = self._channels.get(channel)
        if entry is not None:
            self._keep(channel, entry, [ref for ref in entry.listeners if ref() is not listener])

    def forget(self, channel: bytes) -> None:
        """Drop the channel's listeners that have been collected."""
        entry = self._channels.get(channel)
        if entry is not None:
            self._keep(channel, entry, [ref for ref in entry.listeners if ref() is not None])

    def _enter(self, channel: bytes, entry: Channel) -> Channel:
        self._channels[channel] = entry
        if self._audience is not None and b"{" in channel:  # those without a hash tag are no stream's
            self._audience.here[channel] = entry
        return entry

    def _remove(self, channel: bytes) -> Channel | None:
        entry = self._channels.pop(channel, None)
        if entry is not None and self._audience is not None and self._audience.here.get(channel) is entry:
            del self._audience.here[channel]
        return entry

    def _keep(self, channel: bytes, entry: Channel, listeners: list[weakref.ref[Listener]]) -> None:
        entry.listeners = listeners
        if listeners:
            return
        self._remove(channel)
        if not entry.confirmed.done():
            entry.confirmed.cancel()
        if channel in self._joining:
            self._joining.remove(channel)
        else:
            self._leaving.add(channel)
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
        # Channels without a hash tag are plain ones on a cluster too: whatever node they are published on, all hear it.
        names = [name for name in channels if (self.sharded and b"{" in name) is sharded]
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
        self._leaving.clear()
        self._joining = list(self._channels)
        for entry in self._channels.values():
            if entry.confirmed.done():
                entry.confirmed = loop.create_future()
        self._heard, self._pinged = True, False
        self._beat()
        self._schedule()

    def _broken(self, error: HelixError) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None
        self._flush_scheduled = False
        self._joining.clear()
        self._leaving.clear()
        for channel, entry in list(self._channels.items()):
            entry.heard = False
            if not entry.confirmed.done() and not self.generation:
                # Never reached: whoever opens a reader is told at once.
                entry.confirmed.set_exception(error)
                entry.confirmed.exception()
                self._remove(channel)
        if self.closed:
            for entry in self._channels.values():
                if not entry.confirmed.done():
                    entry.confirmed.set_exception(error)
                    entry.confirmed.exception()
        elif self._channels:
            self._demand()
        if self.on_moved is not None and not self.closed:
            self.on_moved()  # the node may be gone, and its channels live elsewhere

    def _beat(self) -> None:
        """A connection that was cut silently shows by a ping that is not answered."""
        self._pulse = None
        if self._transport is None:
            return
        if not self._heard:
            if self._pinged:
                self._abort(StoreTimeoutError(f"{self.target} did not answer for {self.timeout:g} s"))
                return
            self._pinged = True
            self._transport.write(codec.frame_command([b"PING"]))
        self._heard = False
        self._pulse = asyncio.get_running_loop().call_later(self.timeout / 2, self._beat)

    def data_received(self, data: bytes) -> None:
        """Parse what came and hand out each message."""
        self._heard, self._pinged = True, False
        super().data_received(data)

    def _handle(self, reply: Any) -> None:
        if isinstance(reply, StoreResponseError):
            if reply.server_code in _ELSEWHERE and self.on_moved is not None:
                self.on_moved()
            else:
                self._refused(reply)
            return
        if not isinstance(reply, list) or len(reply) != 3:
            return  # the answer to a ping
        kind, channel, payload = reply
        if kind == b"message" or kind == b"smessage":
            entry = self._channels.get(channel)
            if entry is not None:
                entry.push(payload)
        elif kind == b"subscribe" or kind == b"ssubscribe":
            entry = self._channels.get(channel)
            if entry is not None:
                entry.heard = True
                if self._audience is not None:
                    self._audience.changes += 1
                if not entry.confirmed.done():
                    entry.confirmed.set_result(None)
                # Also for a late answer to an earlier SUBSCRIBE of this channel: an UNSUBSCRIBE stood between them.
                entry.resync()
        elif kind == b"sunsubscribe":
            entry = self._channels.get(channel)
            if entry is not None and entry.confirmed.done() and self.on_moved is not None:
                # Not asked for: the slot has moved to another node.
                entry.heard = False
                entry.confirmed = asyncio.get_running_loop().create_future()
                self.on_moved()

    def _refused(self, error: StoreResponseError) -> None:
        """A subscription was refused, for want of rights for example: whoever waits is told, and may try again."""
        for entry in self._channels.values():
            if not entry.confirmed.done():
                entry.confirmed.set_exception(error)
                entry.confirmed.exception()  # retrieved: there may be nobody left who waits

    # a cluster's slots move, and their channels with them

    def has(self, channel: bytes) -> bool:
        """Whether anyone hears the channel here."""
        return channel in self._channels

    def release(self, channel: bytes) -> Channel | None:
        """Give a channel and its listeners away, to ``adopt`` of another hub."""
        entry = self._remove(channel)
        if entry is not None and channel in self._joining:
            self._joining.remove(channel)
        return entry

    def adopt(self, channel: bytes, entry: Channel | None) -> None:
        """Take over what another hub released. Who waits for the subscription goes on waiting; the others resync."""
        if entry is None:
            return
        loop = asyncio.get_running_loop()
        if entry.confirmed.done():
            entry.confirmed = loop.create_future()
        listeners = [listener for ref in entry.listeners if (listener := ref()) is not None]
        if not listeners:
            return  # collected meanwhile
        entry.listeners = [weakref.ref(listener, _Forget(self, loop, channel)) for listener in listeners]
        entry.heard = False
        self._enter(channel, entry)
        self._joining.append(channel)
        self._schedule()

    def rejoin(self, channel: bytes) -> None:
        """Ask again for a channel whose subscription was refused or taken away, and not confirmed since."""
        entry = self._channels.get(channel)
        if entry is not None and not entry.confirmed.done() and channel not in self._joining:
            self._joining.append(channel)
            self._schedule()

    async def close(self) -> None:
        """Close the connection and drop every subscription. Safe to call twice."""
        await super().close()
        for channel in list(self._channels):
            self._remove(channel)


class _Forget:
    """Called when a listener has been collected, in whatever thread that happened. Does not keep the hub alive."""

    __slots__ = ("channel", "hub", "loop")

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, channel: bytes) -> None:
        self.hub = weakref.ref(hub)
        self.loop = weakref.ref(loop)
        self.channel = channel

    def __call__(self, _ref: weakref.ref[Listener]) -> None:
        hub, loop = self.hub(), self.loop()
        if hub is None or loop is None or loop.is_closed() or hub.closed:
            return
        forget: Callable[[bytes], None] = hub.forget
        try:
            loop.call_soon_threadsafe(forget, self.channel)
        except RuntimeError:
            return  # the loop was closed meanwhile
