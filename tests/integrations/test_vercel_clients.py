"""useChat's real transports and chat, of the npm packages: resumed, stopped, in two tabs, with a producer that dies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import Helix, connect
from tests.support.chat_site import ChatSite, text
from tests.support.web import serve
from tests.support.web_clients import Node, need, node, post, site_process

pytestmark = [pytest.mark.web, pytest.mark.slow]
thorough = pytest.mark.thorough
VERSIONS = [pytest.param(5, marks=thorough), pytest.param(6, marks=thorough), 7]


@contextlib.asynccontextmanager
async def made(url: str, sdk: int, words: int, pause: float) -> AsyncIterator[tuple[Helix, Node, str, ChatSite]]:
    need(f"ai{sdk}")
    async with connect(url) as helix:
        site = ChatSite(helix, sdk_version=sdk)
        site.words, site.pause = words, pause
        async with serve(site.app) as site.address, node() as clients:
            yield helix, clients, site.address + "/api/chat", site


def said(dump: Any) -> tuple[str, list[str]]:
    """The text of the last message, and the ids of the assistant's."""
    answers = [message for message in dump["messages"] if message["role"] == "assistant"]
    parts = answers[-1]["parts"] if answers else []
    return "".join(part["text"] for part in parts if part["type"] == "text"), [answer["id"] for answer in answers]


@pytest.mark.parametrize("sdk", VERSIONS)
async def test_two_tabs_and_a_reload_show_the_same_message(server_url: str, sdk: int) -> None:
    async with made(server_url, sdk, 60, 0.001) as (_helix, clients, api, site):
        site.hold = 30
        await clients("chat", name="a", sdk=sdk, api=api, chat="c")
        await clients("send", name="a", text="hello")
        await clients("text", name="a", length=20)
        asked = (await clients("dump", name="a"))["messages"][:1]
        for name in ("b", "reloaded"):  # they know the question, as from the app's database
            await clients("chat", name=name, sdk=sdk, api=api, chat="c", messages=asked)
            await clients("resume", name=name)
            await clients("text", name=name, length=20)
        site.released.set()
        ended = [await clients("status", name=name, status=["ready", "error"]) for name in ("a", "b", "reloaded")]
        ids = set()
        for dump in ended:
            whole, answers = said(dump)
            assert (dump["status"], dump["error"], whole) == ("ready", None, text(60))
            ids |= {*answers}
        assert len(ids) == 1, "the message has one id in every replay"
        again = await clients("resumed", name="reloaded")
        assert again["requests"][-1]["status"] == 204
        assert said(again) == (text(60), [*ids])
        await clients("send", name="b", text="and again")
        dump = await clients("status", name="b", status=["ready", "error"])
        assert len(said(dump)[1]) == 2


@pytest.mark.parametrize("sdk", VERSIONS)
async def test_stop_after_a_resume_ends_it_in_every_tab(server_url: str, sdk: int) -> None:
    async with made(server_url, sdk, 100_000, 0.01) as (_helix, clients, api, site):
        await clients("chat", name="a", sdk=sdk, api=api, chat="a/b c")
        await clients("send", name="a", text="hello")
        before = await clients("text", name="a", length=20)
        await clients("abort", name="a")  # only the request: the answer goes on
        asked = (await clients("dump", name="a"))["messages"][:1]
        for name in ("b", "c"):
            await clients("chat", name=name, sdk=sdk, api=api, chat="a/b c", messages=asked)
            await clients("resume", name=name)
            await clients("text", name=name, length=len(before) + 20)
        stopped = await post(api + "/a%2Fb%20c/stop")
        assert stopped.json()["stopped"].startswith("a/b c:run-")
        texts = set()
        for name in ("b", "c"):
            dump = await clients("status", name=name, status=["ready", "error"])
            assert (dump["status"], dump["error"]) == ("ready", None)
            texts.add(said(dump)[0])
        assert len(texts) == 1
        assert text(1_000).startswith(texts.pop())
        site.words = 5
        await clients("send", name="c", text="go on")
        dump = await clients("status", name="c", status=["ready", "error"])
        assert said(dump)[0] == text(5)


@thorough
async def test_workflow_transport_goes_on_by_itself_behind_each_cut(server_url: str) -> None:
    need("@ai-sdk/workflow")
    async with made(server_url, 7, 400, 0.01) as (
        _helix,
        clients,
        api,
        site,
    ):  # on a busy machine, too, all cuts hit it
        await clients("chat", name="a", sdk=7, api=api, chat="c", transport="workflow")
        await clients("send", name="a", text="hello", body={"chat": "c"})
        for length in (50, 200, 400):
            await clients("text", name="a", length=length)
            site.address.cut()
        dump = await clients("status", name="a", status=["ready", "error"])
        assert (dump["status"], dump["error"], said(dump)[0]) == ("ready", None, text(400))
        resumed = [request["url"] for request in dump["requests"] if request["method"] == "GET"]
        assert len(resumed) >= 3
        assert all(int(url.rpartition("=")[2]) > 0 for url in resumed), "each goes on where the last one was cut"


@thorough
async def test_web_server_that_restarts_does_not_pass_half_an_answer_for_a_whole_one(server_url: str) -> None:
    need("ai7")
    with site_process(server_url, WORDS="100", HOLD="50") as agent, site_process(server_url) as front:
        await agent.start()
        await front.start()
        async with node() as clients:
            await clients("chat", name="a", sdk=7, api=agent.url + "/api/chat", chat="c")
            await clients("send", name="a", text="hello")
            await clients("text", name="a", length=20)
            asked = (await clients("dump", name="a"))["messages"][:1]
            await clients("chat", name="b", sdk=7, api=front.url + "/api/chat", chat="c", messages=asked)
            await clients("resume", name="b")
            await clients("text", name="b", length=40)
            front.terminate()
            dump = await clients("status", name="b", status=["ready", "error"])
            assert dump["status"] == "error", "the connection broke"
            await front.start()
            await clients("resume", name="b")
            await clients("status", name="b", status=["streaming"])
            await post(agent.url + "/release")
            for name in ("a", "b"):
                dump = await clients("status", name=name, status=["ready"])
                assert said(dump)[0] == text(100)


@thorough
async def test_answer_of_a_process_that_was_killed_ends_with_an_error(server_url: str) -> None:
    need("ai7")
    with site_process(server_url, WORDS="100000") as dies, site_process(server_url) as lives:
        await dies.start()
        await lives.start()
        async with node() as clients:
            await clients("chat", name="a", sdk=7, api=dies.url + "/api/chat", chat="c")
            await clients("send", name="a", text="hello")
            before = await clients("text", name="a", length=50)
            asked = (await clients("dump", name="a"))["messages"][:1]
            await clients("chat", name="b", sdk=7, api=lives.url + "/api/chat", chat="c", messages=asked)
            await clients("resume", name="b")
            await clients("text", name="b", length=50)
            dies.kill()
            dump = await clients("status", name="b", status=["ready", "error"])
            assert (dump["status"], dump["error"]) == ("error", "The answer was interrupted.")
            assert said(dump)[0].startswith(before[:50])
            await clients("send", name="b", text="again")
            dump = await clients("status", name="b", status=["ready", "error"])
            assert (dump["status"], said(dump)[0]) == ("ready", text(40)), "the chat goes on with the next message"
