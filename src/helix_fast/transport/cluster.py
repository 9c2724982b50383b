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

from redis.crc import key_slot

from helix_fast import codec
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
)

from .cluster_hub import Address, ClusterHub
from .lane import Lane, OnReply, settle
from .link import Connector, establish, logger
from .observer import Observable
from .presence import Audience
from .sentinel import is_unknown_command, no_store

Remap = Callable[[Address], Address]
_SLOTS: Final = codec.frame_command([b"CLUSTER", b"SLOTS"])
_ASKING: Final = codec.frame_command([b"ASKING"])
# Without arguments it does nothing and needs no rights: the error tells whether there is such a command (Redis 7).
_SPUBLISH: Final = codec.frame_command([b"SPUBLISH"])
_REDIRECTS: Final = 8
_REFRESH_PAUSE: Final = 0.2  # seconds between two readings of the map, so that a broken cluster is not asked in a loop
_SLOTS_CACHED: Final = 65_536


class Cluster(Observable):
    """See the module; satisfies ``topology.Topology``.

    Args:
        startup: addresses to ask first.
        settings: redis-py's connection settings, already ours (RESP2, bytes).
        connection_class: redis-py's connection class.
        remap: from the address that the cluster tells to the one to connect to.
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
        self.publish = b""
        self.requests = 0
        self._startup = startup
        self._settings = settings
        self._connection_class = connection_class
        self.timeout = timeout
        self._remap = remap
        self._lanes: dict[Address, Lane] = {}
        self._slots: dict[int, Address] = {}
        self._moves: dict[int, int] = {}
        self._slot_of: dict[str, int] = {}
        self.audience = Audience(self)
        self._hubs = ClusterHub(self)
        self._early: list[tuple[str, bytes, OnReply | None, bool]] = []
        self._retiring: dict[asyncio.Task[None], Lane] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = -1.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # the map

    def slot(self, tag: str) -> int:
        """The slot of the keys tagged ``tag``; any one for the empty tag."""
        slot = self._slot_of.get(tag)
        if slot is None:
            if len(self._slot_of) >= _SLOTS_CACHED:
                self._slot_of.clear()
            slot = self._slot_of[tag] = key_slot(tag.encode())
        return slot

    async def ready(self) -> None:
        """Read the map, where that has not been done yet."""
        self._check_loop()
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
        # Before whoever waits for the map goes on: what was sent first arrives first.
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
            self._assign(slot, address)
        for address in set(self._lanes) - set(slots.values()):
            # It has no slots any more, or is about to get its first one: what was asked there is still answered.
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
        known = [*self._lanes, *self._startup, *self._slots.values()]
        up = [address for address, lane in self._lanes.items() if lane.connected]
        for address in dict.fromkeys([*up, *known]):
            try:
                lane = self._lane_at(address)
                slots = _parse_slots(await lane.call(_SLOTS), address)
                if not self.publish:
                    self.publish = await _publish_command(lane)
                    # A plain publication reaches the listeners of all nodes, and the node counts its own alone.
                    self.audience.blind = self.publish != b"SPUBLISH"
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

    def _assign(self, slot: int, address: Address) -> None:
        if self._slots.get(slot) != address:
            self._slots[slot] = address
            self._moves[slot] = self._moves.get(slot, 0) + 1

    def connector(self, address: Address) -> Connector:
        """Makes connections to one node."""
        host, port = address

        async def connect() -> Any:
            return await establish(self._connection_class(**{**self._settings, "host": host, "port": port}))

        return connect

    def address(self, slot: int) -> Address | None:
        """The primary of a slot, where it is known."""
        return self._slots.get(slot)

    def primaries(self) -> set[Address]:
        """The nodes that serve slots."""
        return set(self._slots.values())

    def _lane_at(self, address: Address) -> Lane:
        lane = self._lanes.get(address)
        if lane is None:
            host, port = address
            lane = self._lanes[address] = Lane(
                self.connector(address), f"{host}:{port}", timeout=self.timeout, wait_replicas=self._wait_replicas
            )
            lane.on_opened = self.opened
        return lane

    def _lane(self, slot: int) -> Lane:
        if self._closed:
            raise StoreClosedError("the store is closed")
        address = self._slots.get(slot)
        if address is None:
            self.refresh_soon()
            raise StoreConnectionError(f"no node of {self.target} serves slot {slot}")
        return self._lane_at(address)

    # Topology

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None, *, follow: bool = True) -> None:
        """Send a request, following redirects; see Topology."""
        if not self._slots and not self._closed:
            self._early.append((tag, frame, on_reply, follow))
            self._refresh()
            return
        slot = self.slot(tag)
        try:
            lane = self._lane(slot)
        except StoreConnectionError as error:
            if on_reply is not None:
                asyncio.get_running_loop().call_soon(on_reply, error)
            return
        self.requests += 1
        lane.send(frame, partial(self._answered, slot, frame, on_reply or _ignore, _REDIRECTS, follow))

    def _answered(self, slot: int, frame: bytes, on_reply: OnReply, left: int, follow: bool, reply: Any) -> None:
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
        address = (host or self._slots.get(int(slot), self._startup[0])[0], int(port))
        if self._remap is not None:
            address = self._remap(address)
        if code == "MOVED":
            self._assign(int(slot), address)
            self.refresh_soon()
        return self._lane_at(address)

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request, following redirects, and wait for the reply; see Topology."""
        await self.ready()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        slot = self.slot(tag)
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

    def generation(self, tag: str) -> int:
        """Grows with every reconnection of the slot's lane, and when the slot has another primary; see Topology."""
        slot = self.slot(tag)
        address = self._slots.get(slot)
        lane = self._lanes.get(address) if address is not None else None
        number = 0 if lane is None else lane.upcoming
        return self._moves.get(slot, 0) * 1_000_000 + number

    def reached(self, tag: str) -> bool:
        """Whether the cluster was ever reached."""
        return bool(self._slots)

    def server(self, tag: str) -> str:
        """Name of the slot's primary, or of the nodes to ask first where the map was not read yet; see Topology."""
        address = self._slots.get(self.slot(tag))
        return self.target if address is None else f"{address[0]}:{address[1]}"

    def hub(self, tag: str) -> ClusterHub:
        """The process's subscriptions, on whatever nodes."""
        self._check_loop()
        if self._closed:
            raise StoreClosedError("the store is closed")
        return self._hubs

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise InvalidArgumentError(
                    "a store was used from a second event loop", hint="make one store for each event loop"
                )
            self._loop = loop

    async def close(self) -> None:
        """Close all lanes and hubs."""
        if self._closed:
            return
        await self.audience.close()  # a second call that comes meanwhile does no harm
        self._closed = True
        task = self._refreshing
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for retiring, lane in list(self._retiring.items()):
            retiring.cancel()
            await lane.close()
        for lane in list(self._lanes.values()):
            await lane.close()
        await self._hubs.close()


def _parse_slots(reply: Any, asked: Address) -> dict[int, Address]:
    """The primary of each slot, from the reply of CLUSTER SLOTS; a node without a host is the one that was asked."""
    slots: dict[int, Address] = {}
    for start, end, primary, *_replicas in reply:
        address = ((primary[0] or b"").decode() or asked[0], int(primary[1]))
        slots.update(dict.fromkeys(range(start, end + 1), address))
    return slots


async def _publish_command(lane: Lane) -> bytes:
    try:
        await lane.call(_SPUBLISH)
    except StoreResponseError as error:
        return b"PUBLISH" if "unknown command" in str(error) else b"SPUBLISH"
    return b"SPUBLISH"


def _ignore(_reply: Any) -> None:
    """Nobody wants this reply; redirects are followed all the same."""
