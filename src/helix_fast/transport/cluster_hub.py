"""The subscriptions of a process on a cluster: which node hears which channel, and moving them when slots move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.crc import key_slot

from helix_fast.errors import StoreConnectionError

from .hub import Hub, Listener

if TYPE_CHECKING:
    from .cluster import Cluster

Address = tuple[str, int]


class ClusterHub:
    """The subscriptions of a process on a cluster: sharded ones where the slot lives, plain ones on any node.

    A slot that moves takes its subscriptions along; the listeners are told to look for what they may have missed.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._hubs: dict[Address, Hub] = {}
        self._where: dict[bytes, Hub] = {}
        self._moving: set[asyncio.Task[None]] = set()

    async def subscribe(self, channel: bytes, listener: Listener) -> None:
        """Hear a channel; see ``Hub.subscribe``."""
        await self._cluster.ready()
        hub = self._where.get(channel)
        if hub is None or hub.closed:
            hub = self._where[channel] = self._hub_for(channel)
        try:
            await hub.subscribe(channel, listener)
        except BaseException:
            self.unsubscribe(channel, listener)  # the channel may have moved to another hub meanwhile
            raise

    def unsubscribe(self, channel: bytes, listener: Listener) -> None:
        """Stop hearing a channel."""
        hub = self._where.get(channel)
        if hub is not None:
            hub.unsubscribe(channel, listener)
            if not hub.has(channel):
                del self._where[channel]

    def _hub_for(self, channel: bytes) -> Hub:
        address = self._cluster.address(key_slot(channel))
        if address is None:
            raise StoreConnectionError(f"no node of {self._cluster.target} serves {channel.decode(errors='replace')}")
        hub = self._hubs.get(address)
        if hub is None:
            host, port = address
            hub = self._hubs[address] = Hub(
                self._cluster.connector(address),
                f"{host}:{port}",
                timeout=self._cluster.timeout,
                sharded=self._cluster.publish == b"SPUBLISH",
                audience=self._cluster.audience,
            )
            hub.on_moved = self._moved
            hub.on_opened = self._cluster.opened
        return hub

    def _moved(self) -> None:
        """A node no longer serves a channel: find out who does."""
        self._cluster.refresh_soon()

    def reassign(self) -> None:
        """The map was read: take every channel to the node that serves it now, and drop hubs without a node."""
        for channel, hub in list(self._where.items()):
            if not hub.has(channel):
                del self._where[channel]
                continue
            address = self._cluster.address(key_slot(channel))
            if address is None or self._hubs.get(address) is hub:
                hub.rejoin(channel)
                continue
            target = self._where[channel] = self._hub_for(channel)
            target.adopt(channel, hub.release(channel))
        serving = self._cluster.primaries()
        for address in set(self._hubs) - serving:
            task = asyncio.get_running_loop().create_task(self._hubs.pop(address).close())
            self._moving.add(task)
            task.add_done_callback(self._moving.discard)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*self._moving, return_exceptions=True)
        for hub in list(self._hubs.values()):
            await hub.close()
        self._where.clear()
