"""Chats for useChat over HTTP: what is stored, sent, resumed, refused and stopped. Its real clients: web/."""

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
from helix_fast.integrations.chats import Run
from helix_fast.integrations.vercel import ChatStreams
from helix_fast.testing.waiting import until
from tests.support.web import events, serve

STREAM = "/api/chat/c/stream"
HELLO = [
    {"type": "start", "messageId": "m1"},
    {"type": "text-start", "id": "t"},
    {"type": "text-delta", "id": "t", "delta": "Hel"},
    {"type": "text-delta", "id": "t", "delta": "lo"},
    {"type": "text-end", "id": "t"},
    {"type": "finish"},
]


class Site:
    """An app with one chat route each, and its producers by name in the body."""

    def __init__(self, helix: Helix, **options: Any) -> None:
        self.helix = helix
        self.chats = ChatStreams(helix.streams, **options)
        self.go_on = asyncio.Event()
        self.on_busy = "refuse"
        self.cancelled = 0
        self.producers: dict[str, Callable[[], Any]] = {
            "hello": self.hello,
            "slow": self.slow,
            "knows": lambda: self.knows,
        }
        self.app = Starlette(
            routes=[
                Route("/api/chat", self.post, methods=["POST"]),
                Route("/api/chat/{chat:path}/stream", self.resume),
                Route("/api/chat/{chat:path}/stop", self.stop, methods=["POST"]),
            ]
        )
        self.url = ""
        self.client = httpx.AsyncClient(verify=False)

    async def hello(self) -> AsyncIterator[Any]:
        for chunk in HELLO:
            yield chunk

    async def slow(self) -> AsyncIterator[Any]:
        try:
            for chunk in HELLO[:3]:
                yield chunk
            await self.go_on.wait()
            for chunk in HELLO[3:]:
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def knows(self, run: Run) -> AsyncIterator[Any]:
        yield {"type": "text-start", "id": "t"}
        await run.stop_requested.wait()
        yield {"type": "text-delta", "id": "t", "delta": "stopping"}

    async def post(self, request: Request) -> Response:
        body = await request.json()
        made = self.producers[body["what"]]()
        return await self.chats.start(request, body["id"], made, message_id=body.get("message"), on_busy=self.on_busy)

    async def resume(self, request: Request) -> Response:
        return await self.chats.resume(request, request.path_params["chat"])

    async def stop(self, request: Request) -> Response:
        return await self.chats.stop(request.path_params["chat"], run_id=request.query_params.get("run"))

    async def ask(self, what: str, chat: str = "c", **more: Any) -> httpx.Response:
        return await self.client.post(self.url + "/api/chat", json={"id": chat, "what": what, **more}, timeout=30)

    async def get(self, path: str = STREAM) -> httpx.Response:
        return await self.client.get(self.url + path, timeout=30)

    async def following(self, path: str = STREAM) -> asyncio.Task[str]:
        """A GET whose response has begun; its whole text comes later."""
        begun = asyncio.get_running_loop().create_future()

        async def follow() -> str:
            text = ""
            async with self.client.stream("GET", self.url + path, timeout=30) as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_text():
                    text += part
                    if not begun.done():
                        begun.set_result(None)
            return text

        following = asyncio.ensure_future(follow())
        await asyncio.wait((following, begun), return_when=asyncio.FIRST_COMPLETED)
        return following

    async def chunks(self, run: str) -> int:
        info = await self.helix.streams.get_info(run)
        return info.last_sequence - 1 if info is not None else 0


@contextlib.asynccontextmanager
async def site(url: str, **options: Any) -> AsyncIterator[Site]:
    async with connect(url) as helix:
        made = Site(helix, **options)
        async with made.chats, made.client, serve(made.app) as made.url:
            yield made
            made.go_on.set()


async def begun(
    made: Site, what: str = "slow", chat: str = "c", stored: int = 3
) -> tuple[asyncio.Task[httpx.Response], str]:
    """A request whose run goes on, and the run."""
    asking = asyncio.ensure_future(made.ask(what, chat))
    run = ""
    for _ in range(3000):
        run = await made.chats.runs.pointer(chat)
        if run and not run.startswith("?") and await made.chunks(run) >= stored:
            return asking, run
        await asyncio.sleep(0.01)
    raise AssertionError("no run has begun")


async def test_answer_is_sent_as_it_is_stored_and_ends_with_done(server_url: str) -> None:
    async with site(server_url) as made:
        answer = await made.ask("hello")
        assert events(answer.text) == [*HELLO, "[DONE]"]
        assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert answer.headers["content-type"].startswith("text/event-stream")
        run = answer.headers["x-workflow-run-id"]
        assert made.chats.chat_of(run) == "c"
        assert (await made.get()).status_code == 204, "nothing is active any more"
        assert (await made.get("/api/chat/never/stream")).status_code == 204
        assert events((await made.get(f"/api/chat/{run}/stream?startIndex=0")).text) == [*HELLO, "[DONE]"]
        first = await made.helix.resumable.read_from(run, limit=1)
        assert first[0].chunk.data == {"type": "ui", "protocol": "vercel", "version": 1, "sdkVersion": 7}


async def test_reload_gets_all_from_the_first_chunk_and_then_what_comes(server_url: str) -> None:
    async with site(server_url) as made:
        asking, _run = await begun(made)
        asking.cancel()  # the page is closed
        again = await made.following()
        made.go_on.set()
        assert events(await again) == [*HELLO, "[DONE]"]
        assert made.cancelled == 0


async def test_deltas_of_a_replay_are_one_and_those_of_a_counting_client_are_not(server_url: str) -> None:
    async def many() -> AsyncIterator[Any]:
        yield {"type": "text-start", "id": "t"}
        for number in range(500):
            yield {"type": "text-delta", "id": "t", "delta": f"{number} "}
        yield {"type": "text-delta", "id": "t", "delta": "!", "providerMetadata": {"a": {}}}
        yield {"type": "reasoning-start", "id": "t"}
        yield {"type": "reasoning-delta", "id": "t", "delta": "x"}
        await made.go_on.wait()

    async with site(server_url) as made:
        made.producers["many"] = many
        asking, run = await begun(made, "many", stored=505)
        replay = await made.following()
        counting = await made.following(f"/api/chat/{run}/stream?startIndex=2")
        made.go_on.set()
        whole = events((await asking).text)
        short = events(await replay)
        text = "".join(map("{} ".format, range(500)))
        deltas = [chunk["delta"] for chunk in short[:-1] if chunk["type"] == "text-delta"]
        assert "".join(deltas) == text + "!"
        assert len(short) < 20
        assert [chunk["type"] for chunk in short[-5:-1]] == [
            "text-delta",
            "reasoning-start",
            "reasoning-delta",
            "finish",
        ]
        assert events(await counting) == whole[2:]
        assert len(whole) == 507


@pytest.mark.parametrize(("index", "first", "tail"), [("4", 4, None), ("-2", 4, "5"), ("-99", 0, "5"), ("6", 6, None)])
async def test_ended_run_is_sent_from_any_index(server_url: str, index: str, first: int, tail: str | None) -> None:
    async with site(server_url) as made:
        run = (await made.ask("hello")).headers["x-workflow-run-id"]
        answer = await made.get(f"/api/chat/{run}/stream?startIndex={index}")
        assert events(answer.text) == [*HELLO[first:], "[DONE]"]
        assert answer.headers.get("x-workflow-stream-tail-index") == tail
        assert (await made.get(f"/api/chat/{run}/stream?startIndex=x")).status_code == 400
        assert (await made.get("/api/chat/c:run-0123456789abcdef/stream?startIndex=0")).status_code == 404
        assert (await made.get("/api/chat/c/stream?startIndex=0")).status_code == 204


async def test_second_message_while_one_is_answered_is_refused_or_stops_it(server_url: str) -> None:
    async with site(server_url) as made:
        asking, run = await begun(made)
        assert (await made.ask("hello")).status_code == 409
        assert (await made.ask("hello", "other")).status_code == 200
        made.on_busy = "stop"
        assert events((await made.ask("hello")).text) == [*HELLO, "[DONE]"]
        stopped = events((await asking).text)
        assert stopped[3:] == [{"type": "abort"}, {"type": "finish", "finishReason": "interrupted"}, "[DONE]"]
        assert made.cancelled == 1
        assert await made.chats.runs.pointer("c") != run


async def test_of_many_messages_at_once_one_is_answered(server_url: str) -> None:
    async with site(server_url) as made:
        asked = [asyncio.ensure_future(made.ask("slow")) for _ in range(8)]
        refused = lambda: [task for task in asked if task.done() and task.result().status_code == 409]  # noqa: E731
        await until(lambda: len(refused()) == 7)
        made.go_on.set()
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]


async def test_stop_reaches_the_producer_from_another_process(server_url: str) -> None:
    async with site(server_url) as made, connect(server_url) as elsewhere:
        chats = ChatStreams(elsewhere.streams)
        assert (await chats.stop("c")).body == b'{"stopped":null}'
        asking, run = await begun(made)
        other = "c:run-0123456789abcdef"
        assert (await chats.stop("c", run_id=other)).body == b'{"stopped":null}', "not the run that was meant"
        assert (await chats.stop("c", run_id="d:run-0123456789abcdef")).status_code == 400
        assert (await chats.stop("c")).body == b'{"stopped":"%s"}' % run.encode()
        assert events((await asking).text)[-3:-1] == [
            {"type": "abort"},
            {"type": "finish", "finishReason": "interrupted"},
        ]
        await until(lambda: made.cancelled == 1)
        assert (await made.get()).status_code == 204
        info = await made.helix.streams.get_info(run)
        assert info is not None
        assert (info.status, info.output) == ("ended", {"stopped": True})


async def test_producer_that_knows_its_run_ends_by_itself(server_url: str) -> None:
    async with site(server_url) as made:
        asking, _run = await begun(made, "knows", stored=2)
        await made.chats.stop("c")
        start, _, text, abort, *_ = events((await asking).text)
        assert start["messageId"].startswith("msg-")
        assert (text["delta"], abort) == ("stopping", {"type": "abort"})


async def test_exception_of_a_producer_is_told_without_its_text(server_url: str) -> None:
    async def broken() -> AsyncIterator[Any]:
        yield {"type": "text-start", "id": "t"}
        raise RuntimeError("password hunter2")

    async with site(server_url) as made:
        made.producers["broken"] = broken
        answer = await made.ask("broken")
        end = [
            {"type": "error", "errorText": "An error occurred."},
            {"type": "finish", "finishReason": "error"},
            "[DONE]",
        ]
        assert events(answer.text)[2:] == end
        run = answer.headers["x-workflow-run-id"]
        assert events((await made.get(f"/api/chat/{run}/stream?startIndex=2")).text) == end
        assert events((await made.get(f"/api/chat/{run}/stream?startIndex=3")).text) == end[1:]
        info = await made.helix.streams.get_info(run)
        assert info is not None
        assert (info.status, info.error) == ("failed", "RuntimeError: password hunter2"), "for who inspects it"


@pytest.mark.parametrize("version", [5, 6, 7])
async def test_only_types_that_the_client_knows_are_sent(server_url: str, version: int) -> None:
    async def odd() -> AsyncIterator[Any]:
        yield {"type": "reset-step"}
        yield {"type": "novelty", "x": 1}
        yield {"type": "data-mine", "data": 1}
        yield {"type": "finish", "finishReason": "interrupted"}

    async with site(server_url, sdk_version=version) as made:
        made.producers["odd"] = odd
        start, reset, novelty, mine, finish, done = events((await made.ask("odd", message="m9")).text)
        hidden = {"type": "data-helix-chunk", "data": {"type": "reset-step"}, "transient": True}
        assert start == {"type": "start", "messageId": "m9"}
        assert reset == ({"type": "reset-step"} if version == 7 else hidden)
        assert novelty == {"type": "data-helix-chunk", "data": {"type": "novelty", "x": 1}, "transient": True}
        assert mine == {"type": "data-mine", "data": 1}
        assert finish == {"type": "finish", "finishReason": "interrupted" if version == 7 else "other"}
        assert done == "[DONE]"


async def test_text_of_events_and_models_are_taken_too(server_url: str) -> None:
    class Model:
        def model_dump(self, **_: Any) -> Any:
            return {"type": "text-end", "id": "t"}

    async def text() -> AsyncIterator[Any]:
        yield 'data: {"type":"text-start","id":"t"}\n\ndata: {"type":"text-d'
        yield 'elta","id":"t","delta":"é"}\r\n\r\n: beat\n\n'
        yield Model()
        yield b"data: [DONE]\n\n"

    async with site(server_url) as made:
        made.producers["text"] = text
        start, *rest, finish, done = events((await made.ask("text")).text)
        assert start["type"] == "start"
        assert rest == [HELLO[1], {"type": "text-delta", "id": "t", "delta": "é"}, HELLO[4]]
        assert (finish, done) == ({"type": "finish", "finishReason": "stop"}, "[DONE]")


async def test_what_is_no_chunk_ends_the_answer_with_an_error(server_url: str) -> None:
    async def wrong() -> AsyncIterator[Any]:
        yield {"kind": "text"}

    async with site(server_url) as made:
        made.producers["wrong"] = wrong
        assert events((await made.ask("wrong")).text)[-3]["type"] == "error"


async def test_reload_before_the_first_chunk_waits_for_it(server_url: str) -> None:
    async with site(server_url) as made:
        runs = made.chats.runs
        run = "c:run-0123456789abcdef"
        assert await runs._claim("c", "", "?" + run, 30_000) == "?" + run  # a POST that has come just so far
        waiting = asyncio.ensure_future(made.get())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert (await made.ask("hello")).status_code == 409
        async with await made.helix.streams.create_writer(run, "a", lease_ms=15_000) as writer:
            await writer.write({"type": "ui", "chunk": HELLO[0]})
        await made.helix.streams.end_stream(run)
        assert events((await waiting).text)[0] == HELLO[0]


async def test_claim_of_a_process_that_died_at_once_does_not_last(server_url: str) -> None:
    async with site(server_url, wait_ms=50) as made:
        assert await made.chats.runs._claim("c", "", "?c:run-0123456789abcdef", 400)
        assert (await made.get()).status_code == 204
        for _ in range(3000):
            if (answer := await made.ask("hello")).status_code != 409:
                break
            await asyncio.sleep(0.01)
        assert answer.status_code == 200


async def test_long_answer_is_kept_whole_whatever_the_manager_trims(server_url: str) -> None:
    async def long() -> AsyncIterator[Any]:
        yield {"type": "text-start", "id": "t"}
        for number in range(3_000):
            yield {"type": "text-delta", "id": "t", "delta": f"{number} "}

    async with connect(server_url, streams={"max_stream_length": 100}) as helix:
        made = Site(helix)
        made.producers["long"] = long
        async with made.chats, made.client, serve(made.app) as made.url:
            run = (await made.ask("long")).headers["x-workflow-run-id"]
            replay = events((await made.get(f"/api/chat/{run}/stream?startIndex=0")).text)
    assert len(replay) == 3_004
    assert "".join(chunk.get("delta", "") for chunk in replay[:-1]) == "".join(map("{} ".format, range(3_000)))


async def test_closing_ends_the_runs_of_the_process(server_url: str) -> None:
    async with site(server_url) as made:
        asking, run = await begun(made)
        await made.chats.close()
        error, finish, done = events((await asking).text)[3:]
        assert (error["errorText"], finish["finishReason"], done) == ("The answer was interrupted.", "error", "[DONE]")
        assert (await made.ask("hello")).status_code == 400
        info = await made.helix.streams.get_info(run)
        assert info is not None
        assert info.status == "failed"


async def test_ids_that_make_no_sense_are_refused(server_url: str) -> None:
    async with site(server_url) as made:
        assert (await made.ask("hello", "a{b}")).status_code == 400
        assert (await made.ask("hello", "c:run-0123456789abcdef")).status_code == 400
        assert (await made.get("/api/chat/a%7Bb%7D/stream")).status_code == 400
        assert events((await made.ask("hello", "a/b c")).text)[-1] == "[DONE]"
    for options in ({"sdk_version": 4}, {"lease_ms": 1}, {"wait_ms": -1}):
        with pytest.raises(InvalidArgumentError):
            ChatStreams(made.helix.streams, **options)
