"""The chats under `examples/`, served as they stand: over HTTP, in Chromium, and with the client of their page."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.web import events, serve
from tests.support.web_clients import chromium, need, node

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


def app_of(name: str, monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    """The app of an example, on a store."""
    monkeypatch.setenv("HELIX_URL", url)
    found = importlib.util.spec_from_file_location("example_" + Path(name).parent.name, EXAMPLES / name)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.app


async def test_chat_keeps_each_visitor_to_their_own(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    async with (
        serve(app_of("chat/app.py", monkeypatch, server_url)) as base,
        httpx.AsyncClient(base_url=str(base), verify=False, timeout=60) as client,
    ):
        assert (await client.get("/")).status_code == 200
        chat = client.cookies["visitor"] + "-1"
        assert (await client.post("/chats", json={"session": chat, "message": "hi"})).status_code == 202
        assert (await client.get(f"/chats/{chat}")).json()["running"]
        assert (await client.post("/chats", json={"session": "other-1", "message": "hi"})).status_code == 403
        assert (await client.get("/chats/other-1/stream")).status_code == 403
        assert (await client.post(f"/chats/{chat}/stop")).json()["stopped"]
        told = events((await client.get(f"/chats/{chat}/stream")).text)
        assert told[-2]["type"] == "run_interrupted"
        found = (await client.get(f"/chats/{chat}")).json()
        assert (found["running"], found["messages"][0]["content"]) == (False, "hi")


@pytest.mark.web
@pytest.mark.thorough
async def test_page_of_the_chat_survives_a_reload_and_stops(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    async with serve(app_of("chat/app.py", monkeypatch, server_url)) as base, chromium() as context:
        page = await context.new_page()
        await page.goto(base)
        await page.fill("#text", "hello")
        await page.click("#send")
        last = "document.querySelector('#messages p:last-child').textContent"
        await page.wait_for_function(f"{last}.includes('message 1')")
        await page.reload()
        await page.wait_for_function(f"{last}.includes('Reload this page')")
        assert await page.locator("#messages p").count() == 2
        await page.click("#stop")
        await page.wait_for_selector("#send:visible")


@pytest.mark.web
@pytest.mark.thorough
async def test_server_of_the_page_with_use_chat_answers_it(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need("ai7")
    async with serve(app_of("nextjs/server.py", monkeypatch, server_url)) as base, node() as clients:
        await clients("chat", name="a", sdk=7, api=base + "/api/chat", chat="c")
        await clients("send", name="a", text="hi")
        assert (await clients("text", name="a", length=20)).startswith("You said: hi")
        async with httpx.AsyncClient(verify=False, timeout=60) as client:
            assert (await client.post(base + "/api/chat/c/stop")).json()["stopped"]
        dump = await clients("status", name="a", status=["ready", "error"])
        assert (dump["status"], dump["error"]) == ("ready", None)
