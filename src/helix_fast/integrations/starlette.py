"""Server-sent events for Starlette and FastAPI: a stream as a response that resumes by ``Last-Event-ID``.

Needs the extra ``starlette``. It turns a stream into events and ends with its client; positions, gaps and waiting are
the reader's. A browser's ``EventSource`` gives up for good at any status but 200: so what may pass (a server that is
away, a stream that does not exist yet) ends the response, and the client comes back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final, Literal, cast

import msgspec

from helix_fast import arguments, codec
from helix_fast.agents import AgentExecutor
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
from helix_fast.streams.chunks import decode_chunk, encode_chunk, text_encoder
from helix_fast.streams.lines import LineReader, Lines
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StreamPosition, to_position

try:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.routing import Route

    from .deltas import last_framed
    from .run_routes import AgentFor, AGUISpeaker, Authorize, HelixSpeaker, RunRoutes, Speaker, VercelSpeaker
    from .sse import WRITE_BYTES, EventStream
except ImportError as _missing:
    raise ImportError(
        "helix_fast.integrations.starlette needs Starlette: pip install 'helix-fast[starlette]'"
    ) from _missing

__all__ = ["END", "FAILED", "MALFORMED", "RESET", "EventStream", "allow_all", "event_stream", "routes"]

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
        request: the request; its ``Last-Event-ID`` is a position (``epoch:term:sequence``, the term may be absent)
            or a sequence.
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
        position = to_position(request.headers.get("last-event-id") or start or "0")
        arguments.integer(position.sequence, "the sequence of a position")
    except InvalidArgumentError as error:
        raise HTTPException(400, str(error)) from error

    def read(position: StreamPosition) -> LineReader:
        return streams._line_reader(stream_id, position, on_gap=on_gap, wait_ms=wait_ms)

    return EventStream(read, position, HelixEvents(retry), heartbeat=beat, headers=headers)


def routes(
    executor: AgentExecutor,
    *,
    agent_for: AgentFor,
    authorize: Authorize,
    protocol: Literal["helix", "vercel", "ag-ui"] = "helix",
    path: str | None = None,
    on_busy: Literal["refuse", "stop"] = "refuse",
    sdk_version: int = 7,
    error_text: Callable[[BaseException], str] | None = None,
    max_body_bytes: int = 8 << 20,
) -> list[Route]:
    """The endpoints of an executor's runs: begin one (POST ``path``), follow it (GET ``path/{chat}/stream``), stop it.

    ```python
    async def owns(request: Request, chat: str) -> bool:
        return chat.startswith(f"{request.user.username}-")

    app = Starlette(
        routes=routes(executor, protocol="vercel", agent_for=lambda request, body: agent, authorize=owns),
        lifespan=executor.lifespan,
    )
    ```

    Args:
        executor: its sessions are the chats.
        agent_for: the agent that answers: a function, sync or async, of the request and its body.
        authorize: whether the request may see, continue and stop the chat: a function, sync or async, which is asked
            before anything of the chat is read. There is no default; ``allow_all`` lets everybody in.
        protocol: ``"helix"``: POST of ``{"session", "message"}``, events as ``event_stream``; ``"vercel"``: ``useChat``
            and ``WorkflowChatTransport``; ``"ag-ui"``: AG-UI 1.0.
        path: default: ``/runs``, ``/api/chat``, ``/agent``.
        on_busy: what becomes of a message while the last one is being answered: ``"refuse"``: 409; ``"stop"``: that run
            is stopped first.
        sdk_version: of Vercel's SDK in the pages: 5, 6 or 7.
        error_text: what a page is told of a run that failed; by default no more than that it did.
        max_body_bytes: of a POST; a larger one is refused with 413.

    Raises:
        InvalidArgumentError: no ``authorize``, another protocol, an option out of range.
    """
    if not callable(authorize):
        raise InvalidArgumentError(
            "authorize must be a function that says who may see a chat",
            hint="authorize=allow_all lets everybody in who can reach the server",
        )
    if not callable(agent_for):
        raise InvalidArgumentError("agent_for must be a function of the request and its body that returns the agent")
    speaker: Speaker
    if protocol == "helix":
        speaker = HelixSpeaker(event_stream)
    elif protocol == "vercel":
        speaker = VercelSpeaker(sdk_version, error_text)
    elif protocol == "ag-ui":
        speaker = AGUISpeaker(error_text)
    else:
        raise InvalidArgumentError(f"protocol must be 'helix', 'vercel' or 'ag-ui', not {protocol!r}")
    return RunRoutes(executor, speaker, agent_for, authorize, on_busy, max_body_bytes).routes(path)


def allow_all(_request: Request, _chat: str) -> bool:
    """Let everybody see, continue and stop every chat. For programs that only their user can reach."""
    return True


class HelixEvents:
    """Our own protocol: each chunk is an event with its position as ``id`` and its JSON as ``data``."""

    cuts: bool = False  # a browser's EventSource reconnects after any end but END and FAILED
    retries: bool = False

    def __init__(self, retry: int | None = None) -> None:
        self._retry = retry
        self._encoder: codec.ChunkEncoder | None = None  # of the agent whose text came last

    def opening(self) -> bytes:
        """How long the client waits before it reconnects."""
        return b"" if self._retry is None else b"retry: %d\n\n" % self._retry

    def chunks(self, stored: Lines) -> list[bytes]:
        """The events of chunks. Text is passed on as it is stored; other chunks are looked at."""
        parts, self._encoder = last_framed.of(stored.body, (stored, self._encoder), _frames)
        return parts

    def moved(self, error: StreamResetError | SequenceGapError, position: StreamPosition) -> bytes:
        """RESET."""
        return _named(RESET, error, position, **({"firstSequence": position.sequence + 1} if position.sequence else {}))

    def end(self) -> bytes:
        """END."""
        return b"event: %s\ndata: {}\n\n" % END.encode()

    def failed(self, error: HelixError) -> bytes:
        """FAILED; nothing if the client should reconnect."""
        if error.retryable or isinstance(error, (StoreConnectionError, StoreClosedError, StreamNotFoundError)):
            return b""
        return _named(FAILED, error)


@functools.lru_cache(maxsize=4096)
def _prefix(epoch: str, term: str) -> bytes:
    """What an ``id`` has before its sequence."""
    return ((f"{epoch}:{term}:" if term else f"{epoch}:") if _is_word(epoch) else "").encode()


def _is_word(epoch: str) -> bool:
    """Whether a client may be sent this epoch: a stream of plain XADD has none, and a foreign one may break lines."""
    return bool(epoch) and epoch.isprintable()


def _frames(stored: Lines, encoder: codec.ChunkEncoder | None) -> tuple[list[bytes], codec.ChunkEncoder | None]:
    """The events of a batch, and the encoder of the text that probably follows."""
    body, last, after, epoch, term = stored
    if encoder is None:
        encoder = text_encoder(body.partition(b"\n")[0])
    parts: list[bytes | int]
    if encoder is not None:
        first, parts = codec.frame_events(encoder, body, last, after, _prefix(epoch, term), WRITE_BYTES)
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return [parts[0]], encoder
        texts = sum(type(part) is bytes for part in parts)
        if texts == len(parts):
            return cast("list[bytes]", parts), encoder
        if not texts:
            encoder = None  # none of it is that agent's
        lines = codec.split_lines(body, last, after)[1]
    else:
        first, lines = codec.split_lines(body, last, after)
        parts = list(range(first, first + len(lines)))
    return [
        _event(lines[part - first], StreamPosition(epoch, part, term)) if isinstance(part, int) else part
        for part in parts
    ], encoder


def _identity(position: StreamPosition) -> bytes:
    """The ``id`` of an event, which comes back as ``Last-Event-ID``."""
    return (str(position) if _is_word(position.epoch) else str(position.sequence)).encode()


def _event(line: bytes, position: StreamPosition) -> bytes:
    try:
        return b"id: %s\ndata: %s\n\n" % (_identity(position), encode_chunk(decode_chunk(line, position.sequence)))
    except MalformedChunkError as error:
        return _named(MALFORMED, error, position)


def _named(event: str, error: HelixError, position: StreamPosition | None = None, **more: int) -> bytes:
    data = msgspec.json.encode({"code": error.code, "message": str(error), **more})
    identity = b"" if position is None else b"id: %s\n" % _identity(position)
    return b"%sevent: %s\ndata: %s\n\n" % (identity, event.encode(), data)
