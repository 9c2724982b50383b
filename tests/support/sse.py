"""A client of the responses of server-sent events, as an ASGI server would serve it; and what its events say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helix_fast import Helix, RedisStreamManager
from helix_fast.integrations.starlette import event_stream

SECONDS = 30
END = "event: end\ndata: {}"
RETRY = "retry: 500"


class Connection:
    """One request to an ASGI app, as a server makes it; what comes is there as it comes."""

    def __init__(self, streams: RedisStreamManager, path: str, *, last: str = "", method: str = "GET", **options: Any):
        async def events(request: Request) -> Response:
            return await event_stream(request, streams, request.path_params["stream"], **options)

        self.app = Starlette(routes=[Route("/{stream}", events)])
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "client": ("test", 1), "server": ("test", 80),
            "headers": [(b"last-event-id", last.encode())] if last else [],
        }  # fmt: skip
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.complete = False
        self.broken = False  # whether sending raises, as a server does whose client has gone
        self._gone = asyncio.Event()
        self.task = asyncio.ensure_future(self.app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.broken:
            raise OSError("the client has gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()
            self.complete = not message.get("more_body", False)

    @property
    def events(self) -> list[str]:
        """What came, without the default ``retry:`` at its beginning."""
        return [event for event in self.text.split("\n\n")[:-1] if event != RETRY]

    def hang_up(self) -> None:
        self._gone.set()

    async def all(self) -> list[str]:
        await asyncio.wait_for(self.task, SECONDS)
        return self.events


async def write(helix: Helix, *deltas: str, stream: str = "s") -> None:
    async with await helix.streams.create_writer(stream, "agent") as writer:
        for delta in deltas:
            await writer.write({"type": "text_delta", "delta": delta})


def delta(event: str) -> str:
    return str(json.loads(event.splitlines()[1].removeprefix("data: "))["delta"])


def identifier(event: str) -> str:
    first = event.splitlines()[0]
    assert first.startswith("id: ")
    return first.removeprefix("id: ")


def data(event: str) -> Any:
    return json.loads(event.splitlines()[-1].removeprefix("data: "))


def named(event: str) -> str:
    return event.splitlines()[1].removeprefix("event: ")


async def trim(helix: Helix, keep: int) -> None:
    await helix.state._requests.command("", b"XTRIM", b"helix:stream:{s}", b"MAXLEN", keep)


def reading(helix: Helix) -> int:
    return sum(cursor.reading for cursor in helix.streams._cursors)
