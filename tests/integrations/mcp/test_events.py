"""HelixEventStore: what the SDK's own event stores do, what they do not, and clients that resume over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("mcp.server.subscriptions")

import httpx
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import JSONRPCNotification, JSONRPCResponse
from starlette.applications import Starlette
from starlette.routing import Mount

from helix_fast import Helix, connect
from helix_fast.integrations.mcp import HelixEventStore, session_manager
from tests.support.proxy import FaultProxy
from tests.support.web import Address, serve


def note(text: str) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": text})


async def replay(store: EventStore, event_id: str) -> tuple[str | None, list[EventMessage]]:
    sent: list[EventMessage] = []

    async def send(event: EventMessage) -> None:
        sent.append(event)

    return await store.replay_events_after(event_id, send), sent


# --- the store


async def test_a_replay_sends_what_follows_in_its_stream_and_no_mark(helix: Helix) -> None:
    store = HelixEventStore(helix)
    mark = await store.store_event("1", None)
    first = await store.store_event("1", note("a"))
    other = await store.store_event("_GET_stream", note("other"))
    answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "Löök \U0001f600", "none": {"kept": []}})
    last = await store.store_event("1", answer)
    stream, sent = await replay(store, mark)
    assert stream == "1"
    assert [(event.event_id, event.message) for event in sent] == [(first, note("a")), (last, answer)]
    assert [event.message for event in (await replay(store, first))[1]] == [answer]
    assert await replay(store, last) == ("1", [])
    assert await replay(store, other) == ("_GET_stream", [])
    assert await replay(HelixEventStore(helix), mark) == (stream, sent)


@pytest.mark.parametrize("stream", ["1", "a b/c%{d}:ü\n", "%", "x" * 300])
async def test_any_stream_id_comes_back_from_an_id_that_a_header_carries(helix: Helix, stream: str) -> None:
    store = HelixEventStore(helix)
    event_id = await store.store_event(stream, None)
    await store.store_event(stream, note("a"))
    assert event_id.isascii()
    assert event_id.isprintable()
    assert " " not in event_id
    found, sent = await replay(store, event_id)
    assert found == stream
    assert [event.message for event in sent] == [note("a")]


@pytest.mark.parametrize("event_id", ["", "1", "x-y:1", "1-1:1", "99999999999999999999-1:1", "1-1:", "1:1-1", "é"])
async def test_an_unknown_event_replays_nothing(helix: Helix, event_id: str) -> None:
    store = HelixEventStore(helix)
    await store.store_event("1", note("a"))
    assert await replay(store, event_id) == (None, [])


async def test_a_long_stream_is_replayed_in_order_and_a_trimmed_one_not_in_part(helix: Helix) -> None:
    store = HelixEventStore(helix, max_events=250)
    ids = [await store.store_event("1", note(str(n))) for n in range(260)]
    assert await replay(store, ids[3]) == (None, [])
    stream, sent = await replay(store, ids[10])
    assert stream == "1"
    assert [event.event_id for event in sent] == ids[11:]
    assert [event.message for event in sent] == [note(str(n)) for n in range(11, 260)]


async def test_streams_expire_after_their_last_event(helix: Helix) -> None:
    store = HelixEventStore(helix, ttl=1000)
    await store.store_event("1", None)
    assert 0 < await helix.streams._requests.command("1", "TTL", "helix:mcp-events:{1}") <= 1000


@pytest.mark.faults
async def test_an_event_whose_reply_is_lost_is_stored_once(fault_proxy: FaultProxy) -> None:
    async with connect(fault_proxy.url) as helix:
        store = HelixEventStore(helix)
        mark = await store.store_event("1", None)
        fault_proxy.cut_after_reply_bytes(0)
        event_id = await store.store_event("1", note("a"))
        assert [event.event_id for event in (await replay(store, mark))[1]] == [event_id]


async def test_a_store_of_its_own_opens_at_first_use(server_url: str) -> None:
    store = HelixEventStore(server_url, key_prefix="mine:")
    mark = await store.store_event("1", None)
    await store.close()
    await store.close()
    async with connect(server_url, key_prefix="mine:") as helix:
        assert await replay(HelixEventStore(helix), mark) == ("1", [])


# --- over HTTP


def server() -> MCPServer:
    made = MCPServer("notes")

    @made.tool()
    async def work(ctx: Context) -> str:
        """Lose the connection, then finish."""
        await ctx.close_sse_stream()
        return "done"

    @made.tool()
    async def secret(text: str) -> str:
        """Answer with a text."""
        return text

    return made


@contextlib.asynccontextmanager
async def served(manager: StreamableHTTPSessionManager) -> AsyncIterator[Address]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    app = Starlette(routes=[Mount("/mcp", app=manager.handle_request)], lifespan=lifespan)
    async with serve(app, lifespan="on") as address:
        url = Address(f"{address}/mcp/")
        url.server = address.server
        yield url


async def test_a_client_gets_the_answer_after_its_connection_was_closed(helix: Helix) -> None:
    manager = session_manager(server(), HelixEventStore(helix), retry_interval=0)
    async with served(manager) as url, Client(url, mode="legacy", read_timeout_seconds=60) as client:
        for _ in range(2):
            result = await client.call_tool("work", {})
            assert result.content[0].text == "done"


async def test_a_client_gets_the_answer_after_the_network_broke(server_url: str) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()
    made = MCPServer("notes")

    @made.tool()
    async def work(ctx: Context) -> str:
        """Answer when it is told to."""
        await ctx.report_progress(1)
        await finish.wait()
        return "done"

    async def progressed(*_: object) -> None:
        begun.set()  # the client has an event id to resume from

    async with connect(server_url) as helix:
        manager = session_manager(made, HelixEventStore(helix), retry_interval=0)
        async with served(manager) as url, Client(str(url), mode="legacy", read_timeout_seconds=60) as client:
            calling = asyncio.ensure_future(client.call_tool("work", {}, progress_callback=progressed))
            await asyncio.wait_for(begun.wait(), 60)
            url.cut()
            finish.set()
            assert (await calling).content[0].text == "done"


class Session:
    """A client by hand, which keeps the event ids that it is sent."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self.http = http
        self.url = url
        self.headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}

    async def open(self) -> None:
        client = {"name": "test", "version": "1"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        response = await self.post({"id": 0, "method": "initialize", "params": hello})
        self.headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        await self.post({"method": "notifications/initialized"})

    async def post(self, message: dict[str, Any]) -> httpx.Response:
        return await self.http.post(self.url, json={"jsonrpc": "2.0", **message}, headers=self.headers)

    async def call(self, text: str) -> str:
        """Call the tool ``secret`` as request 1; returns the id of the first event, as if the rest were lost."""
        params = {"name": "secret", "arguments": {"text": text}}
        response = await self.post({"id": 1, "method": "tools/call", "params": params})
        assert text in response.text
        return next(line[3:].strip() for line in response.text.splitlines() if line.startswith("id:"))

    async def resume(self, event_id: str) -> list[str]:
        """The texts of the answers that are replayed after an event; the connection is cut at the first."""
        headers = {**self.headers, "Last-Event-ID": event_id}
        async with self.http.stream("GET", self.url, headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:") and "result" in line:
                    return [part["text"] for part in json.loads(line[5:])["result"]["content"]]
        return []


async def two_clients(manager: StreamableHTTPSessionManager) -> list[list[str]]:
    """What a client is replayed after its own event, and after another session's."""
    async with served(manager) as url, httpx.AsyncClient(timeout=60) as http:
        one, two = Session(http, url), Session(http, url)
        await asyncio.gather(one.open(), two.open())
        event_of_one, event_of_two = await one.call("secret of one"), await two.call("secret of two")
        return [await one.resume(event_of_one), await two.resume(event_of_two), await two.resume(event_of_one)]


async def test_no_client_is_replayed_the_messages_of_another(helix: Helix) -> None:
    manager = session_manager(server(), HelixEventStore(helix))
    assert await two_clients(manager) == [["secret of one"], ["secret of two"], []]


async def test_the_plain_session_manager_would_replay_them(server_url: str) -> None:
    async with connect(server_url) as helix:
        plain = StreamableHTTPSessionManager(server()._lowlevel_server, HelixEventStore(helix))
        assert (await two_clients(plain))[2] != []


async def test_fastmcp_resumes_and_keeps_sessions_apart(server_url: str) -> None:
    from fastmcp import FastMCP

    made: Any = FastMCP("notes")

    @made.tool
    async def secret(text: str) -> str:
        """Answer with a text."""
        return text

    async with connect(server_url) as helix:
        app = made.http_app(path="/mcp", event_store=HelixEventStore(helix), retry_interval=2000)
        async with serve(app, lifespan="on") as address, httpx.AsyncClient(timeout=60) as http:
            one, two = Session(http, f"{address}/mcp"), Session(http, f"{address}/mcp")
            await one.open()
            await two.open()
            event = await one.call("secret of one")
            assert await one.resume(event) == ["secret of one"]
            assert await two.resume(event) == []
