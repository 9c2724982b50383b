"""AG-UI over HTTP: what is stored, sent, joined, refused and stopped, checked by ag-ui-validate and its client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helix_fast import Helix, InvalidArgumentError, connect
from helix_fast.integrations.ag_ui import AGUIStreams
from tests.support.chat_site import ChatSite, text
from tests.support.web import events, serve
from tests.support.web_clients import Node, need, node, post, site_process

thorough = pytest.mark.thorough
INPUT = {"threadId": "t", "runId": "r", "messages": [], "tools": [], "context": [], "state": {}, "forwardedProps": {}}
IDS = {"threadId": "t", "runId": "r"}
HELLO = [
    {"type": "RUN_STARTED", **IDS},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hel"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "lo"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "RUN_FINISHED", **IDS},
]


def check(found: list[Any]) -> None:
    """Fail where a client would refuse the events."""
    pytest.importorskip("ag_ui_validate.pytest_plugin").assert_valid_agui(found)


def ids(answer: str) -> list[str]:
    return [line[4:] for line in answer.splitlines() if line.startswith("id: ")]


class Site:
    """An app with the three routes, and its producers by name in ``forwardedProps``."""

    def __init__(self, helix: Helix) -> None:
        self.helix = helix
        self.runs = AGUIStreams(helix.streams)
        self.go_on = asyncio.Event()
        self.producers: dict[str, Callable[[], Any]] = {"hello": self.hello, "slow": self.slow}
        self.client = httpx.AsyncClient(verify=False, timeout=30)
        self.url = ""
        self.app = Starlette(
            routes=[
                Route("/agent", self.run, methods=["POST"]),
                Route("/agent/{thread:path}/stream", self.join),
                Route("/agent/{thread:path}/stop", self.stop, methods=["POST"]),
            ]
        )

    async def hello(self) -> AsyncIterator[Any]:
        for event in HELLO:
            yield event

    async def slow(self) -> AsyncIterator[Any]:
        for event in HELLO[:3]:
            yield event
        await self.go_on.wait()
        for event in HELLO[3:]:
            yield event

    async def run(self, request: Request) -> Response:
        body = await request.json()
        return await self.runs.start(request, body, self.producers[body["forwardedProps"]["what"]]())

    async def join(self, request: Request) -> Response:
        return await self.runs.join(request, request.path_params["thread"])

    async def stop(self, request: Request) -> Response:
        return await self.runs.stop(request.path_params["thread"])

    async def ask(self, what: str, **more: Any) -> httpx.Response:
        return await self.client.post(self.url + "/agent", json={**INPUT, "forwardedProps": {"what": what}, **more})

    async def begun(self) -> str:
        """The thread's run, when its first events are stored."""
        for _ in range(3000):
            run = await self.runs.runs.pointer("t")
            info = await self.helix.streams.get_info(run) if run else None
            if info is not None and info.last_sequence > 1:
                return run
            await asyncio.sleep(0.01)
        raise AssertionError("no run has begun")

    async def get(self, last: str = "", thread: str = "t") -> httpx.Response:
        headers = {"Last-Event-ID": last} if last else {}
        return await self.client.get(f"{self.url}/agent/{thread}/stream", headers=headers)


@contextlib.asynccontextmanager
async def site(url: str) -> AsyncIterator[Site]:
    async with connect(url) as helix:
        made = Site(helix)
        async with made.runs, made.client, serve(made.app) as made.url:
            yield made
            made.go_on.set()


async def test_events_are_sent_as_they_are_stored_each_with_its_position(server_url: str) -> None:
    async with site(server_url) as made:
        answer = await made.ask("hello")
        assert events(answer.text) == HELLO
        check(events(answer.text))
        positions = ids(answer.text)
        assert len(set(positions)) == len(HELLO)
        assert (await made.get()).status_code == 204, "nothing goes on"
        for number, position in enumerate(positions[:-1]):
            rest = await made.get(position)
            assert events(rest.text) == HELLO[number + 1 :]
            assert ids(rest.text) == positions[number + 1 :]
        assert (await made.get(positions[-1])).status_code == 204, "an EventSource must not come back for ever"
        run = answer.headers["x-workflow-run-id"]
        assert events((await made.get(thread=run)).text) == HELLO, "a run that is over, from its start"
        await made.ask("hello", runId="r2")
        assert events((await made.get(positions[2])).text) == HELLO[3:], "each client gets the rest of its own run"


async def test_joining_gets_everything_and_then_what_comes(server_url: str) -> None:
    async with site(server_url) as made:
        asking = asyncio.ensure_future(made.ask("slow"))
        run = await made.begun()
        joining = asyncio.ensure_future(made.get(thread=run))
        assert (await made.ask("hello")).status_code == 409
        made.go_on.set()
        assert events((await joining).text) == HELLO
        assert events((await asking).text) == HELLO


async def test_order_that_clients_accept_whatever_the_producer_leaves_out(server_url: str) -> None:
    async def careless() -> AsyncIterator[Any]:
        yield {"type": "STEP_STARTED", "stepName": "s"}
        yield {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "n"}
        yield {"type": "THINKING_START"}
        yield 'data: {"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}\n\n'

    async def broken() -> AsyncIterator[Any]:
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        raise RuntimeError("hunter2")

    async with site(server_url) as made:
        made.producers |= {"careless": careless, "broken": broken}
        found = events((await made.ask("careless")).text)
        check(found)
        assert [event["type"] for event in found] == [
            *("RUN_STARTED", "STEP_STARTED", "TOOL_CALL_START", "CUSTOM", "TEXT_MESSAGE_START"),
            *("TEXT_MESSAGE_END", "TOOL_CALL_END", "STEP_FINISHED", "RUN_FINISHED"),
        ]
        found = events((await made.ask("broken")).text)
        check(found)
        assert found[-1] == {"type": "RUN_ERROR", "message": "An error occurred."}


async def test_stop_ends_the_run_as_cancelled(server_url: str) -> None:
    async with site(server_url) as made, connect(server_url) as elsewhere:
        assert (await AGUIStreams(elsewhere.streams).stop("t")).body == b'{"stopped":null}'
        asking = asyncio.ensure_future(made.ask("slow"))
        await made.begun()
        assert b"null" not in (await AGUIStreams(elsewhere.streams).stop("t")).body
        found = events((await asking).text)
        check(found)
        assert found[-1] == {"type": "RUN_FINISHED", **IDS, "outcome": {"type": "cancelled"}}


async def test_what_makes_no_sense_is_refused(server_url: str) -> None:
    async with site(server_url) as made:
        assert (await made.ask("hello", threadId=7)).status_code == 400
        assert (await made.ask("hello", threadId="a{b}")).status_code == 400
        for last in ("x", "zz/e:1", "0123456789abcdef/x"):
            assert (await made.get(last)).status_code == 400
        assert (await made.get("0123456789abcdef/e:1")).status_code == 204
        assert (await made.get(thread="t:run-0123456789abcdef")).status_code == 404
        with pytest.raises(InvalidArgumentError):
            AGUIStreams(made.helix.streams, lease_ms=1)


@contextlib.asynccontextmanager
async def clients_of(url: str, **pace: Any) -> AsyncIterator[tuple[Node, ChatSite, str]]:
    need("@ag-ui/client")
    async with connect(url) as helix:
        made = ChatSite(helix)
        vars(made).update(pace)
        async with serve(made.app) as made.address, node() as clients:
            yield clients, made, made.address + "/agent"


@pytest.mark.web
@pytest.mark.slow
async def test_client_of_the_protocol_gets_the_text_by_a_run_and_by_joining(server_url: str) -> None:
    async with clients_of(server_url, words=60, pause=0.001, hold=30) as (clients, made, url):
        await clients("agui", name="a", url=url, thread="t", text="hello")
        await clients("agui_events", name="a", count=20)
        await clients("agui", name="b", url=url + "/t/stream", thread="t", get=True)
        await clients("agui_events", name="b", count=20)
        made.released.set()
        for name in ("a", "b"):
            ended = await clients("agui_events", name=name)
            assert ended["error"] is None
            check(ended["events"])
            assert ended["messages"][-1]["content"] == text(60)


@pytest.mark.web
@pytest.mark.slow
@thorough
async def test_client_of_the_protocol_learns_of_a_stop_and_of_a_process_that_died(server_url: str) -> None:
    need("@ag-ui/client")
    with site_process(server_url, WORDS="100000") as dies, site_process(server_url) as lives:
        await dies.start()
        await lives.start()
        async with node() as clients:
            await clients("agui", name="a", url=dies.url + "/agent", thread="t", text="hello")
            await clients("agui_events", name="a", count=20)
            await clients("agui", name="b", url=lives.url + "/agent/t/stream", thread="t", get=True)
            await clients("agui_events", name="b", count=20)
            dies.kill()
            ended = await clients("agui_events", name="b")
            assert ended["events"][-1]["message"] == "The answer was interrupted."
            check(ended["events"])
            await clients("agui", name="c", url=lives.url + "/agent", thread="t", text="again")
            await clients("agui_events", name="c", count=5)
            await post(lives.url + "/agent/t/stop")
            ended = await clients("agui_events", name="c")
            assert ended["events"][-1]["outcome"] == {"type": "cancelled"}
            assert ended["error"] is None
