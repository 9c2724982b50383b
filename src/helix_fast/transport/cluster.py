"""A Redis or Valkey Cluster: one lane and one hub per primary, redirects followed, slots kept up to date.

The map of slots is read over the lanes themselves: a second client for it would cost a connection per node. A redirect
is followed at once and corrects the map for its slot; a lost node or a redirect has the whole map read again, in the
background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from helix_fast import codec
from helix_fast.errors import (
    HelixError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
)

from .binding import LoopBinding, cancel
from .cluster_hub import ClusterHub
from .hub import Hub
from .lane import Frame, Lane, OnReply, settle
from .link import Connector, establish, logger
from .observer import Observable
from .presence import Presence
from .sentinel import is_unknown_command, no_store
from .slot_map import Address, SlotMap, parse_slots

Remap = Callable[[Address], Address]
_SLOTS: Final = codec.frame_command([b"CLUSTER", b"SLOTS"])
_ASKING: Final = codec.frame_command([b"ASKING"])
# Without arguments it does nothing and needs no rights: the error shows whether the command exists (Redis 7).
_SPUBLISH: Final = codec.frame_command([b"SPUBLISH"])
_REDIRECTS: Final = 8
_REFRESH_PAUSE: Final = 0.2  # seconds between two readings of the map, so that a broken cluster is not asked in a loop


class Cluster(Observable):
    """The connections to a cluster; implements ``topology.Topology``.

    Args:
        startup: addresses to ask first.
        settings: redis-py's connection settings, already ours (RESP2, bytes).
        connection_class: redis-py's connection class.
        remap: from the address that the cluster announces to the one to connect to.
    """

    clustered = True

    def __init__(
        self,
        startup: list[Address],
        settings: dict[str, Any],
        connection_class: Any,
        *,
        timeout: float = 5.0,
        retry_timeout: float = 10.0,
        wait_replicas: int = 0,
        remap: Remap | None = None,
    ) -> None:
        self._wait_replicas = wait_replicas
        self.retry_timeout = retry_timeout
        self.publish: bytes = b""
        self.requests: int = 0
        self._startup = startup
        self._settings = settings
        self._connection_class = connection_class
        self.timeout = timeout
        self._remap = remap
        self._slots = SlotMap()
        self._closed = False
        self.binding: LoopBinding = LoopBinding(self._renew, self.abandon)
        self._make_links()

    def _make_links(self) -> None:
        self.presence: Presence = Presence(self.send, self.server)
        self._lanes: dict[Address, Lane] = {}
        self._hubs = ClusterHub(self._slots, self._make_hub, self.ready, self.target)
        self._early: list[tuple[str, Frame, OnReply | None, bool]] = []
        self._retiring: dict[asyncio.Task[None], Lane] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = -1.0

    def _renew(self) -> None:
        """Make lanes and hubs anew, in place, since the stores keep this object. What ran on their loop has ended."""
        before = self.presence
        self._discard()
        self._make_links()
        self.presence.sharded = before.sharded
        self.presence.counts_unreliable = before.counts_unreliable

    def _discard(self, error: HelixError | None = None) -> None:
        for link in (*self._lanes.values(), *self._retiring.values(), *self._hubs.hubs):
            link.discard(error, forked=self.binding.forked)

    # the map

    async def ready(self) -> None:
        """Read the map, where that has not been done yet."""
        self.binding.check()
        if not self._slots:
            await self.refresh()

    async def refresh(self) -> None:
        """Read the map again; several callers share one reading.

        Raises:
            StoreConnectionError: no node answered. StoreResponseError: the server is no cluster.
        """
        if self._closed:
            raise StoreClosedError("the store is closed")
        await asyncio.shield(self._refresh())

    def _refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._read_map(), name="read cluster slots")
            self._refreshing.add_done_callback(self._refresh_done)
        return self._refreshing

    def _refresh_done(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        error = StoreClosedError("the store is closed") if task.cancelled() else task.exception()
        if error is not None:
            logger.debug("reading the cluster's slots failed: %s", error)
        # Before the callers that wait for the map go on: requests keep their order.
        early, self._early = self._early, []
        for tag, frame, on_reply, follow in early:
            if error is None:
                self.send(tag, frame, on_reply, follow=follow)
            elif on_reply is not None:
                on_reply(error)

    def refresh_soon(self) -> None:
        """Read the map again in the background."""
        if not self._closed:
            self._refresh()

    async def _read_map(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._refreshed_at + _REFRESH_PAUSE - loop.time()))
        self._refreshed_at = loop.time()
        slots = await self._ask()
        for slot, address in slots.items():
            self._slots.assign(slot, address)
        for address in set(self._lanes) - set(slots.values()):
            # It has no slots any more, or is about to get its first one: its pending requests are still answered.
            lane = self._lanes.pop(address)
            retiring = loop.create_task(lane.finish(), name=f"finish {lane.target}")
            self._retiring[retiring] = lane
            retiring.add_done_callback(self._retiring.pop)
        self._hubs.reassign()

    async def _ask(self) -> dict[int, Address]:
        """The map, from the first node that answers."""
        failure: HelixError = StoreConnectionError(f"no node of {self.target} answered")
        # Also nodes that nothing was sent to yet: where the only one with a lane died, they know who follows it. A lane
        # that is down is asked last: it may take its time to find out that it still is.
        known = [*self._lanes, *self._startup, *self._slots.primaries()]
        up = [address for address, lane in self._lanes.items() if lane.connected]
        for address in dict.fromkeys([*up, *known]):
            try:
                lane = self._lane_at(address)
                # Also of a replica, or of a primary that has lost its own: neither could confirm anything.
                slots = parse_slots(await lane.call(_SLOTS, at_once=True), address)
                if not self.publish:
                    self.publish = await _publish_command(lane)
                    self.presence.sharded = self.publish == b"SPUBLISH"
                    # A plain publication reaches the subscribers of all nodes, but the node counts only its own.
                    self.presence.counts_unreliable = not self.presence.sharded
            except StoreResponseError as error:  # noqa: PERF203
                if "cluster support disabled" in str(error):
                    raise StoreResponseError(
                        "ERR this server is not part of a cluster", hint="use redis:// in place of redis+cluster://"
                    ) from error
                failure = no_store(f"{address[0]}:{address[1]}") if is_unknown_command(error) else error
            except HelixError as error:
                failure = error
            else:
                if slots:
                    remap = self._remap
                    return slots if remap is None else {slot: remap(node) for slot, node in slots.items()}
                failure = StoreConnectionError(f"{address[0]}:{address[1]} is in a cluster without slots")
        raise failure

    @property
    def target(self) -> str:
        """The cluster's name for messages."""
        return ",".join(f"{host}:{port}" for host, port in self._startup)

    def _connector(self, address: Address) -> Connector:
        """The connector of one node."""
        host, port = address

        async def connect() -> Any:
            return await establish(self._connection_class(**{**self._settings, "host": host, "port": port}))

        return connect

    def _make_hub(self, address: Address) -> Hub:
        host, port = address
        hub = Hub(
            self._connector(address),
            f"{host}:{port}",
            timeout=self.timeout,
            sharded=self.presence.sharded,
            local=self.presence.local,
            on_counted=self.presence.counted,
        )
        hub.on_moved = self.refresh_soon  # the node no longer serves a channel: find out which one does
        hub.on_opened = self.opened
        return hub

    def _lane_at(self, address: Address) -> Lane:
        lane = self._lanes.get(address)
        if lane is None:
            host, port = address
            lane = self._lanes[address] = Lane(
                self._connector(address), f"{host}:{port}", timeout=self.timeout, wait_replicas=self._wait_replicas
            )
            lane.on_opened = self.opened
        return lane

    def _lane(self, slot: int) -> Lane:
        if self._closed:
            raise StoreClosedError("the store is closed")
        address = self._slots.address(slot)
        if address is None:
            self.refresh_soon()
            raise StoreConnectionError(f"no node of {self.target} serves slot {slot}")
        return self._lane_at(address)

    # Topology

    def send(
        self,
        tag: str,
        frame: Frame,
        on_reply: OnReply | None = None,
        *,
        follow: bool = True,
        unparsed: bool = False,
    ) -> None:
        """Send a request to the node of the tag's slot, following redirects if ``follow``."""
        self.binding.check()
        if not self._slots and not self._closed:
            self._early.append((tag, frame, on_reply, follow))
            self._refresh()
            return
        slot = self._slots.slot(tag)
        try:
            lane = self._lane(slot)
        except StoreConnectionError as error:
            if on_reply is not None:
                asyncio.get_running_loop().call_soon(on_reply, error)
            return
        self.requests += 1
        answered = partial(self._answered, slot, frame, on_reply or _ignore, _REDIRECTS, follow)
        lane.send(frame, answered, unparsed=unparsed)

    def _answered(self, slot: int, frame: Frame, on_reply: OnReply, left: int, follow: bool, reply: Any) -> None:
        if not isinstance(reply, HelixError):
            on_reply(reply)
            return
        code = reply.server_code if isinstance(reply, StoreResponseError) else ""
        if code in {"MOVED", "ASK"}:
            assert isinstance(reply, StoreResponseError)
            try:
                lane = self._redirected(reply)
                if left and (follow or code == "ASK"):
                    if code == "ASK":
                        lane.send(_ASKING)
                    self.requests += 1
                    lane.send(frame, partial(self._answered, slot, frame, on_reply, left - 1, follow))
                    return
            except HelixError as error:
                on_reply(error)
                return
            reply = StoreResponseError(f"TRYAGAIN {reply}")
        elif isinstance(reply, StoreClosedError) and not self._closed:
            reply = StoreConnectionError(f"a node of {self.target} left before it answered")
        if isinstance(reply, StoreConnectionError) or code in {"CLUSTERDOWN", "READONLY"}:
            self.refresh_soon()
        on_reply(reply)

    def _redirected(self, reply: StoreResponseError) -> Lane:
        """The lane that a MOVED or ASK names. MOVED holds from now on for its slot, ASK for this request alone."""
        code, slot, target = str(reply).split()[:3]
        host, _, port = target.rpartition(":")
        address = (host or (self._slots.address(int(slot)) or self._startup[0])[0], int(port))
        if self._remap is not None:
            address = self._remap(address)
        if code == "MOVED":
            self._slots.assign(int(slot), address)
            self.refresh_soon()
        return self._lane_at(address)

    async def call(self, tag: str, frame: Frame) -> Any:
        """Send a request to the node of the tag's slot, following redirects, and wait for the reply."""
        await self.ready()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        slot = self._slots.slot(tag)
        lane = self._lane(slot)
        await lane.room()
        if lane.closed:
            lane = self._lane(slot)  # its node left meanwhile
        self.requests += 1
        lane.send(frame, partial(self._answered, slot, frame, partial(settle, future), _REDIRECTS, True))
        reply = await future
        if isinstance(reply, HelixError):
            raise reply
        return reply

    def lane_for(self, tag: str) -> None:
        """None: a slot may move at any time."""

    def generation(self, tag: str) -> int:
        """Grows with every reconnection of the slot's lane, and when the slot has another primary."""
        slot = self._slots.slot(tag)
        address = self._slots.address(slot)
        lane = self._lanes.get(address) if address is not None else None
        number = 0 if lane is None else lane.next_generation
        return self._slots.moves(slot) * 1_000_000 + number

    def ever_connected(self, tag: str) -> bool:
        """Whether the cluster was ever reached."""
        return bool(self._slots)

    def server(self, tag: str) -> str:
        """Name of the slot's primary, or of the cluster while the map is unknown."""
        address = self._slots.address(self._slots.slot(tag))
        return self.target if address is None else f"{address[0]}:{address[1]}"

    def hub(self, tag: str) -> ClusterHub:
        """The process's subscriptions, on all nodes."""
        self.binding.check()
        if self._closed:
            raise StoreClosedError("the store is closed")
        return self._hubs

    async def close(self) -> None:
        """Close all lanes and hubs."""
        if self._closed:
            return
        await self.presence.close()  # a second call meanwhile does no harm
        self._closed = True
        await cancel(self._refreshing)
        for retiring, lane in list(self._retiring.items()):
            retiring.cancel()
            await lane.close()
        for lane in list(self._lanes.values()):
            await lane.close()
        await self._hubs.close()

    def abandon(self) -> None:
        """Drop all lanes and hubs from outside of their event loop."""
        self._closed = True
        self._discard(None if self.binding.forked else StoreClosedError("the store is closed"))


async def _publish_command(lane: Lane) -> bytes:
    try:
        await lane.call(_SPUBLISH, at_once=True)
    except StoreResponseError as error:
        return b"PUBLISH" if "unknown command" in str(error) else b"SPUBLISH"
    return b"SPUBLISH"


def _ignore(_reply: Any) -> None:
    """For requests without a caller for the reply: redirects are followed all the same."""
