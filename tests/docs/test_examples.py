"""The programs under `examples/` do what they say, on a real server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helix_fast import connect

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 30


def program(name: str, url: str, *arguments: str) -> list[str]:
    """What an example prints, run as a program."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env={**os.environ, "HELIX_URL": url},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_worker_that_was_replaced_changes_nothing(server_url: str) -> None:
    results = "['step 1 by first', 'step 2 by second', 'step 3 by second']"
    assert program("worker.py", server_url) == [
        "second: took over",
        "first: refused, stale_fencing_token; its lock is lost",
        f"completed {results}",
        results,
    ]


def test_usage_report_counts_every_entry_once(server_url: str) -> None:
    printed = program("usage_report.py", server_url, "--sample")
    assert printed[-1] == "all: 2,150 tokens"
    assert printed == program("usage_report.py", server_url, "--sample")
    (tools,) = [line for line in printed if "tools" in line]
    assert tools == "  tools: 2 calls, 1 failed, 200 ms"


def test_usage_report_of_a_session_has_its_sub_agents(server_url: str) -> None:
    printed = program("usage_report.py", server_url, "--sample", "trip", "nobody")
    assert printed[0] == "trip: 2,150 tokens, 6 entries"
    assert printed[-3:] == ["  of that, trip: 1,600", "  of that, trip-hotels: 550", "nobody: no usage"]


def test_agent_that_another_process_stops_goes_on_where_it_was(server_url: str) -> None:
    assert program("agent.py", server_url) == [
        "follower: The ferry leaves at nine…",
        "follower: interrupted",
        "assistant: interrupted",
        "assistant: completed",
        "The ferry leaves at nine. A room with a view of the sea costs ninety. Shall I book both?",
        "facts: a room for 90, ferry at nine; resumed 1 time",
        "models: large, small; sessions: 2",
    ]


class Client:
    """Calls an ASGI app and takes what comes as it comes, which httpx does not."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def call(
        self, method: str, path: str, *, last: str = "", body: bytes = b"", leave_after: int = 0
    ) -> tuple[int, list[str]]:
        """Status, and the body in its parts between blank lines; with ``leave_after`` so many, then hangs up."""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "client": ("test", 1),
            "server": ("test", 80), "headers": [(b"last-event-id", last.encode())] if last else [],
        }  # fmt: skip
        status, text, asked, gone = 0, "", False, asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, text
            status = message.get("status", status)
            text += message.get("body", b"").decode()
            text = text.removeprefix("retry: 500\n\n")
            if leave_after and text.count("\n\n") >= leave_after:
                gone.set()

        await asyncio.wait_for(self.app(scope, receive, send), SECONDS)
        parts = [part for part in text.split("\n\n") if part]
        return status, parts[:leave_after] if leave_after else parts


@pytest.fixture
def sse(server_url: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HELIX_URL", server_url)
    spec = importlib.util.spec_from_file_location("example_sse", EXAMPLES / "sse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def client(sse: ModuleType) -> AsyncIterator[Client]:
    async with sse.app.router.lifespan_context(sse.app):
        yield Client(sse.app)


def position(part: str) -> str:
    return part.splitlines()[0].removeprefix("id: ")


def delta(part: str) -> str:
    return str(json.loads(part.splitlines()[1].removeprefix("data: "))["delta"])


async def test_sse_client_that_drops_out_resumes_behind_its_last_event(sse: ModuleType, client: Client) -> None:
    status, _ = await client.call("POST", "/chats/c", body=b"why?")
    assert status == 202
    seen: list[str] = []
    for _ in range(2):  # both times while the answer is still being written
        _, parts = await client.call("GET", "/chats/c/events", last=position(seen[-1]) if seen else "", leave_after=3)
        seen += parts
    status, parts = await client.call("GET", "/chats/c/events", last=position(seen[-1]))
    *rest, end = parts
    seen += rest
    assert (status, end.splitlines()[0]) == (200, "event: end")
    assert [int(position(part).rpartition(":")[2]) for part in seen] == list(range(1, len(seen) + 1))
    assert "".join(map(delta, seen)) == "".join([token async for token in sse.model("why?")])


async def test_sse_tells_who_cannot_go_on(client: Client, server_url: str) -> None:
    early = asyncio.ensure_future(client.call("GET", "/chats/c/events"))
    await asyncio.sleep(0.05)
    assert (await client.call("POST", "/chats/c", body=b"why?"))[0] == 202
    assert (await client.call("POST", "/chats/c", body=b"why?"))[0] == 409
    assert (await client.call("GET", "/chats/c/events", last="nonsense"))[0] == 400
    _, parts = await client.call("GET", "/chats/c/events")
    assert await early == (200, parts), "a client that came first waited for the stream"
    async with connect(server_url) as helix:
        epoch = await helix.streams.reset_stream("c")
    (reset,) = (await client.call("GET", "/chats/c/events", last=position(parts[2]), leave_after=1))[1]
    assert reset.startswith(f'id: {epoch}:0\nevent: reset\ndata: {{"code":"stream_reset"')


async def test_sse_tells_that_the_agent_failed(
    sse: ModuleType, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_question: str) -> AsyncIterator[str]:
        yield "Well, "
        raise RuntimeError("the model is out of words")

    monkeypatch.setattr(sse, "model", broken)
    await client.call("POST", "/chats/c", body=b"why?")
    answers = list(sse.app.state.running)
    _, parts = await client.call("GET", "/chats/c/events")
    await asyncio.gather(*answers, return_exceptions=True)
    assert delta(parts[0]) == "Well, "
    assert parts[-1].startswith('event: failed\ndata: {"code":"stream_failed"')
    assert "out of words" in parts[-1]
