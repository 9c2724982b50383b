"""HelixSubscriptionBus: the SDK's own bus as the oracle, many replicas, outages, and clients that listen over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("mcp.server.subscriptions")

from mcp import Client
from mcp.server import MCPServer
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from starlette.applications import Starlette
from starlette.routing import Mount

from helix_fast import Helix, InvalidIdError, StoreClosedError, connect
from helix_fast.integrations.mcp import HelixSubscriptionBus, session_manager
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy
from tests.support.web import serve

EVENTS: list[ServerEvent] = [
    ToolsListChanged(),
    PromptsListChanged(),
    ResourcesListChanged(),
    ResourceUpdated("note://a b/ü"),
    ResourceUpdated("resource "),
    ResourceUpdated(""),
]


async def test_every_event_reaches_the_listeners_of_every_replica_in_order(helix: Helix) -> None:
    heard: list[list[ServerEvent]] = [[], [], []]
    async with HelixSubscriptionBus(helix) as one, HelixSubscriptionBus(helix) as two:
        one.subscribe(heard[0].append)
        two.subscribe(heard[1].append)
        two.subscribe(heard[2].append)
        for event in EVENTS:
            await one.publish(event)
        await until(lambda: all(len(each) >= len(EVENTS) for each in heard))
        assert heard == [EVENTS] * 3


async def test_it_does_what_their_bus_does_with_listeners(helix: Helix) -> None:
    found = []
    async with HelixSubscriptionBus(helix) as ours:
        for bus in (InMemorySubscriptionBus(), ours):
            heard: list[ServerEvent] = []

            def broken(_event: ServerEvent) -> None:
                raise ValueError

            bus.subscribe(broken)
            first, _second = bus.subscribe(heard.append), bus.subscribe(heard.append)
            await bus.publish(ToolsListChanged())
            await until(lambda heard=heard: len(heard) >= 2)
            first()
            first()
            await bus.publish(PromptsListChanged())
            await until(lambda heard=heard: len(heard) >= 3)
            bus.subscribe(broken)()
            found.append(heard)
    assert found[0] == found[1] == [ToolsListChanged(), ToolsListChanged(), PromptsListChanged()]


async def test_another_replica_hears_with_our_bus_and_not_with_theirs(helix: Helix) -> None:
    """Each replica has the SDK's bus, which is in its memory; the event stays in the one that publishes it."""
    heard: list[ServerEvent] = []
    async with HelixSubscriptionBus(helix) as publishing, HelixSubscriptionBus(helix) as other:
        for one, two in ((InMemorySubscriptionBus(), InMemorySubscriptionBus()), (publishing, other)):
            two.subscribe(heard.append)
            await one.publish(ToolsListChanged() if one is publishing else PromptsListChanged())
        await until(lambda: bool(heard))
    assert heard == [ToolsListChanged()]


async def test_a_new_replica_hears_nothing_of_the_past_and_all_of_its_own(helix: Helix) -> None:
    async with HelixSubscriptionBus(helix) as old:
        await old.publish(ToolsListChanged())
    bus, heard = HelixSubscriptionBus(helix), []
    bus.subscribe(heard.append)
    await bus.publish(PromptsListChanged())  # waits until it is connected
    await until(lambda: bool(heard))
    assert heard == [PromptsListChanged()]
    await bus.close()


async def test_buses_of_other_names_and_prefixes_are_apart(server_url: str) -> None:
    heard: list[ServerEvent] = []
    async with (
        connect(server_url) as helix,
        HelixSubscriptionBus(helix) as bus,
        HelixSubscriptionBus(helix, name="b") as named,
        HelixSubscriptionBus(server_url, key_prefix="mine:") as prefixed,
    ):
        named.subscribe(heard.append)
        prefixed.subscribe(heard.append)
        await bus.publish(ToolsListChanged())
        await named.publish(PromptsListChanged())
        await prefixed.publish(ResourcesListChanged())
        await until(lambda: len(heard) >= 2)
        assert set(heard) == {PromptsListChanged(), ResourcesListChanged()}
    with pytest.raises(InvalidIdError):
        HelixSubscriptionBus(server_url, name="{}")


@pytest.mark.faults
async def test_a_replica_hears_after_an_outage_what_it_has_missed(fault_proxy: FaultProxy, server_url: str) -> None:
    heard: list[ServerEvent] = []
    async with (
        connect(server_url) as helix,
        HelixSubscriptionBus(helix) as other,
        HelixSubscriptionBus(fault_proxy.url) as bus,
    ):
        bus.subscribe(heard.append)
        await other.publish(ToolsListChanged())
        await until(lambda: heard == [ToolsListChanged()])
        fault_proxy.refuse()
        fault_proxy.cut_all()
        missed = [ResourceUpdated("a"), PromptsListChanged(), ResourceUpdated("b")]
        for event in missed:
            await other.publish(event)
        assert heard == [ToolsListChanged()]
        await fault_proxy.start()
        await until(lambda: len(heard) >= 4)
        assert heard == [ToolsListChanged(), *missed]


async def test_a_closed_bus_publishes_no_more(helix: Helix) -> None:
    bus, heard = HelixSubscriptionBus(helix), []
    await bus.close()
    bus.subscribe(heard.append)
    async with HelixSubscriptionBus(helix) as used:
        used.subscribe(heard.append)
    await used.close()
    for closed in (bus, used):
        with pytest.raises(StoreClosedError):
            await closed.publish(ToolsListChanged())
    async with HelixSubscriptionBus(helix) as other:
        own: list[ServerEvent] = []
        other.subscribe(own.append)
        await other.publish(ToolsListChanged())
        await until(lambda: bool(own))
    assert heard == []


# --- over HTTP


@contextlib.asynccontextmanager
async def replica(helix: Helix) -> AsyncIterator[tuple[MCPServer, HelixSubscriptionBus, str]]:
    bus = HelixSubscriptionBus(helix)
    made = MCPServer("notes", subscriptions=bus)
    manager = session_manager(made)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with bus, manager.run():
            yield

    app = Starlette(routes=[Mount("/mcp", app=manager.handle_request)], lifespan=lifespan)
    async with serve(app, timeout_graceful_shutdown=1) as address:
        yield made, bus, f"{address}/mcp/"


async def test_a_client_of_one_replica_hears_what_changes_on_another(server_url: str) -> None:
    async with (
        connect(server_url) as first,
        connect(server_url) as second,
        replica(first) as (_one, _bus, url),
        replica(second) as (_two, bus, _other),
        Client(url, mode="2026-07-28") as client,
        client.listen(tools_list_changed=True, resource_subscriptions=["note://1"]) as events,
    ):
        await bus.publish(PromptsListChanged())
        await bus.publish(ResourceUpdated("note://2"))
        await bus.publish(ResourceUpdated("note://1"))
        assert await asyncio.wait_for(anext(events), 60) == ResourceUpdated("note://1")
        await bus.publish(ToolsListChanged())
        assert await asyncio.wait_for(anext(events), 60) == ToolsListChanged()
