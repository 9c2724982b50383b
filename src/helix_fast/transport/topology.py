"""What stores ask of a connection set, and the simplest one: a single server.

Stores name the id whose keys they touch, never a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from helix_fast.errors import InvalidArgumentError, StoreClosedError, StoreResponseError

from .hub import Hub, Listener
from .lane import Lane, OnReply
from .link import Connector
from .observer import Observable, Observer
from .presence import Audience
from .sentinel import Watch

_LOOK_EVERY: Final = 1.0  # seconds between two questions to a Sentinel


class Subscriptions(Protocol):
    """Channels that the process hears; see Hub."""

    async def subscribe(self, channel: bytes, listener: Listener) -> None:
        """Hear a channel; returns when the server has confirmed it."""

    def unsubscribe(self, channel: bytes, listener: Listener) -> None:
        """Stop hearing a channel."""


class Topology(Protocol):
    """The servers behind a store."""

    clustered: bool
    """Whether keys of different tags may be on different servers."""
    publish: bytes
    """PUBLISH or, where pub/sub is sharded, SPUBLISH; empty until ``ready`` has found out."""
    retry_timeout: float
    """Seconds for which an operation is tried again after a passing fault."""
    observer: Observer | None
    """Who watches, if anyone does."""
    audience: Audience
    """Who hears what is published."""

    @property
    def requests(self) -> int:
        """Requests sent so far, repetitions and redirected ones included."""

    async def ready(self) -> None:
        """Find out what must be known of the servers before the first request."""

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None, *, follow: bool = True) -> None:
        """Send a request about the keys tagged ``tag``; ``on_reply`` gets the reply or the error.

        Without ``follow`` a request that meets a node which has lost its slot is not sent to the slot's new node, but
        answered with TRYAGAIN: after a failover the new one may know less, and the caller must look first.
        """

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request about the keys tagged ``tag`` and wait for the reply."""

    def generation(self, tag: str) -> int:
        """Number of the connection by which the next request about ``tag`` goes: it grows as soon as one is lost."""

    def reached(self, tag: str) -> bool:
        """Whether that server was ever reached."""

    def server(self, tag: str) -> str:
        """Name of the server that has the keys tagged ``tag``: host and port or socket path, never a credential."""

    def hub(self, tag: str) -> Subscriptions:
        """The subscriptions on the server of ``tag``."""

    async def close(self) -> None:
        """Close all connections."""


class Standalone(Observable):
    """One server, or the primary that a Sentinel names: the connector asks it again for each connection.

    All requests go by its ``lane``, whatever they are about.
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
        watch: Watch | None = None,
    ) -> None:
        self.retry_timeout = retry_timeout
        self._watch = watch
        self._watching: asyncio.Task[None] | None = None
        self.lane = Lane(connector, target, timeout=timeout, wait_replicas=wait_replicas)
        self.lane.on_readonly = self._readonly
        self.lane.on_opened = self.opened
        self.audience = Audience(self)
        self._hub: Hub | None = None
        self._make_hub: Callable[[], Hub] = lambda: Hub(connector, target, timeout=timeout, audience=self.audience)
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
                self._watching = loop.create_task(self._look(self._watch), name=f"watch {self.lane.target}")

    async def _look(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self.lane.connected and await watch.moved():
                self._leave(f"{self.lane.target} was replaced")

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self.lane.requests

    async def ready(self) -> None:
        """Nothing need be known; see Topology."""

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None, *, follow: bool = True) -> None:
        """Send a request; see Topology."""
        self.lane.send(frame, on_reply)

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request and wait for the reply; see Topology."""
        self._check_loop()
        try:
            return await self.lane.call(frame)
        except StoreResponseError as error:
            if error.server_code in {"MOVED", "CROSSSLOT"}:
                hint = "it is a node of a cluster: use redis+cluster:// or a RedisCluster client"
                raise StoreResponseError(str(error), hint=hint) from error
            raise

    def _readonly(self) -> None:
        """A primary was made a replica: a Sentinel, or a name server, leads the next connection to the new one."""
        self._leave(f"{self.lane.target} is read-only")

    def _leave(self, reason: str) -> None:
        for link in (self.lane, self._hub):
            if link is not None:
                # On the next turn of the loop: what has arrived together with this reply is handed out first.
                asyncio.get_running_loop().call_soon(link.give_up, reason)

    def generation(self, tag: str) -> int:
        """Number of the connection that the next request uses; see Topology."""
        return self.lane.upcoming

    def reached(self, tag: str) -> bool:
        """Whether the server was ever reached."""
        return self.lane.generation > 0

    def server(self, tag: str) -> str:
        """Its name; see Topology."""
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
            stack.push_async_callback(self.audience.close)
            if self._watch is not None:
                stack.push_async_callback(self._watch.close)
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.gather(self._watching, return_exceptions=True)
