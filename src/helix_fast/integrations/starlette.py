"""Server-sent events for Starlette and FastAPI: a stream as a response that resumes by ``Last-Event-ID``.

Needs the extra ``starlette``. It turns a stream into events and ends with its client; positions, gaps and waiting are
the reader's. A browser's ``EventSource`` gives up for good at any status but 200: so what may pass (a server that is
away, a stream that does not exist yet) ends the response, and the client comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from helix_fast import arguments
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    MalformedChunkError,
    SequenceGapError,
    StoreClosedError,
    StoreConnectionError,
    StreamNotFoundError,
    StreamResetError,
)
from helix_fast.keys import check_id
from helix_fast.streams.chunks import encode_chunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.reader import ResumableReader
from helix_fast.streams.schema import StreamPosition

try:
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ImportError as _missing:
    raise ImportError(
        "helix_fast.integrations.starlette needs Starlette: pip install 'helix-fast[starlette]'"
    ) from _missing

END: Final = "end"
"""Event: the stream has ended. The client must close its ``EventSource``, which would reconnect otherwise."""
FAILED: Final = "failed"
"""Event: the stream failed, was deleted, or its producer died; data: ``{"code", "message"}``. The client closes."""
RESET: Final = "reset"
"""Event: the client's position is no longer valid; data as of FAILED, and ``firstSequence`` where chunks were trimmed.

The client must discard its chunks. Those that follow begin with the first one of the epoch, or with that sequence.
"""
MALFORMED: Final = "malformed"
"""Event: one stored chunk is malformed; data as of FAILED. The next chunks follow."""
HEARTBEAT: Final = b": heartbeat\n\n"
# A proxy that buffers or compresses (nginx does) would delay tokens.
HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
# Bytes of events in one write. A client that reads nothing holds one of them beside what its connection buffers.
WRITE_BYTES: Final = 64 << 10
SHUTDOWN_POLL: Final = 0.2  # seconds
Open = Callable[[StreamPosition], ResumableReader]


async def event_stream(
    request: Request,
    streams: RedisStreamManager,
    stream_id: str,
    *,
    start: str | None = None,
    on_gap: str = "raise",
    wait_ms: float = 15_000,
    heartbeat_ms: float = 15_000,
    retry_ms: int | None = 500,
    headers: Mapping[str, str] | None = None,
) -> EventStream:
    """A response with all of a stream after the client's ``Last-Event-ID``, then live, until the stream ends.

    Each chunk is one event without a name: its position as ``id``, its JSON in wire form as ``data``. Other events are
    named END, FAILED, RESET and MALFORMED. If the server is unreachable, or the stream still does not exist after
    ``wait_ms``, the response ends without an event: the client reconnects by itself and resumes. It also ends when
    uvicorn begins to shut down.

    ```python
    @app.get("/chats/{chat}/events")
    async def events(request: Request, chat: str) -> Response:
        return await event_stream(request, helix.streams, chat)
    ```

    Args:
        request: the request; its ``Last-Event-ID`` is a position (``epoch:sequence``) or a sequence.
        streams: the manager; on Redis or in memory.
        stream_id: the stream.
        start: the position for a client that sends no ``Last-Event-ID``, such as one that a page kept over a reload.
        on_gap: ``"raise"``: a client whose position was trimmed gets RESET; ``"skip"``: it continues behind the gap.
        wait_ms: milliseconds to wait for a stream that does not exist yet. To answer 404 in place of that, ask
            ``streams.exists`` first.
        heartbeat_ms: milliseconds of silence after which a comment is sent: proxies close silent connections.
        retry_ms: how long the client waits before it reconnects; None: its own default (3 s in Chromium).
        headers: additional headers, or replacements of ours.

    Raises:
        HTTPException: 400 the id or position is invalid.
        InvalidArgumentError: an option is out of range.
    """
    beat = arguments.milliseconds(heartbeat_ms, "heartbeat_ms", 1)
    retry = None if retry_ms is None else arguments.integer(retry_ms, "retry_ms")
    arguments.milliseconds(wait_ms, "wait_ms")
    if on_gap not in {"raise", "skip"}:
        raise InvalidArgumentError(f"on_gap must be 'raise' or 'skip', not {on_gap!r}")
    try:
        check_id(stream_id, "stream_id")
        position = _position(request.headers.get("last-event-id") or start or "0")
    except InvalidArgumentError as error:
        raise HTTPException(400, str(error)) from error

    def read(position: StreamPosition) -> ResumableReader:
        return streams.read(
            stream_id,
            from_sequence=position.sequence,
            epoch=position.epoch or None,
            wait_ms=wait_ms,
            on_gap=on_gap,
        )

    return EventStream(read, position, heartbeat=beat, retry=retry, headers={**HEADERS, **(headers or {})})


class EventStream(Response):
    """A response with the events of a stream after a position; made by :func:`event_stream`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        read: Open,
        position: StreamPosition,
        *,
        heartbeat: float,
        retry: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self._open = read
        self._position = position
        self._heartbeat = heartbeat
        self._retry = retry
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client disconnects."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._until_gone(receive, send)
        if self.background is not None:
            await self.background()

    async def _until_gone(self, receive: Receive, send: Send) -> None:
        # Not every server reports a disconnect by cancelling us or by refusing to send; in a silent
        # stream, none would before the next heartbeat.
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        with _shutdown() as leaving:
            try:
                await asyncio.wait((sending, gone, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                finished = sending.done()
                for task in (sending, gone):
                    task.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
        if finished:
            sending.result()
        elif leaving.done():
            with contextlib.suppress(OSError, asyncio.TimeoutError):  # a client that reads nothing
                await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), 1)

    async def _send(self, send: Send) -> None:
        with contextlib.suppress(OSError):  # the client has disconnected
            async with contextlib.aclosing(self._events()) as events:
                async for part in events:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        if self._retry is not None:
            yield b"retry: %d\n\n" % self._retry
        position: StreamPosition | None = self._position
        while position is not None:
            reader = self._open(position)
            position = None
            async with reader:
                waiting = asyncio.ensure_future(_next_frames(reader))
                try:
                    while True:
                        while not (await asyncio.wait((waiting,), timeout=self._heartbeat))[0]:
                            yield HEARTBEAT
                        try:
                            parts = waiting.result()
                        except MalformedChunkError as error:
                            yield _named(MALFORMED, error, reader.position)
                        except (StreamResetError, SequenceGapError) as error:
                            position = _behind(error, reader.epoch)
                            first = {"firstSequence": position.sequence + 1} if position.sequence else {}
                            yield _named(RESET, error, position, **first)
                            break
                        except HelixError as error:
                            yield _closing(error)
                            return
                        else:
                            if not parts:
                                yield b"event: %s\ndata: {}\n\n" % END.encode()
                                return
                            while parts:
                                yield parts.pop(0)
                        waiting = asyncio.ensure_future(_next_frames(reader))
                finally:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_leaving: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}
"""The responses of each event loop that uvicorn serves, while there are any: they end when it shuts down."""


@contextlib.contextmanager
def _shutdown() -> Iterator[asyncio.Future[None]]:
    """A future that is done when uvicorn begins to shut down: it would wait for the response, and for its client."""
    loop = asyncio.get_running_loop()
    leaving = loop.create_future()
    if not hasattr(_server(), "should_exit"):
        yield leaving  # another web server, which must be told how long it waits
        return
    if loop not in _leaving:
        _leaving[loop] = set()
        loop.call_later(SHUTDOWN_POLL, _poll_shutdown, loop)
    responses = _leaving[loop]
    responses.add(leaving)
    try:
        yield leaving
    finally:
        responses.discard(leaving)


def _poll_shutdown(loop: asyncio.AbstractEventLoop) -> None:
    responses = _leaving[loop]
    if getattr(_server(), "should_exit", False):
        for leaving in responses:
            if not leaving.done():
                leaving.set_result(None)
    if responses:
        loop.call_later(SHUTDOWN_POLL, _poll_shutdown, loop)
    else:
        del _leaving[loop]


def _server() -> Any:
    """The uvicorn server of this process, by its signal handler: ASGI has no event of a shutdown that begins."""
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None)


def _position(text: str) -> StreamPosition:
    """The position that a client sent; without an epoch if it sent a sequence alone."""
    digits = text.isascii() and text.isdigit() and len(text) <= 20
    position = StreamPosition("", int(text)) if digits else StreamPosition.parse(text)
    arguments.integer(position.sequence, "the sequence of a position")
    return position


def _behind(error: StreamResetError | SequenceGapError, epoch: str) -> StreamPosition:
    """The position from which a client goes on whose own is no longer valid."""
    if isinstance(error, StreamResetError):
        return StreamPosition(error.current_epoch, 0)
    return StreamPosition(epoch, error.first_available - 1)


def _identity(position: StreamPosition) -> bytes:
    """The ``id`` of an event, which comes back as ``Last-Event-ID``. A stream of plain XADD has no epoch."""
    return (str(position) if position.epoch else str(position.sequence)).encode()


async def _next_frames(reader: ResumableReader) -> list[bytes]:
    """The events of the chunks that have arrived, in few writes; none at the end of the stream.

    A slow client holds these bytes, a third of what the chunks would take.
    """
    writes: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for stored in await reader.read_batch():
        try:
            part = b"id: %s\ndata: %s\n\n" % (_identity(stored.position), encode_chunk(stored.chunk))
        except MalformedChunkError as error:  # nested so deeply that it was just read
            part = _named(MALFORMED, error, stored.position)
        parts.append(part)
        size += len(part)
        if size >= WRITE_BYTES:
            writes.append(b"".join(parts))
            parts, size = [], 0
    if parts:
        writes.append(b"".join(parts))
    return writes


def _closing(error: HelixError) -> bytes:
    """The last event of a reader that raised; none if the client should reconnect."""
    if error.retryable or isinstance(error, (StoreConnectionError, StoreClosedError, StreamNotFoundError)):
        return b""
    return _named(FAILED, error)


def _named(event: str, error: HelixError, position: StreamPosition | None = None, **more: int) -> bytes:
    data = msgspec.json.encode({"code": error.code, "message": str(error), **more})
    identity = b"" if position is None else b"id: %s\n" % _identity(position)
    return b"%sevent: %s\ndata: %s\n\n" % (identity, event.encode(), data)
