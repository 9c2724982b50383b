"""The hub against a real server: a subscriber gets every message, or is notified that some may be missing."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from helix_fast.errors import StoreClosedError, StoreConnectionError, StoreResponseError
from helix_fast.memory import MemoryServer
from helix_fast.memory.transport import MemoryTopology, MemoryTransport
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from helix_fast.transport.hub import Hub
from helix_fast.transport.topology import Standalone
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import StreamStore, storage

pytestmark = pytest.mark.timeout(60)


class Subscriber:
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.resyncs = 0

    def pushed(self, payload: bytes) -> None:
        self.received.append(payload)

    def resync(self) -> None:
        self.resyncs += 1


def hub_of(store: StreamStore) -> Hub:
    topology = store._requests.topology
    assert isinstance(topology, Standalone)
    return topology.hub("")


async def subscribers(store: StreamStore, channel: bytes) -> int:
    return int((await store._requests.command("", b"PUBSUB", b"NUMSUB", channel))[1])


async def subscribed(store: StreamStore, channel: bytes, count: int) -> None:
    for _ in range(2000):
        if await subscribers(store, channel) == count:
            return
        await asyncio.sleep(0.002)
    pytest.fail(f"{await subscribers(store, channel)} connections subscribe to {channel!r}, not {count}")


async def test_a_channel_counts_as_subscribed_only_while_the_server_counts_it(
    server_url: str, fault_proxy: FaultProxy
) -> None:
    async with storage(server_url) as direct, storage(fault_proxy.url) as store:
        hub, local, subscriber = hub_of(store), store._requests.topology.presence.local, Subscriber()
        joining = asyncio.ensure_future(hub.subscribe(b"{c}", subscriber, stream=True))
        await asyncio.sleep(0)
        assert not local[b"{c}"].counted
        await joining
        assert local[b"{c}"].counted
        hub.give_up("cut")
        assert not local[b"{c}"].counted
        await until(lambda: local[b"{c}"].counted)
        assert await subscribers(direct, b"{c}") == 1
        hub.unsubscribe(b"{c}", subscriber)
        assert not local
        await hub.subscribe(b"{d}", subscriber, stream=True)
        await hub.close()
        assert not local


async def test_confirmed_listener_hears_what_follows(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, several = hub_of(store), [Subscriber() for _ in range(3)]
        for subscriber in several:
            await hub.subscribe(b"c", subscriber)
        for n in range(100):
            await store._requests.command("", b"PUBLISH", b"c", n)
        await until(lambda: all(len(subscriber.received) == 100 for subscriber in several))
        assert several[0].received == [b"%d" % n for n in range(100)]
        assert await subscribers(store, b"c") == 1


async def test_last_listener_to_leave_unsubscribes(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, one, two = hub_of(store), Subscriber(), Subscriber()
        await hub.subscribe(b"c", one)
        await hub.subscribe(b"c", two)
        hub.unsubscribe(b"c", one)
        hub.unsubscribe(b"c", one)
        await store._requests.command("", b"PUBLISH", b"c", "x")
        await until(lambda: two.received == [b"x"])
        assert one.received == []
        hub.unsubscribe(b"c", two)
        await subscribed(store, b"c", 0)
        assert hub.channels == 0


async def test_collected_listener_is_unsubscribed(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, kept = hub_of(store), Subscriber()
        await hub.subscribe(b"kept", kept)
        await hub.subscribe(b"gone", Subscriber())
        gc.collect()
        await subscribed(store, b"gone", 0)
        assert await subscribers(store, b"kept") == 1


async def test_subscribers_that_leave_in_the_order_they_came_are_found_at_once(server_url: str) -> None:
    compared = 0

    class Compared(Subscriber):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    async with storage(server_url) as store:
        hub, count = hub_of(store), 1_000
        present = [Compared() for _ in range(count)]
        await asyncio.gather(*(hub.subscribe(b"many", subscriber) for subscriber in present))
        for subscriber in present[:-1]:
            hub.unsubscribe(b"many", subscriber)
        assert compared < 2 * count
        assert hub.channels == 1
        hub.unsubscribe(b"many", present[0])  # not subscribed any more
        hub.unsubscribe(b"many", present[-1])
        assert hub.channels == 0


async def test_coming_and_going_ends_as_the_last_call_says(server_url: str) -> None:
    """Subscribing and leaving at random moments, with cancellations: the server agrees in the end."""
    dice = random.Random(7)
    async with storage(server_url) as store:
        hub = hub_of(store)
        keep = Subscriber()
        await hub.subscribe(b"keep", keep)
        for _ in range(150):
            subscriber = Subscriber()
            joining = asyncio.ensure_future(hub.subscribe(b"c", subscriber))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            if dice.random() < 0.4:
                joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)
            else:
                await joining
            hub.unsubscribe(b"c", subscriber)
        await subscribed(store, b"c", 0)
        last = Subscriber()
        await hub.subscribe(b"c", last)
        await store._requests.command("", b"PUBLISH", b"c", "x")
        await until(lambda: last.received == [b"x"])


async def test_broken_connection_resyncs_every_listener(server_url: str, fault_proxy: FaultProxy) -> None:
    async with storage(server_url) as direct, storage(fault_proxy.url) as store:
        hub, several = hub_of(store), [Subscriber() for _ in range(4)]
        for n, subscriber in enumerate(several):
            await hub.subscribe(b"c%d" % (n // 2), subscriber)
        before = [subscriber.resyncs for subscriber in several]
        fault_proxy.cut_all()
        await until(lambda: all(subscriber.resyncs > n for subscriber, n in zip(several, before, strict=True)))
        for n in range(2):
            await subscribed(direct, b"c%d" % n, 1)
            await direct._requests.command("", b"PUBLISH", b"c%d" % n, "after")
        await until(lambda: all(subscriber.received == [b"after"] for subscriber in several))


async def test_more_channels_than_fit_into_one_command(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, subscriber = hub_of(store), Subscriber()
        await asyncio.gather(*(hub.subscribe(b"c%d" % n, subscriber) for n in range(600)))
        assert len(await store._requests.command("", b"PUBSUB", b"CHANNELS")) == 600
        await store._requests.command("", b"CLIENT", b"KILL", b"TYPE", b"pubsub")
        await until(lambda: hub.generation == 2 and hub.connected)
        await subscribed(store, b"c599", 1)
        assert len(await store._requests.command("", b"PUBSUB", b"CHANNELS")) == 600


async def test_server_never_reached_is_told_to_who_subscribes(fault_proxy: FaultProxy) -> None:
    fault_proxy.refuse()
    async with storage(fault_proxy.url, retry_timeout=0) as store:
        hub, several = hub_of(store), [Subscriber(), Subscriber()]
        results = await asyncio.gather(
            *(hub.subscribe(b"c", subscriber) for subscriber in several), return_exceptions=True
        )
        assert all(isinstance(result, StoreConnectionError) for result in results)
        assert hub.channels == 0
        await fault_proxy.start()
        await hub.subscribe(b"c", several[0])


async def test_close_tells_who_waits_for_a_confirmation(server_url: str, fault_proxy: FaultProxy) -> None:
    async with storage(fault_proxy.url) as store:
        hub = hub_of(store)
        await hub.subscribe(b"first", first := Subscriber())
        fault_proxy.stall()
        waiting = asyncio.ensure_future(hub.subscribe(b"second", Subscriber()))
        await asyncio.sleep(0.02)
        await hub.close()
        with pytest.raises(StoreClosedError):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(StoreClosedError):
            await hub.subscribe(b"third", Subscriber())
        assert first.received == []


async def test_refused_subscription_is_told_at_once_and_may_be_tried_again(fresh_server: ServerProcess) -> None:
    acl = b"ACL SETUSER guest on >secret ~* +@all resetchannels &helix:stream-control"
    assert fresh_server.ask(acl) == b"+OK\r\n"
    url = fresh_server.url.replace("redis://", "redis://guest:secret@")
    async with storage(url) as store:
        await store.create("s")
        started = asyncio.get_running_loop().time()
        for _ in range(2):
            with pytest.raises(StoreResponseError, match="NOPERM"):
                await store.create_resumable_reader("s")
        assert asyncio.get_running_loop().time() - started < 3
        assert fresh_server.ask(b"ACL SETUSER guest allchannels") == b"+OK\r\n"
        reader = await store.create_resumable_reader("s")
        assert reader is not None
        await reader.close()


async def test_subscription_survives_a_connection_that_breaks_before_it_is_taken_over() -> None:
    server = MemoryServer()
    broken: list[MemoryTransport] = []

    def connect() -> MemoryTransport:
        transport = server.connect()
        if len(broken) < 2:
            broken.append(transport)
            transport.break_off()
        return transport

    topology = MemoryTopology(connect, timeout=60.0, retry_timeout=60.0)
    heard = Subscriber()
    hub = topology.hub("")
    hub.generation = 1  # it was connected before: else the first call would raise
    await asyncio.wait_for(hub.subscribe(b"channel", heard), 10)
    assert len(broken) == 2
    await topology.close()
