"""A site with a chat in each protocol, whose answers are known beforehand: served in a test, or as a process.

``python -m tests.support.chat_site PORT`` serves it, on the store of HELIX_URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from helix_fast import Helix, connect
from helix_fast.integrations.ag_ui import AGUIStreams
from helix_fast.integrations.starlette import event_stream
from helix_fast.integrations.vercel import ChatStreams
from tests.support.web import Address

PIECES = [
    "Hello ",
    "wörld",
    " <b>&amp;</b>",
    "\n\ndata: x\n",
    "日本語 ",
    "🙂\u200d",
    "\\n\"'",
    "</script>",
    "\u2028 ",
    "\t. ",
]
LEASE_MS = 8_000


def text(words: int) -> str:
    """The answer of so many words."""
    return "".join(f"{number}{PIECES[number % len(PIECES)]}" for number in range(words))


class ChatSite:
    """The app, and its pace: ``words`` of an answer, ``pause`` seconds between them, and where it is held.

    An answer stops before its word ``hold`` until a POST to ``/release``: so a test decides what comes first.
    """

    def __init__(self, helix: Helix | None = None, *, sdk_version: int = 7) -> None:
        self.words = int(os.environ.get("WORDS", "40"))
        self.pause = float(os.environ.get("PAUSE", "0.01"))
        self.hold = int(os.environ.get("HOLD", "-1"))
        self.released = asyncio.Event()
        self._sdk_version = sdk_version
        self._given = helix
        self.address = Address()  # where it is served, in a test
        self._running: set[asyncio.Task[None]] = set()
        self.app: Starlette = Starlette(
            routes=[
                Route("/api/chat", self.post, methods=["POST"]),
                Route("/api/chat/{chat:path}/stream", self.resume),
                Route("/api/chat/{chat:path}/stop", self.stop, methods=["POST"]),
                Route("/agent", self.run, methods=["POST"]),
                Route("/agent/{thread:path}/stream", self.join),
                Route("/agent/{thread:path}/stop", self.stop_run, methods=["POST"]),
                Route("/release", self.release, methods=["POST"]),
                Route("/write/{stream}", self.write, methods=["POST"]),
                Route("/events/{stream}", self.events),
                Route("/stop/{stream}", self.request_stop, methods=["POST"]),
                Route("/page.js", self.script),
                Route("/{page}", self.page),
            ],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """One Helix for the process."""
        async with contextlib.AsyncExitStack() as stack:
            made = self._given
            if made is None:
                made = await stack.enter_async_context(connect(os.environ["HELIX_URL"]))
            self.helix: Helix = made
            self.chats = ChatStreams(self.helix.streams, self._sdk_version, lease_ms=LEASE_MS)
            self.runs = AGUIStreams(self.helix.streams, lease_ms=LEASE_MS)
            yield
            await self.chats.close()
            await self.runs.close()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def word_by_word(self) -> AsyncIterator[str]:
        """The words of an answer."""
        for number in range(self.words):
            if number == self.hold:
                await self.released.wait()
            yield f"{number}{PIECES[number % len(PIECES)]}"
            await asyncio.sleep(self.pause)

    async def answer(self) -> AsyncIterator[dict[str, Any]]:
        """UI message chunks of an answer."""
        yield {"type": "start-step"}
        yield {"type": "text-start", "id": "t"}
        async for word in self.word_by_word():
            yield {"type": "text-delta", "id": "t", "delta": word}
        yield {"type": "text-end", "id": "t"}
        yield {"type": "finish-step"}

    async def agent(self) -> AsyncIterator[dict[str, Any]]:
        """AG-UI events of an answer."""
        yield {"type": "STEP_STARTED", "stepName": "write"}
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        async for word in self.word_by_word():
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": word}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
        yield {"type": "STEP_FINISHED", "stepName": "write"}

    async def run(self, request: Request) -> Response:
        """A RunAgentInput."""
        return await self.runs.start(request, await request.json(), self.agent())

    async def join(self, request: Request) -> Response:
        """The events of a thread's run."""
        return await self.runs.join(request, request.path_params["thread"])

    async def stop_run(self, request: Request) -> Response:
        """Stop it."""
        return await self.runs.stop(request.path_params["thread"])

    async def release(self, _request: Request) -> Response:
        """Let the answers that are held go on."""
        self.released.set()
        return Response()

    async def post(self, request: Request) -> Response:
        """The chat's id is in the body of every transport: that of a workflow takes it from the page."""
        body = await request.json()
        return await self.chats.start(request, body.get("id") or body["chat"], self.answer())

    async def resume(self, request: Request) -> Response:
        """The current run."""
        return await self.chats.resume(request, request.path_params["chat"])

    async def stop(self, request: Request) -> Response:
        """Stop it."""
        return await self.chats.stop(request.path_params["chat"])

    async def write(self, request: Request) -> Response:
        """Begin to write the same text into a stream."""
        task = asyncio.ensure_future(self._write(request.path_params["stream"]))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return Response(status_code=202)

    async def _write(self, stream: str) -> None:
        async with await self.helix.streams.create_writer(stream, "agent", lease_ms=LEASE_MS) as writer:
            async for word in self.word_by_word():
                if writer.stop_requested.is_set():
                    break
                writer.send_text(word)
        await self.helix.streams.end_stream(stream)

    async def events(self, request: Request) -> Response:
        """A stream as it is."""
        return await event_stream(request, self.helix.streams, request.path_params["stream"])

    async def request_stop(self, request: Request) -> Response:
        """Stop its writer."""
        await self.helix.streams.request_stop(request.path_params["stream"])
        return Response()

    async def script(self, _request: Request) -> Response:
        """The bundle of the page with useChat."""
        return FileResponse(Path(os.environ["WEB"]) / "page.js")

    async def page(self, request: Request) -> Response:
        """``/chat``: useChat; ``/source``: an EventSource."""
        return HTMLResponse(SOURCE if request.path_params["page"] == "source" else CHAT)


CHAT = '<!doctype html><meta charset="utf-8"><div id="root"></div><script type="module" src="/page.js"></script>'
SOURCE = """<!doctype html><meta charset="utf-8"><p id="status">open</p><pre id="text"></pre><script>
const name = new URLSearchParams(location.search).get("stream");
const source = new EventSource("/events/" + name);
const text = document.getElementById("text"), status_ = document.getElementById("status");
source.onmessage = (event) => { text.textContent += JSON.parse(event.data).delta; };
source.addEventListener("end", () => { source.close(); status_.textContent = "end"; });
source.addEventListener("failed", () => { source.close(); status_.textContent = "failed"; });
source.addEventListener("reset", () => { text.textContent = ""; });
</script>"""


if __name__ == "__main__":
    uvicorn.run(ChatSite().app, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=5)
