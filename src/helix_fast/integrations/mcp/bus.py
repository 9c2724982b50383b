"""HelixSubscriptionBus: what changes on one replica of an MCP server is told to the clients of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.integrations.owned import OwnedHelix
from helix_fast.keys import BusKeys
from helix_fast.lua import script

Self = TypeVar("Self", bound="HelixSubscriptionBus")
Listener = Callable[[ServerEvent], None]
_PUBLISH: Final = script("integrations/mcp", "bus_publish")
_MISSED: Final = script("integrations/mcp", "bus_missed")
_LISTS: Final[dict[str, ServerEvent]] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}
_NAMES: Final = {type(event): name for name, event in _LISTS.items()}
_RESOURCE: Final = "resource "


class HelixSubscriptionBus:
    """A ``SubscriptionBus`` for ``MCPServer(…, subscriptions=bus)``, on one server, Sentinel or a cluster.

    Each replica has one, with the same ``name``. An event tells that something has changed. The last occurrence of
    each is stored, and a replica whose connection was lost delivers those that it has missed, each once. None is lost,
    as long as no more than ``max_events`` different ones were missed.

    It connects when it is entered (``async with bus:``, in the app's lifespan), else at its first event or listener.
    Then what other replicas publish before it has connected, in the first milliseconds, does not reach that listener.

    Args:
        target: a Helix, or what ``connect`` takes: then the bus opens it, and ``close`` closes it.
        name: of the bus; servers whose clients must not hear of each other take different ones.
        max_events: different events that are stored.
        ttl: seconds that they are stored after the last one: an outage that lasts longer may lose some.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError, InvalidIdError: wrong options.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        name: str = "all",
        max_events: int = 10_000,
        ttl: int = 86_400,
        **options: Any,
    ) -> None:
        BusKeys("", name)
        self._name = name
        self._max_events = arguments.integer(max_events, "max_events", 1)
        self._ttl_ms = arguments.integer(ttl, "ttl", 1) * 1000
        self._helix = OwnedHelix(target, **options)
        self._listeners: dict[object, Listener] = {}
        self._started: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._last = 0
        self._caught_up = 0
        self._pushed: set[int] = set()
        self._missed_after: int | None = None
        self._closed = False
        self._leave: Callable[[], None] = lambda: None

    async def publish(self, event: ServerEvent) -> None:
        """Deliver an event to the listeners of all replicas.

        Raises:
            StoreConnectionError, StoreClosedError.
        """
        await self._start()
        helix = await self._helix.get()
        keys, requests = self._keys(helix), helix.streams._requests
        text = _RESOURCE + event.uri if isinstance(event, ResourceUpdated) else _NAMES[type(event)]
        publish = await requests.publish_command()
        args = (text.encode("utf-8", "surrogatepass"), self._max_events, self._ttl_ms, publish, keys.channel)
        await requests.run(_PUBLISH, keys.tag, (keys.last, keys.events), args)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener, called from the event loop; returns what unregisters it, which is safe to call twice."""
        token = object()
        self._listeners[token] = listener
        if self._started is None and not self._closed:
            self._begin()
        return lambda: (self._listeners.pop(token, None), None)[1]

    async def close(self) -> None:
        """Leave the bus, and close the connection if the bus has made it. Safe to call twice."""
        self._closed = True
        tasks = [task for task in (self._started, self._catching_up) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._leave()
        await self._helix.close()

    async def __aenter__(self: Self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def pushed(self, message: bytes) -> None:
        """A message of the channel: the number of the event, a space, the event."""
        digits, _, text = message.partition(b" ")
        number = int(digits)
        if number <= self._caught_up:
            return  # it has been read already
        self._last = number
        if self._missed_after is not None or (self._catching_up is not None and not self._catching_up.done()):
            self._pushed.add(number)
        self._deliver(text)

    def resync(self) -> None:
        """Messages may have been missed."""
        if self._closed:
            return
        self._missed(self._last)
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.ensure_future(self._catch_up())

    async def _start(self) -> None:
        if self._closed:
            raise StoreClosedError("the bus is closed")
        if self._started is None or (self._started.done() and self._started.exception() is not None):
            self._begin()
        assert self._started is not None
        await asyncio.shield(self._started)

    def _begin(self) -> None:
        self._started = asyncio.ensure_future(self._join())
        self._started.add_done_callback(lambda task: task.cancelled() or task.exception())  # publish raises it

    async def _join(self) -> None:
        helix = await self._helix.get()
        keys, requests = self._keys(helix), helix.streams._requests
        self._last = int((await requests.run(_MISSED, keys.tag, (keys.last, keys.events), ("",)))[0])
        hub = requests.topology.hub(keys.tag)
        await requests.retrying(lambda: hub.subscribe(keys.channel, self), keys.tag)
        self._leave = lambda: hub.unsubscribe(keys.channel, self)
        self.resync()  # what was published between the two

    def _missed(self, after: int) -> None:
        self._missed_after = after if self._missed_after is None else min(after, self._missed_after)

    async def _catch_up(self) -> None:
        while self._missed_after is not None:
            after, self._missed_after = max(self._missed_after, self._caught_up), None
            try:
                helix = await self._helix.get()
                keys = self._keys(helix)
                reply = await helix.streams._requests.run(_MISSED, keys.tag, (keys.last, keys.events), (after,))
            except StoreClosedError:
                return
            except HelixError:
                self._missed(after)
                await asyncio.sleep(1)
                continue
            self._caught_up = int(reply[0])
            self._last = max(self._last, self._caught_up)
            for text, number in zip(reply[1][::2], reply[1][1::2], strict=True):
                if int(float(number)) not in self._pushed:  # Valkey writes a score as 1.7e+15
                    self._deliver(text)
            self._pushed = {number for number in self._pushed if number > self._caught_up}

    def _deliver(self, text: bytes) -> None:
        event = _event(text.decode("utf-8", "surrogatepass"))
        if event is None:
            return
        for listener in list(self._listeners.values()):
            with contextlib.suppress(Exception):  # one that raises must not keep the others from hearing
                listener(event)

    def _keys(self, helix: Helix) -> BusKeys:
        return BusKeys(helix.streams.key_prefix, self._name)


def _event(text: str) -> ServerEvent | None:
    """The event; None for one that this version does not know."""
    if text.startswith(_RESOURCE):
        return ResourceUpdated(text[len(_RESOURCE) :])
    return _LISTS.get(text)
