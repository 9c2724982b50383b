"""The web server of P13 and P14, a process of its own: ``python -m benchmarks.web_site URL SOCKET DESCRIPTOR``."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from helix_fast import RedisStreamManager, connect
from helix_fast.integrations.ag_ui_events import AGUIEvents
from helix_fast.integrations.ag_ui_mapping import AGUIMapping
from helix_fast.integrations.chats import follow, plain_text
from helix_fast.integrations.sse import EventCodec
from helix_fast.integrations.starlette import event_stream
from helix_fast.integrations.vercel_chunks import VercelEvents
from helix_fast.integrations.vercel_mapping import VercelMapping

from .baselines.prebuilt_events import PrebuiltEvents, PrebuiltTimetable
from .baselines.sse_redis import RedisEvents

CODECS: Final[dict[str, Callable[[], EventCodec]]] = {
    "vercel": lambda: VercelEvents(7, plain_text, mapping=VercelMapping(7, "msg-1")),
    "ag-ui": lambda: AGUIEvents("0123456789abcdef", plain_text, mapping=AGUIMapping("thread", "run")),
}


class Site:
    """Its endpoints. Streams are named by ``?stream=``.

    Args:
        streams: our manager.
        redis: the baseline.
    """

    def __init__(self, streams: RedisStreamManager, redis: RedisEvents) -> None:
        self._streams = streams
        self._redis = redis
        self._prebuilt: dict[str, PrebuiltEvents] = {}
        self._timetable: PrebuiltTimetable | None = None

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/helix", self.helix),
            Route("/mapped/{protocol}", self.mapped),
            Route("/redis", self._redis.endpoint),
            Route("/prebuilt", Raw(self.prebuilt)),
            Route("/timetable", Raw(self.timetable)),
            Route("/timetable/make", self.make_timetable),
            Route("/timetable/begin", self.begin_timetable),
            Route("/timetable/sent", self.timetable_sent),
            Route("/cpu", self.cpu),
        ]

    async def helix(self, request: Request) -> Response:
        """Our own protocol."""
        return await event_stream(request, self._streams, request.query_params["stream"])

    async def mapped(self, request: Request) -> Response:
        """The chunks of an executor's run, in another protocol."""
        codec = CODECS[request.path_params["protocol"]]()
        response = await follow(self._streams, request.query_params["stream"], codec)
        assert response is not None
        return response

    async def prebuilt(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The bytes that ``helix`` sends, in the same writes."""
        name = Request(scope).query_params["stream"]
        if name not in self._prebuilt:
            parts: list[bytes] = []

            async def keep(message: Any) -> None:
                if message.get("body"):
                    parts.append(message["body"])

            response = await event_stream(Request(scope), self._streams, name)
            await response(scope, receive, keep)
            self._prebuilt[name] = PrebuiltEvents(parts)
        await self._prebuilt[name](scope, receive, send)

    async def timetable(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The same event, over and over."""
        assert self._timetable is not None
        await self._timetable.serve(int(Request(scope).query_params["number"]), send)

    async def make_timetable(self, request: Request) -> Response:
        """Make one, of the first event of a stream."""
        query = request.query_params
        event = await _first_event(await event_stream(request, self._streams, query["stream"], retry_ms=None), request)
        each, per_second = int(query["each"]), float(query["per_second"])
        self._timetable = PrebuiltTimetable(event, int(query["clients"]), each, per_second)
        return Response(event)

    async def begin_timetable(self, _request: Request) -> Response:
        """Begin it."""
        assert self._timetable is not None
        self._timetable.begin()
        return Response()

    async def timetable_sent(self, _request: Request) -> Response:
        """When each event was sent, by client."""
        assert self._timetable is not None
        sent = self._timetable.sent
        return Response(msgspec.json.encode([sent[number] for number in range(len(sent))]))

    async def cpu(self, _request: Request) -> Response:
        """Seconds of CPU that this process has used."""
        return Response(msgspec.json.encode(time.process_time()))


class Raw:
    """An endpoint without a request and a response object: Starlette takes what is no function for an ASGI app."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Any]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._app(scope, receive, send)


async def _first_event(response: Response, request: Request) -> bytes:
    """What a response sends first."""
    first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def keep(message: Any) -> None:
        if message.get("body") and not first.done():
            first.set_result(message["body"])

    sending = asyncio.ensure_future(response(request.scope, request.receive, keep))
    try:
        return await first
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


class SiteProcess:
    """The process, seen from its parent.

    Args:
        url, socket_path: the store.
    """

    def __init__(self, url: str, socket_path: str) -> None:
        listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = listening.getsockname()[1]
        descriptor = listening.fileno()
        command = [sys.executable, "-m", "benchmarks.web_site", url, socket_path, str(descriptor)]
        # Who connects before it serves waits in the queue of the socket.
        self._process = subprocess.Popen(command, pass_fds=(descriptor,))
        listening.close()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(url: str, socket_path: str, descriptor: str) -> None:
    """Serve until SIGTERM."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        redis = RedisEvents(socket_path)
        async with connect(url) as helix:
            app.routes.extend(Site(helix.streams, redis).routes())
            yield
        await redis.close()

    settings = uvicorn.Config(
        Starlette(lifespan=lifespan), loop="uvloop", http="httptools", log_level="warning",
        access_log=False, timeout_graceful_shutdown=2, timeout_keep_alive=600, backlog=2048,
    )  # fmt: skip
    # As uvicorn binds one itself. By `fd=` it takes any socket for a Unix one, and leaves Nagle's algorithm on: small
    # writes then wait for the client's delayed acknowledgement, 40 ms.
    uvicorn.Server(settings).run([socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main(*sys.argv[1:])
