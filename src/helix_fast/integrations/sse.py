"""Server-sent events on Starlette: the response that sends a stream to one client, in the protocol of its codec.

It waits, sends heartbeats and ends with its client or its web server. What the events say is the codec's; positions,
gaps and retries are the reader's.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from helix_fast.errors import HelixError, SequenceGapError, StreamResetError
from helix_fast.streams.lines import LineReader, Lines
from helix_fast.streams.schema import StreamPosition

try:
    from starlette.background import BackgroundTask
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ImportError as _missing:
    raise ImportError("the integration needs Starlette: pip install 'helix-fast[starlette]'") from _missing

HEARTBEAT: Final = b": heartbeat\n\n"
# A proxy that buffers or compresses (nginx does) would delay tokens.
HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
# Bytes of events in one write. A client that reads nothing holds one of them beside what its connection buffers.
WRITE_BYTES: Final = 64 << 10
SHUTDOWN_POLL: Final = 0.2  # seconds
RETRY_PAUSE: Final = 0.2  # seconds between two tries to read, where the codec goes on after an outage
Open = Callable[[StreamPosition], LineReader]


class EventCodec(Protocol):
    """What a protocol makes of a stream. One object a response: it may keep what it has sent.

    Attributes:
        cuts: an early end breaks the connection, because a complete response would count as the whole answer.
        retries: an outage of the store is waited for; else it ends the response, and the client reconnects.
    """

    cuts: bool
    retries: bool

    def opening(self) -> bytes:
        """What is sent before the first chunk."""

    def chunks(self, stored: Lines) -> list[bytes]:
        """The events of a batch of the reader, each part made of complete frames. What is no chunk has no exception."""

    def moved(self, error: StreamResetError | SequenceGapError, position: StreamPosition) -> bytes | None:
        """The event that says that the stream goes on after ``position``; None: this client cannot go on."""

    def end(self) -> bytes:
        """What is sent after the last chunk of a stream that has ended."""

    def failed(self, error: HelixError) -> bytes:
        """What is sent last where reading failed."""


class EventStream(Response):
    """A response with the events of a stream after a position, then live, until the stream ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        read: Open,
        position: StreamPosition,
        codec: EventCodec,
        *,
        heartbeat: float,
        headers: Mapping[str, str] | None = None,
        reader: LineReader | None = None,
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self._open = read
        self._position = position
        self._codec = codec
        self._heartbeat = heartbeat
        self._reader = reader  # one that is open already, for the first position
        self.init_headers({**HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client disconnects."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            if self._reader is not None:
                await self._reader.close()
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._until_gone(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _until_gone(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not every server reports a disconnect by cancelling us or by refusing to send; in a silent
        # stream, none would before the next heartbeat.
        gone = asyncio.ensure_future(_disconnected(receive))
        output = Output(send, self._heartbeat, gone)
        sending = asyncio.ensure_future(self._send(scope, output))
        with _shutdown() as leaving:
            try:
                await asyncio.wait((sending, gone, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                finished = sending.done()
                tasks = [sending, gone, *output.stop()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if finished:
            sending.result()
        elif leaving.done():
            if self._codec.cuts:
                await cut(scope)
                return
            with contextlib.suppress(OSError, asyncio.TimeoutError):  # a client that reads nothing
                await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), 1)

    async def _send(self, scope: Scope, output: Output) -> None:
        with contextlib.suppress(OSError):  # the client has disconnected
            last = await self._events(output)
            if last is None:
                await cut(scope)
            else:
                await output.write(last, more=False)

    async def _events(self, output: Output) -> bytes | None:
        """Send all events but the last, which is returned; None where the connection is to be broken instead."""
        codec, position = self._codec, self._position
        await output.write(codec.opening())
        while True:
            event, over = b"", True
            reader, self._reader = self._reader or self._open(position), None
            async with reader:
                try:
                    while (stored := await reader.read_batch()) is not None:
                        await _pass_on(reader, stored, codec, output)
                    event = codec.end()
                except (StreamResetError, SequenceGapError) as error:
                    position = _behind(error, reader.epoch)
                    moved = codec.moved(error, position)
                    event, over = (codec.failed(error), True) if moved is None else (moved, False)
                except HelixError as error:
                    over = not (codec.retries and error.retryable)
                    event = codec.failed(error) if over else b""
                    if over and not event and codec.cuts:
                        return None
                    position = reader.position
            del reader  # and the error that has ended it, whose traceback holds a page of the log
            if over:
                return event
            await output.write(event)
            if not event:
                await asyncio.sleep(RETRY_PAUSE)


async def _pass_on(reader: LineReader, stored: Lines | None, codec: EventCodec, output: Output) -> None:
    """Send the events of all chunks that have arrived, in few writes.

    A slow client holds these bytes, a third of what the chunks would take as objects.
    """
    parts: list[bytes] = []
    size = 0
    while stored is not None:
        for part in codec.chunks(stored):
            parts.append(part)
            size += len(part)
            if size >= WRITE_BYTES:
                await output.write(parts[0] if len(parts) == 1 else b"".join(parts))
                parts, size = [], 0
        stored = reader.read_pushed()
    if parts:
        await output.write(parts[0] if len(parts) == 1 else b"".join(parts))


class Output:
    """What a response sends: its events, and a comment after each silence. One timer serves many events.

    Args:
        send: of the web server.
        heartbeat: seconds of silence before a comment.
        gone: cancelled when a comment cannot be sent: the client has disconnected.
    """

    def __init__(self, send: Send, heartbeat: float, gone: asyncio.Future[None]) -> None:
        self._write = send
        self._heartbeat = heartbeat
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._wrote_at = self._loop.time()
        self._beating: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(heartbeat, self._tick)

    async def write(self, part: bytes, *, more: bool = True) -> None:
        """Send bytes, if there are any; waits while the client takes nothing."""
        if not part and more:
            return
        if self._beating is not None:
            await asyncio.wait((self._beating,))
        self._writing = True
        try:
            await self._write({"type": "http.response.body", "body": part, "more_body": more})
        finally:
            self._writing = False
            self._wrote_at = self._loop.time()

    def _tick(self) -> None:
        left = self._wrote_at + self._heartbeat - self._loop.time()
        if self._writing:
            left = self._heartbeat  # the client takes nothing: a comment would only wait behind the event
        elif left <= 0.001:
            left = self._heartbeat
            if self._beating is None:
                self._beating = self._loop.create_task(self._beat())
        self._timer = self._loop.call_later(left, self._tick)

    async def _beat(self) -> None:
        try:
            await self._write({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
        except OSError:
            self._gone.cancel()
        finally:
            self._wrote_at = self._loop.time()
            self._beating = None

    def stop(self) -> list[asyncio.Task[None]]:
        """Begin no more comments; returns the task that sends one, if there is any."""
        self._timer.cancel()
        return [] if self._beating is None else [self._beating]


def _behind(error: StreamResetError | SequenceGapError, epoch: str) -> StreamPosition:
    """The position from which a client goes on whose own is no longer valid."""
    if isinstance(error, StreamResetError):
        return StreamPosition(error.current_epoch, 0)
    return StreamPosition(epoch, error.first_available - 1)


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


async def cut(scope: Scope) -> None:
    """Break the connection of a response that is not complete, as a lost network would.

    A web server does that by itself for an app that returns too early, with an error in its log for each; uvicorn is
    spared it, since its connections can be found.
    """
    state = getattr(_server(), "server_state", None)
    for connection in list(getattr(state, "connections", ())):
        if getattr(connection, "scope", None) is scope:
            connection.transport.abort()
            for _ in range(10):  # until it knows that it is broken
                if getattr(connection.cycle, "disconnected", True):
                    break
                await asyncio.sleep(0)
