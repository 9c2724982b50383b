"""The endpoints of an executor's runs, in each protocol, over HTTP: mapped, resumed, refused, stopped, authorized."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from helix_fast import Helix, InvalidArgumentError, connect
from helix_fast.agents import AgentExecutor, FunctionAdapter, Messages, Output
from helix_fast.integrations.starlette import allow_all, routes
from tests.integrations.test_ag_ui import check, ids
from tests.support.web import events, serve
from tests.support.web_clients import need, node

ANSWER = [
    "Let me ",
    "see. ",
    {"type": "thinking", "content": "hm", "isComplete": True},
    {"type": "tool_start", "toolCallId": "c1", "toolName": "add", "arguments": {"a": 1}},
    {"type": "tool_end", "toolCallId": "c1", "result": 2, "success": True},
    {"type": "tool_start", "toolCallId": "c2", "toolName": "add"},
    {"type": "tool_end", "toolCallId": "c2", "success": False, "error": "overflow"},
    {"type": "custom", "eventName": "progress", "data": 50},
    {"type": "state_patch", "patches": [{"op": "add", "path": "/n", "value": 2}]},
    {"type": "novelty", "x": 1},
    "It is 2.",
]


class Site:
    """An executor with routes in one protocol; its agent answers ANSWER, and is held before the last word."""

    def __init__(self, helix: Helix, protocol: str, **options: Any) -> None:
        self.helix = helix
        self.held = asyncio.Event()
        self.held.set()
        self.executor = AgentExecutor(helix, FunctionAdapter())
        self.asked: list[str] = []
        settings = {"authorize": self.authorize, "agent_for": lambda _request, _body: self.agent, **options}
        served = routes(self.executor, protocol=protocol, **settings)
        self.app = Starlette(routes=served, lifespan=self.executor.lifespan)
        self.client = httpx.AsyncClient(verify=False, timeout=30)

    async def authorize(self, _request: Request, chat: str) -> bool:
        self.asked.append(chat)
        return not chat.startswith("secret")

    async def agent(self, message: Any, _context: Any) -> AsyncIterator[Any]:
        for item in ANSWER[:-1]:
            yield item
        await self.held.wait()
        yield ANSWER[-1]
        yield Messages([{"role": "assistant", "content": f"re: {message}"}])
        yield Output({"sum": 2})

    async def begun(self, chat: str = "c") -> str:
        for _ in range(3000):
            handle = await self.executor.get_handle(chat)
            info = await self.helix.streams.get_info(handle.stream_id) if handle else None
            if handle is not None and info is not None and info.last_sequence >= len(ANSWER) - 1:
                return handle.stream_id
            await asyncio.sleep(0.01)
        raise AssertionError("no run has begun")


@contextlib.asynccontextmanager
async def site(url: str, protocol: str, **options: Any) -> AsyncIterator[tuple[Site, str]]:
    async with connect(url) as helix:
        made = Site(helix, protocol, **options)
        async with made.client, serve(made.app) as base:
            yield made, base
            made.held.set()


def ui(text: str, chat: str = "c") -> dict[str, Any]:
    return {"id": chat, "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}]}


MAPPED = [
    *("start", "start-step", "text-start", "text-delta", "text-delta", "text-end"),
    *("reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-available", "tool-output-available"),
    *("tool-input-available", "tool-output-error", "data-helix-custom", "data-helix-state-patch", "data-helix-novelty"),
    *("text-start", "text-delta", "text-end", "data-helix-output", "finish-step", "finish"),
]


async def test_run_is_mapped_to_the_chunks_of_vercel_from_any_index(server_url: str) -> None:
    async with site(server_url, "vercel") as (made, base):
        answer = await made.client.post(base + "/api/chat", json=ui("hi"))
        found = events(answer.text)
        assert [chunk["type"] for chunk in found[:-1]] == MAPPED
        assert found[3]["delta"] + found[4]["delta"] == "Let me see. "
        assert found[9] == {"type": "tool-input-available", "toolCallId": "c1", "toolName": "add", "input": {"a": 1}}
        assert found[12] == {"type": "tool-output-error", "toolCallId": "c2", "errorText": "overflow"}
        run = answer.headers["x-workflow-run-id"]
        for index in (0, 1, 7, 20, 22):
            again = await made.client.get(f"{base}/api/chat/{run}/stream?startIndex={index}")
            assert events(again.text) == found[index:]
        other = run.replace("@1.7", "@1.6")
        assert (await made.client.get(f"{base}/api/chat/{other}/stream?startIndex=0")).status_code == 200
        unknown = run.replace("@1.7", "@9.7")
        assert (await made.client.get(f"{base}/api/chat/{unknown}/stream?startIndex=0")).status_code == 404
        assert (await made.client.get(base + "/api/chat/c/stream")).status_code == 204
        state = await made.helix.state.load_state("c")
        assert state is not None
        assert [message.get("content") for message in state.messages] == ["hi", "re: hi"]


async def test_run_is_followed_stopped_and_refused_a_second_message(server_url: str) -> None:
    async with site(server_url, "vercel", on_busy="stop") as (made, base):
        made.held.clear()
        asking = asyncio.ensure_future(made.client.post(base + "/api/chat", json=ui("hi")))
        await made.begun()
        joining = asyncio.ensure_future(made.client.get(base + "/api/chat/c/stream"))
        stopped = await made.client.post(base + "/api/chat/c/stop")
        assert stopped.json()["stopped"]
        first = events((await asking).text)
        assert [chunk["type"] for chunk in first[-4:-1]] == ["abort", "finish-step", "finish"]
        joined = await joining
        assert joined.status_code == 204 or events(joined.text)[-2] == first[-2]
        asking = asyncio.ensure_future(made.client.post(base + "/api/chat", json=ui("hi")))
        while (await made.client.post(base + "/api/chat/c/stop")).json()["stopped"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        made.held.set()
        last = events((await made.client.post(base + "/api/chat", json=ui("again"))).text)
        assert last[-1] == "[DONE]"
        await asking
    async with site(server_url, "vercel") as (made, base):
        made.held.clear()
        asking = asyncio.ensure_future(made.client.post(base + "/api/chat", json=ui("hi", "d")))
        await made.begun("d")
        assert (await made.client.post(base + "/api/chat", json=ui("hi", "d"))).status_code == 409
        made.held.set()
        assert events((await asking).text)[-1] == "[DONE]"


async def test_run_is_mapped_to_events_of_ag_ui_from_any_id(server_url: str) -> None:
    async with site(server_url, "ag-ui") as (made, base):
        body = {"threadId": "t", "runId": "r1", "messages": [{"id": "u", "role": "user", "content": "hi"}]}
        answer = await made.client.post(base + "/agent", json=body)
        found = events(answer.text)
        check(found)
        assert [event["type"] for event in found] == [
            *("RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
            *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END"),
            *("REASONING_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"),
            *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT", "CUSTOM", "STATE_DELTA"),
            *("CUSTOM", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"),
        ]
        assert found[-1]["result"] == {"sum": 2}
        positions = ids(answer.text)
        assert len(positions) == len(found)
        for number, position in enumerate(positions[:-1]):
            rest = await made.client.get(base + "/agent/t/stream", headers={"Last-Event-ID": position})
            assert events(rest.text) == found[number + 1 :], position
        for last in (positions[-1], "", "0123456789abcdef/e:1"):
            headers = {"Last-Event-ID": last} if last else {}
            assert (await made.client.get(base + "/agent/t/stream", headers=headers)).status_code == 204
        again = await made.client.post(base + "/agent", json=body)
        assert events(again.text) == found, "the same run, sent again"


async def test_our_own_protocol_begins_a_run_and_resumes_its_events(server_url: str) -> None:
    async with site(server_url, "helix") as (made, base):
        begun = await made.client.post(base + "/runs", json={"session": "c", "message": "hi"})
        assert begun.status_code == 202
        answer = await made.client.get(base + "/runs/c/stream")
        found = events(answer.text)
        assert found[0]["delta"] == "Let me "
        assert answer.text.endswith("event: end\ndata: {}\n\n")
        third = ids(answer.text)[2]
        rest = await made.client.get(base + "/runs/c/stream", headers={"Last-Event-ID": third})
        assert events(rest.text) == found[3:]
        assert (await made.client.get(base + "/runs/none/stream")).status_code == 204
        assert (await made.client.post(base + "/runs/c/stop")).json() == {"stopped": None}


@pytest.mark.parametrize("protocol", ["helix", "vercel", "ag-ui"])
async def test_who_may_see_a_chat_is_asked_before_anything_is_read(server_url: str, protocol: str) -> None:
    async with site(server_url, protocol, path="/x") as (made, base):
        body = {**ui("hi", "secret"), "threadId": "secret", "runId": "r", "session": "secret", "message": "hi"}
        requests = [
            made.client.post(base + "/x", json=body),
            made.client.get(base + "/x/secret/stream"),
            made.client.get(base + "/x/secret:0123456789abcdef@1.7/stream?startIndex=0"),
            made.client.post(base + "/x/secret/stop"),
        ]
        for request in requests:
            assert (await request).status_code == 403
        assert {chat.partition(":")[0] for chat in made.asked} == {"secret"}
        if protocol == "vercel":
            assert set(made.asked) == {"secret"}, "a run's chat"
        assert not await made.helix.state.session_exists("secret")
        for bad in (b"{", b"[]", b"{}"):
            assert (await made.client.post(base + "/x", content=bad)).status_code == 400
        assert (await made.client.get(base + "/x/a%7Bb%7D/stream")).status_code == 400


async def test_nobody_is_let_in_by_default(server_url: str) -> None:
    async with connect(server_url) as helix:
        executor = AgentExecutor(helix)
        agent_for = lambda _request, _body: None  # noqa: E731
        with pytest.raises(InvalidArgumentError) as raised:
            routes(executor, agent_for=agent_for, authorize=None)  # type: ignore[arg-type]
        assert "allow_all" in str(raised.value.hint)
        assert len(routes(executor, agent_for=agent_for, authorize=allow_all)) == 3
        for options in ({"protocol": "soap"}, {"on_busy": "wait"}, {"protocol": "vercel", "sdk_version": 4}):
            with pytest.raises(InvalidArgumentError):
                routes(executor, agent_for=agent_for, authorize=allow_all, **options)  # type: ignore[arg-type]


@pytest.mark.web
@pytest.mark.slow
@pytest.mark.parametrize(
    "sdk", [pytest.param(5, marks=pytest.mark.thorough), pytest.param(6, marks=pytest.mark.thorough), 7]
)
async def test_real_client_takes_a_mapped_run(server_url: str, sdk: int) -> None:
    need(f"ai{sdk}")
    async with site(server_url, "vercel", sdk_version=sdk) as (_made, base), node() as clients:
        await clients("chat", name="a", sdk=sdk, api=base + "/api/chat", chat="c")
        await clients("send", name="a", text="hi")
        ended = await clients("status", name="a", status=["ready", "error"])
        assert (ended["status"], ended["error"]) == ("ready", None)
        parts = ended["messages"][-1]["parts"]
        assert "".join(part["text"] for part in parts if part["type"] == "text") == "Let me see. It is 2."
        assert [part["state"] for part in parts if part["type"] == "tool-add"] == ["output-available", "output-error"]


@pytest.mark.web
@pytest.mark.slow
async def test_real_client_of_ag_ui_takes_a_mapped_run(server_url: str) -> None:
    need("@ag-ui/client")
    async with site(server_url, "ag-ui") as (_made, base), node() as clients:
        await clients("agui", name="a", url=base + "/agent", thread="t", text="hi")
        ended = await clients("agui_events", name="a")
        assert ended["error"] is None
        contents = [message.get("content") for message in ended["messages"] if message["role"] == "assistant"]
        assert "It is 2." in contents
