"""Replicas of an MCP server, and the store behind them, that are killed with kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.server.subscriptions")

import httpx
from mcp import Client
from mcp.server.streamable_http import EventMessage
from mcp.server.subscriptions import ResourceUpdated

from helix_fast import Helix, connect
from helix_fast.integrations.mcp import HelixEventStore
from helix_fast.testing.servers import ServerProcess
from tests.integrations.mcp import replica

pytestmark = [pytest.mark.faults, pytest.mark.slow]


class Replica:
    """A process, and the address of its server."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@pytest.fixture
async def start() -> AsyncIterator[Callable[[str], Any]]:
    """Starts replicas on a store; those that are left are killed."""
    started: list[Replica] = []

    async def start_one(store: str) -> Replica:
        words = [sys.executable, str(Path(replica.__file__)), store]
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        made = Replica(process, (await process.stdout.readline()).decode().strip())
        started.append(made)
        return made

    yield start_one
    await asyncio.gather(*(each.kill() for each in started))


async def go(helix: Helix) -> None:
    """Let the tool ``work`` answer."""
    async with await helix.streams.create_writer("go", "test") as writer:
        await writer.write({"type": "text_delta", "delta": "go"})


def legacy(url: str) -> Client:
    return Client(url, mode="legacy", read_timeout_seconds=60)


async def test_a_client_gets_its_answer_after_the_store_was_killed(short_path: Path, start: Any) -> None:
    """The server of the data dies between the progress and the answer, and comes back with what it had on its disk."""
    server = ServerProcess(short_path, tcp=True, options={"appendonly": "yes", "appendfsync": "always"})
    await server.start()
    try:
        begun = asyncio.Event()

        async def progressed(*_: object) -> None:
            begun.set()

        one = await start(server.url)
        async with legacy(one.url) as client:
            calling = asyncio.ensure_future(client.call_tool("work", {}, progress_callback=progressed))
            await asyncio.wait_for(begun.wait(), 60)
            server.kill()
            await server.start()
            async with connect(server.url) as helix:
                await go(helix)
                assert (await calling).content[0].text == "done"
                calling = asyncio.ensure_future(client.call_tool("work", {}))  # the session goes on
                assert (await calling).content[0].text == "done"
    finally:
        await server.stop()


async def test_what_a_killed_replica_has_stored_is_replayed_by_another(server_url: str, start: Any) -> None:
    """Its sessions end with it: the SDK has them in its memory, so its clients begin anew."""
    one, two = await start(server_url), await start(server_url)
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    async with httpx.AsyncClient(timeout=60, headers=headers) as http, connect(server_url) as helix:
        opened = await http.post(one.url, json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        begun = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post(one.url, json=begun, headers=session)
        params = {"name": "work", "arguments": {}, "_meta": {"progressToken": 1}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        ids: list[str] = []
        with contextlib.suppress(httpx.HTTPError):
            async with http.stream("POST", one.url, json=call, headers=session) as response:
                async for line in response.aiter_lines():
                    if line.startswith("id:"):
                        ids.append(line[3:].strip())
                    if "notifications/progress" in line:
                        await one.kill()
        sent: list[EventMessage] = []

        async def send(event: EventMessage) -> None:
            sent.append(event)

        assert await HelixEventStore(helix).replay_events_after(ids[0], send)
        assert [event.event_id for event in sent] == ids[1:]
        answer = await http.get(two.url, headers={**session, "Last-Event-ID": ids[0]})
        assert answer.status_code == 404
        async with legacy(two.url) as client:
            await go(helix)
            assert (await client.call_tool("work", {})).content[0].text == "done"


async def test_listeners_hear_of_changes_on_other_replicas_after_one_was_killed(server_url: str, start: Any) -> None:
    one, two = await start(server_url), await start(server_url)
    async with (
        Client(two.url, mode="2026-07-28") as listening,
        listening.listen(resource_subscriptions=["note://1", "note://2", "note://3"]) as events,
    ):
        async with legacy(one.url) as client:
            await client.call_tool("change", {"uri": "note://1"})
            assert await asyncio.wait_for(anext(events), 60) == ResourceUpdated("note://1")
            await one.kill()
        three = await start(server_url)
        for replica_, uri in ((three, "note://2"), (two, "note://3")):
            async with legacy(replica_.url) as client:
                await client.call_tool("change", {"uri": uri})
                assert await asyncio.wait_for(anext(events), 60) == ResourceUpdated(uri)
