"""What a stranger can send over HTTP or make grow has a limit, and a stream of bytes is never taken for a command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from helix_fast import Helix, InvalidIdError, connect
from helix_fast.agents import AgentExecutor, FunctionAdapter
from helix_fast.codec import ChunkEncoder
from helix_fast.integrations.ag_ui_events import AGUIEvents
from helix_fast.integrations.ag_ui_mapping import AGUIMapping
from helix_fast.integrations.starlette import allow_all, routes
from helix_fast.keys import MAX_ID_BYTES
from helix_fast.streams.lines import Lines
from tests.support.sse import Connection, write

LIMIT = 10_000
LONG = "x" * 100_000


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


async def agent(_message: Any, _context: Any) -> AsyncIterator[str]:
    yield "ok"


def client_of(helix: Helix, protocol: Any) -> tuple[AgentExecutor, httpx.AsyncClient]:
    executor = AgentExecutor(helix, FunctionAdapter())
    app = Starlette(
        routes=routes(
            executor, protocol=protocol, path="/x", agent_for=lambda _request, _body: agent, authorize=allow_all,
            max_body_bytes=LIMIT,
        )
    )  # fmt: skip
    return executor, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def body_of(size: int) -> dict[str, Any]:
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "x" * size}]}
    return {"id": "c", "messages": [message], "threadId": "c", "runId": "r", "session": "c", "message": "x" * size}


@pytest.mark.parametrize("protocol", ["helix", "vercel", "ag-ui"])
async def test_a_body_over_the_limit_is_refused_before_it_is_in_memory(helix: Helix, protocol: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000
            yield b"x" * 1_000

    executor, client = client_of(helix, protocol)
    async with executor, client:
        assert (await client.post("/x", json=body_of(LIMIT))).status_code == 413
        assert not await helix.state.session_exists("c")
        assert (await client.post("/x", json=body_of(1_000))).status_code in (200, 202)
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}

        async def send(message: Any) -> None:
            messages.append(message)

        chunks = endless()
        scope = {
            "type": "http", "method": "POST", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": [],
            "root_path": "", "scheme": "http", "server": ("test", 80), "client": ("test", 1), "http_version": "1.1",
        }  # fmt: skip
        app: Any = client._transport.app  # type: ignore[attr-defined]
        await app(scope, receive, send)
        assert messages[0]["status"] == 413
        assert sent <= LIMIT + 1_000


@pytest.mark.parametrize("protocol", ["helix", "vercel", "ag-ui"])
async def test_a_body_that_is_deep_or_names_an_id_that_is_too_long_is_refused(helix: Helix, protocol: str) -> None:
    executor, client = client_of(helix, protocol)
    async with executor, client:
        deep = b'{"id":' + b"[" * 4_000 + b"]" * 4_000 + b"}"
        assert (await client.post("/x", content=deep)).status_code == 400
        for name in ("x" * (MAX_ID_BYTES + 1), "a\nb", "a{b}", ""):
            body = {**body_of(1), "id": name, "threadId": name, "session": name}
            assert (await client.post("/x", json=body)).status_code == 400, name
        assert (await helix.state.list_sessions()).cursor is None
        assert list(await helix.state.list_sessions()) == []


@pytest.mark.parametrize("last", [LONG, "e:" + "9" * 5_000, "9" * 5_000, "e:1:" + LONG, LONG + ":1"])
async def test_a_last_event_id_of_any_size_is_refused_or_passed_over_in_a_moment(helix: Helix, last: str) -> None:
    await write(helix, "a")
    await helix.streams.end_stream("s")
    connection = Connection(helix.streams, "/s", last=last)
    await connection.all()
    assert connection.status in (200, 400)
    assert len(connection.text) < 2 * len(last) + 2_000


@pytest.mark.parametrize("index", ["9" * 5_000, "-" + "9" * 5_000, "1e9", "٣"])
async def test_a_start_index_of_any_size_is_refused(helix: Helix, index: str) -> None:
    executor, client = client_of(helix, "vercel")
    async with executor, client:
        assert (await client.post("/x", json=body_of(1))).status_code == 200
        answer = await client.get("/x/c:0123456789abcdef@1.7/stream", params={"startIndex": index})
        assert answer.status_code == 400


async def test_ids_have_a_limit_everywhere(helix: Helix) -> None:
    name = "é" * (MAX_ID_BYTES // 2) + "x"
    for call in (
        helix.streams.create_writer(name, agent_id="a"),
        helix.streams.get_info(name),
        helix.state.create_session(name, agent_type="a"),
        helix.usage.record_tokens(name, "m", prompt=1, completion=1),
        helix.locks.acquire(name),
    ):
        with pytest.raises(InvalidIdError):
            await call


def test_an_epoch_in_the_server_does_not_become_an_event_of_ag_ui() -> None:
    events = AGUIEvents("token", lambda _error: "", after=(0, 0), mapping=AGUIMapping("c", "r"))
    body = b"\n".join(ChunkEncoder("a").encode_text("a", 7) for _ in range(2))
    text = b"".join(events.chunks(Lines(body, 2, 0, "e\r\ndata: owned\n\n", ""))).decode()
    assert "\r" not in text
    *frames, last = text.removesuffix("\n\n").split("\n\n")
    assert last.startswith("id: token/-:2\n")
    for frame in frames:
        first, second = frame.split("\n")
        assert (first.partition("+")[0], second[:7]) == ("id: token/-:1", "data: {")
        assert AGUIEvents.after(first.removeprefix("id: "), "token") is not None


@pytest.mark.parametrize("epoch", ["e\r\rdata: owned", "e\n\nevent: end\ndata: {}\n\nid: e"])
async def test_bytes_in_the_server_do_not_become_events(helix: Helix, epoch: str) -> None:
    """Who may write to the server decides what a stream says, but not what our events are."""
    raw = helix.state._requests.command
    key = b"helix:stream:{s}"
    lines = [
        json.dumps({"type": "text_delta", "delta": "a"}).encode(),
        b'{"type":"text_delta","delta":"b\rdata: owned\r\rid: 9:9"}',
        b'{"type":"text_delta",\r"delta":"c"}',
        b'{"type":"text_delta","delta":"d\\r\\ndata: owned"}',
    ]
    for number, line in enumerate(lines, 1):
        await raw("s", b"XADD", key, b"*", b"chunk", line, b"sequence", number)
    await raw("s", b"HSET", key + b":meta", b"status", b"ended", b"epoch", epoch.encode())
    connection = Connection(helix.streams, "/s")
    await asyncio.wait_for(connection.all(), 20)
    events = [event for event in connection.text.replace("\r", "\n").split("\n\n") if event]
    assert [event.partition("\n")[0] for event in events[:-1]] == ["retry: 500", *(f"id: {n}" for n in range(1, 5))]
    assert events[-1] == "event: end\ndata: {}"
    for event in events:
        for line in event.split("\n"):
            assert line.startswith(("id: ", "data: {", "event: ", "retry: ")), line
