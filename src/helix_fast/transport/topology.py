"""Topology: the interface by which stores reach their servers, and its simplest implementation, a single server.

Stores name the id whose keys they touch, never a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from helix_fast.errors import InvalidArgumentError, StoreClosedError, StoreResponseError

from .channels import Subscriber
from .hub import Hub
from .lane import Lane, OnReply
from .link import Connector
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

    @property
    def requests(self) -> int:
        """Requests sent so far, repetitions and redirected ones included."""

    async def ready(self) -> None:
        """Find out what must be known of the servers before the first request."""

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None, *, follow: bool = True) -> None:
        """Send a request about the keys tagged ``tag``; ``on_reply`` gets the reply or the error.

        Without ``follow`` a request that meets a node which has lost its slot is not sent to the slot's new node, but
        answered with TRYAGAIN: after a failover the new one may know less, and the caller must inspect it first.
        """

    async def call(self, tag: str, frame: bytes) -> Any:
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

    async def close(self) -> None:
        """Close all connections."""


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
        self._watch = watch
        self._watching: asyncio.Task[None] | None = None
        self.lane = Lane(connector, target, timeout=timeout, wait_replicas=wait_replicas)
        self.lane.on_readonly = self._readonly
        self.lane.on_opened = self.opened
        self.presence = Presence(self.send, self.server)
        self._hub: Hub | None = None
        self._make_hub: Callable[[], Hub] = lambda: Hub(
            connector, target, timeout=timeout, local=self.presence.local, on_counted=self.presence.counted
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise InvalidArgumentError(
                    "a store was used from a second event loop", hint="make one store for each event loop"
                )
            self._loop = loop
            if self._watch is not None:
                self._watching = loop.create_task(self._watch_sentinel(self._watch), name=f"watch {self.lane.target}")

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

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None, *, follow: bool = True) -> None:
        """Send a request on the lane; ``tag`` and ``follow`` make no difference."""
        self.lane.send(frame, on_reply)

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request on the lane and wait for the reply."""
        self._check_loop()
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
        self._check_loop()
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
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.gather(self._watching, return_exceptions=True)
