"""The hub against a real server: who subscribed hears everything, or is told that something may be missing."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from helix_fast.errors import StoreClosedError, StoreConnectionError, StoreResponseError
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from helix_fast.transport.hub import Hub
from helix_fast.transport.topology import Standalone
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import StreamStore, storage

pytestmark = pytest.mark.timeout(60)


class Ear:
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.resyncs = 0

    def pushed(self, payload: bytes) -> None:
        self.heard.append(payload)

    def resync(self) -> None:
        self.resyncs += 1


def hub_of(store: StreamStore) -> Hub:
    topology = store._requests.topology
    assert isinstance(topology, Standalone)
    return topology.hub("")


async def listeners(store: StreamStore, channel: bytes) -> int:
    return int((await store._requests.command("", b"PUBSUB", b"NUMSUB", channel))[1])


async def hears(store: StreamStore, channel: bytes, count: int) -> None:
    for _ in range(2000):
        if await listeners(store, channel) == count:
            return
        await asyncio.sleep(0.002)
    pytest.fail(f"{await listeners(store, channel)} connections hear {channel!r}, not {count}")


async def test_a_channel_counts_as_heard_only_while_the_server_counts_it(
    server_url: str, fault_proxy: FaultProxy
) -> None:
    async with storage(server_url) as direct, storage(fault_proxy.url) as store:
        hub, local, ear = hub_of(store), store._requests.topology.presence.local, Ear()
        joining = asyncio.ensure_future(hub.subscribe(b"{c}", ear, stream=True))
        await asyncio.sleep(0)
        assert not local[b"{c}"].counted
        await joining
        assert local[b"{c}"].counted
        hub.give_up("cut")
        assert not local[b"{c}"].counted
        await until(lambda: local[b"{c}"].counted)
        assert await listeners(direct, b"{c}") == 1
        hub.unsubscribe(b"{c}", ear)
        assert not local
        await hub.subscribe(b"{d}", ear, stream=True)
        await hub.close()
        assert not local


async def test_confirmed_listener_hears_what_follows(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, ears = hub_of(store), [Ear() for _ in range(3)]
        for ear in ears:
            await hub.subscribe(b"c", ear)
        for n in range(100):
            await store._requests.command("", b"PUBLISH", b"c", n)
        await until(lambda: all(len(ear.heard) == 100 for ear in ears))
        assert ears[0].heard == [b"%d" % n for n in range(100)]
        assert await listeners(store, b"c") == 1


async def test_last_listener_to_leave_unsubscribes(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, one, two = hub_of(store), Ear(), Ear()
        await hub.subscribe(b"c", one)
        await hub.subscribe(b"c", two)
        hub.unsubscribe(b"c", one)
        hub.unsubscribe(b"c", one)
        await store._requests.command("", b"PUBLISH", b"c", "x")
        await until(lambda: two.heard == [b"x"])
        assert one.heard == []
        hub.unsubscribe(b"c", two)
        await hears(store, b"c", 0)
        assert hub.channels == 0


async def test_collected_listener_is_unsubscribed(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, kept = hub_of(store), Ear()
        await hub.subscribe(b"kept", kept)
        await hub.subscribe(b"gone", Ear())
        gc.collect()
        await hears(store, b"gone", 0)
        assert await listeners(store, b"kept") == 1


async def test_coming_and_going_ends_as_the_last_call_says(server_url: str) -> None:
    """Subscribing and leaving at random moments, with cancellations: the server agrees in the end."""
    dice = random.Random(7)
    async with storage(server_url) as store:
        hub = hub_of(store)
        keep = Ear()
        await hub.subscribe(b"keep", keep)
        for _ in range(150):
            ear = Ear()
            joining = asyncio.ensure_future(hub.subscribe(b"c", ear))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            if dice.random() < 0.4:
                joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)
            else:
                await joining
            hub.unsubscribe(b"c", ear)
        await hears(store, b"c", 0)
        last = Ear()
        await hub.subscribe(b"c", last)
        await store._requests.command("", b"PUBLISH", b"c", "x")
        await until(lambda: last.heard == [b"x"])


async def test_broken_connection_resyncs_every_listener(server_url: str, fault_proxy: FaultProxy) -> None:
    async with storage(server_url) as direct, storage(fault_proxy.url) as store:
        hub, ears = hub_of(store), [Ear() for _ in range(4)]
        for n, ear in enumerate(ears):
            await hub.subscribe(b"c%d" % (n // 2), ear)
        before = [ear.resyncs for ear in ears]
        fault_proxy.cut_all()
        await until(lambda: all(ear.resyncs > n for ear, n in zip(ears, before, strict=True)))
        for n in range(2):
            await hears(direct, b"c%d" % n, 1)
            await direct._requests.command("", b"PUBLISH", b"c%d" % n, "after")
        await until(lambda: all(ear.heard == [b"after"] for ear in ears))


async def test_more_channels_than_fit_into_one_command(server_url: str) -> None:
    async with storage(server_url) as store:
        hub, ear = hub_of(store), Ear()
        await asyncio.gather(*(hub.subscribe(b"c%d" % n, ear) for n in range(600)))
        assert len(await store._requests.command("", b"PUBSUB", b"CHANNELS")) == 600
        await store._requests.command("", b"CLIENT", b"KILL", b"TYPE", b"pubsub")
        await until(lambda: hub.generation == 2 and hub.connected)
        await hears(store, b"c599", 1)
        assert len(await store._requests.command("", b"PUBSUB", b"CHANNELS")) == 600


async def test_server_never_reached_is_told_to_who_subscribes(fault_proxy: FaultProxy) -> None:
    fault_proxy.refuse()
    async with storage(fault_proxy.url, retry_timeout=0) as store:
        hub, ears = hub_of(store), [Ear(), Ear()]
        results = await asyncio.gather(*(hub.subscribe(b"c", ear) for ear in ears), return_exceptions=True)
        assert all(isinstance(result, StoreConnectionError) for result in results)
        assert hub.channels == 0
        await fault_proxy.start()
        await hub.subscribe(b"c", ears[0])


async def test_close_tells_who_waits_for_a_confirmation(server_url: str, fault_proxy: FaultProxy) -> None:
    async with storage(fault_proxy.url) as store:
        hub = hub_of(store)
        await hub.subscribe(b"first", first := Ear())
        fault_proxy.stall()
        waiting = asyncio.ensure_future(hub.subscribe(b"second", Ear()))
        await asyncio.sleep(0.02)
        await hub.close()
        with pytest.raises(StoreClosedError):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(StoreClosedError):
            await hub.subscribe(b"third", Ear())
        assert first.heard == []


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
