"""Server-sent events for Starlette and FastAPI: a stream as a response that resumes by ``Last-Event-ID``.

Needs the extra ``starlette``. It turns a stream into events and ends with its client; positions, gaps and waiting are
the reader's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from helix_fast import arguments
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    MalformedChunkError,
    SequenceGapError,
    StoreClosedError,
    StoreConnectionError,
    StreamResetError,
)
from helix_fast.streams.chunks import encode_chunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.reader import ResumableReader
from helix_fast.streams.schema import StoredChunk

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
"""Event: the client's position is no longer valid; data as of FAILED. It must discard its chunks and start anew."""
MALFORMED: Final = "malformed"
"""Event: one stored chunk is malformed; data as of FAILED. The next chunks follow."""
HEARTBEAT: Final = b": heartbeat\n\n"
# A proxy that buffers or compresses (nginx does) would delay tokens.
HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


async def event_stream(
    request: Request,
    streams: RedisStreamManager,
    stream_id: str,
    *,
    start: str | None = None,
    on_gap: str = "raise",
    heartbeat_ms: float = 15_000,
    retry_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> EventStream:
    """A response with all of a stream after the client's ``Last-Event-ID``, then live, until the stream ends.

    Each chunk is one event without a name: its position as ``id``, its JSON in wire form as ``data``. Other events are
    named END, FAILED, RESET and MALFORMED. If the server becomes unreachable, the response ends without an event: the
    client reconnects by itself and resumes.

    ```python
    @app.get("/chats/{chat}/events")
    async def events(request: Request, chat: str) -> Response:
        return await event_stream(request, helix.streams, chat)
    ```

    Args:
        request: the request; its ``Last-Event-ID`` is a position (``epoch:term:sequence``, the term may be absent)
            or a sequence.
        streams: the manager; on Redis or in memory.
        stream_id: the stream.
        start: the position for a client that sends no ``Last-Event-ID``, such as one that a page kept over a reload.
        on_gap: ``"raise"``: a client whose position was trimmed gets RESET; ``"skip"``: it continues behind the gap.
        heartbeat_ms: milliseconds of silence after which a comment is sent: proxies close silent connections.
        retry_ms: how long the client waits before it reconnects; None: its own default.
        headers: additional headers, or replacements of ours.

    Raises:
        HTTPException: 404 there is no such stream; 400 the id or position is invalid; 503 the server cannot be reached.
        InvalidArgumentError: an option is out of range.
    """
    beat = arguments.milliseconds(heartbeat_ms, "heartbeat_ms", 1)
    retry = None if retry_ms is None else arguments.integer(retry_ms, "retry_ms")
    if on_gap not in {"raise", "skip"}:
        raise InvalidArgumentError(f"on_gap must be 'raise' or 'skip', not {on_gap!r}")
    all_headers = {**HEADERS, **(headers or {})}
    try:
        after = request.headers.get("last-event-id") or start or "0"
        reader = await streams.create_resumable_reader(stream_id, from_sequence=after, on_gap=on_gap)
    except (StreamResetError, SequenceGapError) as error:
        return EventStream(error, heartbeat=beat, retry=retry, headers=all_headers)
    except InvalidArgumentError as error:
        raise HTTPException(400, str(error)) from error
    except (StoreConnectionError, StoreClosedError) as error:
        # Without the message, which names the server.
        raise HTTPException(503, "the stream cannot be read now", headers={"Retry-After": "1"}) from error
    if reader is None:
        raise HTTPException(404, "no such stream")
    return EventStream(reader, heartbeat=beat, retry=retry, headers=all_headers)


class EventStream(Response):
    """A response with the events of a reader, which it closes; made by :func:`event_stream`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: ResumableReader | HelixError,
        *,
        heartbeat: float,
        retry: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self._source = source
        self._heartbeat = heartbeat
        self._retry = retry
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client disconnects."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            if isinstance(self._source, ResumableReader):
                await self._source.close()
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
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished = sending.done()
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if finished:
            sending.result()

    async def _send(self, send: Send) -> None:
        with contextlib.suppress(OSError):  # the client has disconnected
            async with contextlib.aclosing(self._events()) as events:
                async for part in events:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        if self._retry is not None:
            yield b"retry: %d\n\n" % self._retry
        if isinstance(self._source, HelixError):
            yield _closing(self._source)
            return
        async with self._source as reader:
            waiting = asyncio.ensure_future(reader.read_batch())
            try:
                while True:
                    while not (await asyncio.wait((waiting,), timeout=self._heartbeat))[0]:
                        yield HEARTBEAT
                    try:
                        batch: Sequence[StoredChunk] = waiting.result()
                    except MalformedChunkError as error:
                        yield _named(MALFORMED, error, f"id: {reader.position}\n")
                    except HelixError as error:
                        yield _closing(error)
                        return
                    else:
                        if not batch:
                            yield b"event: %s\ndata: {}\n\n" % END.encode()
                            return
                        yield _frames(batch)
                    waiting = asyncio.ensure_future(reader.read_batch())
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frames(batch: Iterable[StoredChunk]) -> bytes:
    """The events of chunks that were read together: one write."""
    return b"".join(
        b"id: %s\ndata: %s\n\n" % (str(stored.position).encode(), encode_chunk(stored.chunk)) for stored in batch
    )


def _closing(error: HelixError) -> bytes:
    """The last event of a reader that raised; none if the client should reconnect."""
    if isinstance(error, (StreamResetError, SequenceGapError)):
        return _named(RESET, error, "id\n")  # an empty id: after a reconnect the client starts anew
    if isinstance(error, (StoreConnectionError, StoreClosedError)):
        return b""
    return _named(FAILED, error)


def _named(event: str, error: HelixError, first: str = "") -> bytes:
    data = msgspec.json.encode({"code": error.code, "message": str(error)})
    return f"{first}event: {event}\ndata: ".encode() + data + b"\n\n"
