"""Chromium: pages with an EventSource and with useChat. What the DOM shows is, byte for byte, what the agent wrote."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.support.chat_site import text
from tests.support.web_clients import FOLDER, WEB, chromium, need, post, site_process

pytestmark = [pytest.mark.web, pytest.mark.slow]
PATIENCE = 60_000  # ms


async def tab(context: Any, url: str) -> Any:
    page = await context.new_page()
    await page.goto(url)
    return page


async def shown(page: Any, length: int) -> str:
    """The text in the DOM, when it has so many characters."""
    condition = f"document.getElementById('text')?.textContent.length >= {length}"
    await page.wait_for_function(condition, timeout=PATIENCE)
    return str(await page.evaluate("document.getElementById('text').textContent"))


async def status(page: Any, value: str) -> None:
    await page.wait_for_function(f"document.getElementById('status')?.textContent === '{value}'", timeout=PATIENCE)


def bundle() -> str:
    """Make the page with useChat, unless it is made."""
    need("@ai-sdk/react", "react-dom", "esbuild")
    source = (FOLDER / "page.jsx").read_text("utf-8")
    made = WEB / "page.jsx"
    if not (WEB / "page.js").is_file() or not made.is_file() or made.read_text("utf-8") != source:
        made.write_text(source, "utf-8")
        options = ["--bundle", "--format=esm", "--outfile=page.js", '--define:process.env.NODE_ENV="production"']
        subprocess.run(["node_modules/.bin/esbuild", "page.jsx", *options], cwd=WEB, check=True, capture_output=True)
    return str(WEB)


@pytest.mark.thorough
async def test_event_source_shows_the_text_whatever_happens_to_the_server_and_the_network(server_url: str) -> None:
    whole = text(400)
    with site_process(server_url, WORDS="400", HOLD="200", PAUSE="0.002") as agent, site_process(server_url) as front:
        await agent.start()
        await front.start()
        async with chromium() as context:
            pages = [await tab(context, front.url + "/source?stream=s") for _ in range(3)]
            await post(agent.url + "/write/s")
            for page in pages:
                await shown(page, 50)
            front.kill()
            await front.start()
            for page in pages:
                await shown(page, len(text(200)))
            await context.set_offline(True)
            await context.set_offline(False)
            await pages[1].reload()
            await post(agent.url + "/release")
            for page in pages:
                await status(page, "end")
                assert await shown(page, len(whole)) == whole


@pytest.mark.thorough
async def test_use_chat_shows_the_text_in_three_tabs_and_behind_a_reload(server_url: str) -> None:
    bundle()
    whole = text(400)
    with site_process(server_url, WORDS="400", HOLD="100", PAUSE="0.002") as site:
        await site.start()
        async with chromium() as context:
            first = await tab(context, site.url + "/chat?chat=c")
            await status(first, "ready")
            await first.click("#send")
            await shown(first, 50)
            pages = [first, *[await tab(context, site.url + "/chat?chat=c") for _ in range(2)]]
            await first.reload()
            for page in pages:
                await shown(page, len(text(100)))
            await post(site.url + "/release")
            for page in pages:
                await status(page, "ready")
                assert await shown(page, len(whole)) == whole
                assert await page.inner_text("#answers") == "1"
                assert await page.inner_text("#error") == ""


async def test_stop_button_ends_the_answer_in_every_tab(server_url: str) -> None:
    bundle()
    with site_process(server_url, WORDS="100000", PAUSE="0.01") as site:
        await site.start()
        async with chromium() as context:
            first = await tab(context, site.url + "/chat?chat=c")
            await status(first, "ready")
            await first.click("#send")
            await shown(first, 50)
            second = await tab(context, site.url + "/chat?chat=c")
            await shown(second, 100)
            await second.click("#stop")
            for page in (first, second):
                await status(page, "ready")
            texts = {await shown(page, 100) for page in (first, second)}
            assert len(texts) == 1
            assert text(2_000).startswith(texts.pop())
