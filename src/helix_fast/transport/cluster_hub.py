"""The subscriptions of a process on a cluster: which node has which channel, and moving channels with their slots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from helix_fast.errors import StoreConnectionError

from .channels import Subscriber
from .hub import Hub
from .slot_map import Address, SlotMap


class ClusterHub:
    """The subscriptions of a process on a cluster: sharded ones where the slot lives, plain ones on any node.

    A slot that moves takes its subscriptions along; their subscribers are notified that messages may be missing.

    Args:
        slots: the cluster's map.
        make_hub: makes the hub of a node.
        ready: returns when the map is known.
        target: the cluster's name for messages.
    """

    def __init__(
        self, slots: SlotMap, make_hub: Callable[[Address], Hub], ready: Callable[[], Awaitable[None]], target: str
    ) -> None:
        self._target = target
        self._slots = slots
        self._make_hub = make_hub
        self._ready = ready
        self._hubs: dict[Address, Hub] = {}
        self._where: dict[bytes, Hub] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def hubs(self) -> list[Hub]:
        """The hubs of all nodes."""
        return list(self._hubs.values())

    async def subscribe(self, name: bytes, subscriber: Subscriber, *, stream: bool = False) -> None:
        """Subscribe to a channel, as ``Hub.subscribe`` does."""
        await self._ready()
        hub = self._where.get(name)
        if hub is None or hub.closed:
            hub = self._where[name] = self._hub_for(name)
        try:
            await hub.subscribe(name, subscriber, stream=stream)
        except BaseException:
            self.unsubscribe(name, subscriber)  # the channel may have moved to another hub meanwhile
            raise

    def unsubscribe(self, name: bytes, subscriber: Subscriber) -> None:
        """Unsubscribe from a channel; a subscriber that is not subscribed is ignored."""
        hub = self._where.get(name)
        if hub is not None:
            hub.unsubscribe(name, subscriber)
            if not hub.has(name):
                del self._where[name]

    def _hub_for(self, name: bytes) -> Hub:
        address = self._slots.address_of_channel(name)
        if address is None:
            raise StoreConnectionError(f"no node of {self._target} serves {name.decode(errors='replace')}")
        hub = self._hubs.get(address)
        if hub is None:
            hub = self._hubs[address] = self._make_hub(address)
        return hub

    def reassign(self) -> None:
        """The map was read: move every channel to the node that serves it now, and close hubs without a node."""
        for name, hub in list(self._where.items()):
            if not hub.has(name):
                del self._where[name]
                continue
            address = self._slots.address_of_channel(name)
            if address is None or self._hubs.get(address) is hub:
                hub.rejoin(name)
                continue
            target = self._where[name] = self._hub_for(name)
            target.adopt(name, hub.release(name))
        for address in set(self._hubs) - self._slots.primaries():
            task = asyncio.get_running_loop().create_task(self._hubs.pop(address).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for hub in list(self._hubs.values()):
            await hub.close()
        self._where.clear()
