"""Topology: the interface by which stores reach their servers, and its simplest implementation, a single server.

Stores name the id whose keys they touch, never a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from helix_fast.errors import HelixError, StoreClosedError, StoreResponseError

from .binding import LoopBinding, cancel
from .channels import Subscriber
from .hub import Hub
from .lane import Frame, Lane, OnReply
from .link import Connector, Link
from .observer import Observable, Observer
from .presence import Presence
from .sentinel import SentinelWatcher

_WATCH_SECONDS: Final = 1.0  # between two polls of a Sentinel


class Subscriptions(Protocol):
    """The subscriptions of the process; Hub and ClusterHub implement it."""

    async def subscribe(self, name: bytes, subscriber: Subscriber, *, stream: bool = False) -> None:
        """Subscribe to a channel; returns when the server has confirmed it. With ``stream`` it is a StreamChannel."""

    def unsubscribe(self, name: bytes, subscriber: Subscriber) -> None:
        """Unsubscribe from a channel."""


class Topology(Protocol):
    """The servers behind a store."""

    clustered: bool
    """Whether keys are spread over slots: a script gets only keys of one slot."""
    publish: bytes
    """PUBLISH or, where pub/sub is sharded, SPUBLISH; empty until ``ready`` has found out."""
    retry_timeout: float
    """Seconds for which an operation is retried after a transient fault."""
    observer: Observer | None
    """The telemetry hook, if there is one."""
    presence: Presence
    """The subscribers of the channels on which the stores publish."""
    binding: LoopBinding
    """The event loop that the connections belong to."""

    @property
    def requests(self) -> int:
        """Requests sent so far, repetitions and redirected ones included."""

    async def ready(self) -> None:
        """Find out what must be known of the servers before the first request."""

    def send(
        self,
        tag: str,
        frame: Frame,
        on_reply: OnReply | None = None,
        *,
        follow: bool = True,
        unparsed: bool = False,
    ) -> None:
        """Send a request about the keys tagged ``tag``; ``on_reply`` gets the reply or the error.

        Without ``follow`` a request that meets a node which has lost its slot is not sent to the slot's new node, but
        answered with TRYAGAIN: after a failover the new one may know less, and the caller must inspect it first.
        ``unparsed`` as in ``Lane.send``.
        """

    async def call(self, tag: str, frame: Frame) -> Any:
        """Send a request about the keys tagged ``tag`` and wait for the reply."""

    def lane_for(self, tag: str) -> Lane | None:
        """The lane that serves all requests about ``tag`` until it is closed; None where ``send`` must route each."""

    def generation(self, tag: str) -> int:
        """Number of the connection that the next request about ``tag`` uses: it grows as soon as one is lost."""

    def ever_connected(self, tag: str) -> bool:
        """Whether that server was ever reached."""

    def server(self, tag: str) -> str:
        """Name of the server that has the keys tagged ``tag``: host and port or socket path, never a credential."""

    def hub(self, tag: str) -> Subscriptions:
        """The subscriptions on the server of ``tag``."""

    def watch(self, method: Callable[[], None]) -> None:
        """Call a bound method, which is held weakly, after each connection that is made."""

    async def close(self) -> None:
        """Close all connections."""

    def abandon(self) -> None:
        """Drop all connections from outside of their event loop."""


class Standalone(Observable):
    """One server, or the primary that a Sentinel names: the connector asks it again for each connection.

    Its ``lane`` serves all requests.
    """

    clustered = False
    publish = b"PUBLISH"

    def __init__(
        self,
        connector: Connector,
        target: str,
        *,
        timeout: float = 5.0,
        retry_timeout: float = 10.0,
        wait_replicas: int = 0,
        watch: SentinelWatcher | None = None,
    ) -> None:
        self.retry_timeout = retry_timeout
        self.binding: LoopBinding = LoopBinding(self._renew, self.abandon)
        self._watch = watch
        self._make_lane: Callable[[], Lane] = lambda: Lane(
            connector, target, timeout=timeout, wait_replicas=wait_replicas
        )
        self._make_hub: Callable[[], Hub] = lambda: Hub(
            connector, target, timeout=timeout, local=self.presence.local, on_counted=self.presence.counted
        )
        self._make_links()

    def _make_links(self) -> None:
        self._watching: asyncio.Task[None] | None = None
        self.lane: Lane = self._make_lane()
        self.lane.on_readonly = self._readonly
        self.lane.on_opened = self._lane_opened
        self.presence: Presence = Presence(self.send, self.server)
        self._hub: Hub | None = None

    def _renew(self) -> None:
        """Make lane and hub anew, in place, since the stores keep this object. What ran on their loop has ended."""
        closed, generation = self.lane.closed, self.lane.generation
        self._discard()
        if self._watch is not None:
            self._watch.discard(forked=False)
        self._make_links()
        self.lane.closed = closed
        # another number: a stream that was opened over the connection before must be inspected
        self.lane.generation = generation
        self.lane.next_generation = generation + 1

    def _discard(self, error: HelixError | None = None) -> None:
        for link in (self.lane, self._hub):
            if link is not None:
                link.discard(error, forked=self.binding.forked)

    def _lane_opened(self, link: Link) -> None:
        self.opened(link)
        if self._watch is not None and self._watching is None:
            watching = self._watch_sentinel(self._watch)
            self._watching = asyncio.get_running_loop().create_task(watching, name=f"watch {self.lane.target}")

    async def _watch_sentinel(self, watch: SentinelWatcher) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.lane.connected and await watch.moved():
                self._leave(f"{self.lane.target} was replaced")

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self.lane.requests

    async def ready(self) -> None:
        """Return at once: a single server needs no map."""

    def send(
        self,
        tag: str,
        frame: Frame,
        on_reply: OnReply | None = None,
        *,
        follow: bool = True,
        unparsed: bool = False,
    ) -> None:
        """Send a request on the lane; ``tag`` and ``follow`` make no difference."""
        self.binding.check()
        self.lane.send(frame, on_reply, unparsed=unparsed)

    async def call(self, tag: str, frame: Frame) -> Any:
        """Send a request on the lane and wait for the reply."""
        self.binding.check()
        try:
            return await self.lane.call(frame)
        except StoreResponseError as error:
            if error.server_code in {"MOVED", "CROSSSLOT"}:
                hint = "it is a node of a cluster: use redis+cluster:// or a RedisCluster client"
                raise StoreResponseError(str(error), hint=hint) from error
            raise

    def _readonly(self) -> None:
        """The primary became a replica: a Sentinel, or a name server, directs the next connection to the new one."""
        self._leave(f"{self.lane.target} is read-only")

    def _leave(self, reason: str) -> None:
        for link in (self.lane, self._hub):
            if link is not None:
                # On the next turn of the loop: replies that arrived together with this one are delivered first.
                asyncio.get_running_loop().call_soon(link.give_up, reason)

    def lane_for(self, tag: str) -> Lane:
        """The lane."""
        return self.lane

    def generation(self, tag: str) -> int:
        """Number of the connection that the next request uses."""
        return self.lane.next_generation

    def ever_connected(self, tag: str) -> bool:
        """Whether the server was ever reached."""
        return self.lane.generation > 0

    def server(self, tag: str) -> str:
        """The server's name."""
        return self.lane.target

    def hub(self, tag: str) -> Hub:
        """The process's subscriptions."""
        self.binding.check()
        if self.lane.closed:
            raise StoreClosedError("the store is closed")
        if self._hub is None:
            self._hub = self._make_hub()
            self._hub.on_opened = self.opened
        return self._hub

    async def close(self) -> None:
        """Close lane and hub."""
        # from the last, and each of them also where one before it is cancelled
        async with contextlib.AsyncExitStack() as stack:
            if self._hub is not None:
                stack.push_async_callback(self._hub.close)
            stack.push_async_callback(self.lane.close)
            stack.push_async_callback(self.presence.close)
            if self._watch is not None:
                stack.push_async_callback(self._watch.close)
            await cancel(self._watching)

    def abandon(self) -> None:
        """Drop lane and hub, and the connections to the Sentinels, from outside of their event loop."""
        self._discard(None if self.binding.forked else StoreClosedError("the store is closed"))
        if self._watch is not None:
            self._watch.discard(forked=self.binding.forked)
