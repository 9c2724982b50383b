"""The live page in Chromium: a stream grows as it is written, mark-up stays text; light and dark, narrow and wide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import connect
from helix_fast.agents import AgentExecutor, FunctionAdapter
from helix_fast.testing.waiting import until
from helix_fast.web.app import live_page
from tests.support.web import serve
from tests.support.web_clients import chromium

pytestmark = [pytest.mark.web, pytest.mark.slow]
MARKUP = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>\u202e"


async def shown(page: Any, selector: str, text: str) -> None:
    """Wait until an element has the text. The page's policy forbids scripts of a test as well."""
    locator = page.locator(selector)
    for _ in range(600):
        if text in (await locator.text_content() or ""):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{selector} never had {text!r}: {await locator.text_content()!r}")


@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), pytest.param(400, "dark", marks=pytest.mark.thorough)])
async def test_stream_is_shown_as_it_is_written_and_stopped(server_url: str, width: int, scheme: str) -> None:
    words: asyncio.Queue[Any] = asyncio.Queue()

    async def agent(_message: Any, _context: Any) -> AsyncIterator[Any]:
        while True:
            yield await words.get()

    async with connect(server_url) as helix, AgentExecutor(helix, FunctionAdapter()) as executor:
        await executor.execute(agent, "hi", session_id=MARKUP.replace("\u202e", ""))
        app = live_page(helix, allow_stop=True)
        context_options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        async with serve(app) as base, chromium(**context_options) as context:
            page = await context.new_page()
            problems: list[str] = []
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
            await page.goto(base)
            await page.focus("#rows li button")
            await page.keyboard.press("Enter")
            words.put_nowait("First " + MARKUP)
            await shown(page, "#text", "First " + MARKUP)
            words.put_nowait({"type": "tool_start", "toolCallId": "1", "toolName": MARKUP, "arguments": {}})
            words.put_nowait("second")
            await shown(page, "#text .event.tool", MARKUP)
            await shown(page, "#text", "second")
            assert await page.locator("#text img, #text script").count() == 0
            size = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert size[0] <= size[1], "nothing is wider than the window"
            assert await page.title() == "helix-fast"
            await page.click("#stop")
            await until(lambda: executor.running == 0)
            await shown(page, "#badge", "interrupted")
            for name in ("usage", "locks", "server"):
                await page.click(f"nav [data-page={name}]")
                assert await page.locator(f"#{name}").is_visible()
            assert problems == []


@pytest.mark.thorough
async def test_page_stays_usable_with_ten_thousand_live_streams(server_url: str) -> None:
    count = 10_000
    async with connect(server_url) as helix:
        writers = []
        for first in range(0, count, 500):
            names = (f"chat-{number:05}" for number in range(first, first + 500))
            writers += await asyncio.gather(*(helix.streams.create_writer(name, "agent") for name in names))
        await asyncio.gather(*(writer.write({"type": "text_delta", "delta": "Hello"}) for writer in writers))
        async with connect(server_url) as reading, serve(live_page(reading)) as base, chromium() as context:
            page = await context.new_page()
            await page.goto(base)
            await shown(page, "#found", "the first 200 of 10,000")
            await page.fill("#filter input", "chat-07654")
            await shown(page, "#found", "1 of 1")
            await page.click("#rows li button")
            await shown(page, "#text", "Hello")
            await writers[7_654].write({"type": "text_delta", "delta": ", and on"})
            await shown(page, "#text", "Hello, and on")
            await page.fill("#filter input", "")
            await page.select_option("#filter select", "live")
            await shown(page, "#found", "the first 200 of 10,000")
            assert await page.locator("#rows li .badge.live").count() == 200
