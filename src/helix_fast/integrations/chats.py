"""Chats over HTTP: runs that outlive their request, each a stream of its own, and the pointer from a chat to the last.

Vercel's and AG-UI's protocols are made of it. What they store and send is theirs: a recorder makes chunks of what a
producer yields, a codec makes events of chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from helix_fast import arguments
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    StoreConnectionError,
    StoreTimeoutError,
    StreamClosedError,
    StreamNotFoundError,
)
from helix_fast.keys import chat_pointer
from helix_fast.lua import script
from helix_fast.streams.lines import LineReader
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StreamInfo, StreamPosition

from .production import Production, Recorder, discard
from .sse import EventCodec, EventStream

try:
    from starlette.responses import JSONResponse, Response
except ImportError as _missing:
    raise ImportError("the integration needs Starlette: pip install 'helix-fast[starlette]'") from _missing

T = TypeVar("T")
Self = TypeVar("Self", bound="Endpoints")

_CLAIM: Final = script("integrations", "chat_claim")
_RUN_ID: Final = re.compile(r"(.+):run-[0-9a-f]{16}")
CLAIM_MS: Final = 30_000
"""How long a chat stays claimed for a run whose process died before the run's stream was made."""
PENDING: Final = "?"
"""Before the run in a pointer: its stream does not exist yet."""
RUN_HEADER: Final = "x-workflow-run-id"
"""Header of a response: the id of the run that it sends. Its name is that of ``@ai-sdk/workflow``."""
ERROR_TEXT: Final = "An error occurred."
LOST_TEXT: Final = "The answer was interrupted."


class Run(NamedTuple):
    """A run as its producer sees it: an async iterator that takes it learns of ``stop``.

    Attributes:
        chat: the chat that it belongs to.
        run_id: the run, also the id of its stream.
        message_id: of the message that it writes.
        stop_requested: an ``asyncio.Event``, set when somebody asks to stop, in any process.
    """

    chat: str
    run_id: str
    message_id: str
    stop_requested: asyncio.Event


ErrorText = Callable[[BaseException], str]
"""What a page is told of an error."""
Producer = AsyncIterable[Any] | Callable[[Run], "AsyncIterable[Any] | Awaitable[AsyncIterable[Any]]"]
"""What writes an answer: an async iterator of a protocol's chunks, or a function of the Run that returns one."""


class ChatRuns:
    """The runs of chats. One object a process, shared by its requests; closing it ends the runs of this process.

    Args:
        streams: the manager, on Redis or in memory.
        lease_ms: milliseconds after which readers learn that the process of a run died.
        stop_grace_ms: milliseconds that a producer which knows its Run has to end after a stop, before it is cancelled.
            One that does not know it is cancelled at once.
        wait_ms: milliseconds that a client waits for a run which has been asked for and has not begun.
        heartbeat_ms: milliseconds of silence after which a comment is sent: proxies close silent connections.
    """

    def __init__(
        self,
        streams: RedisStreamManager,
        *,
        lease_ms: int = 15_000,
        stop_grace_ms: float = 5_000,
        wait_ms: float = 15_000,
        heartbeat_ms: float = 15_000,
    ) -> None:
        self.streams: RedisStreamManager = streams
        self._lease_ms = arguments.integer(lease_ms, "lease_ms", 10)
        self._stop_grace = arguments.milliseconds(stop_grace_ms, "stop_grace_ms")
        arguments.milliseconds(wait_ms, "wait_ms")
        self._wait_ms = wait_ms
        self._heartbeat = arguments.milliseconds(heartbeat_ms, "heartbeat_ms", 1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # ids

    @staticmethod
    def chat_of(name: str) -> str:
        """The chat of a chat's or a run's id: what a request with this id in its path must be authorized for."""
        found = _RUN_ID.fullmatch(name)
        return found[1] if found else name

    @staticmethod
    def is_run(name: str) -> bool:
        """Whether it is the id of a run."""
        return _RUN_ID.fullmatch(name) is not None

    async def pointer(self, chat: str) -> str:
        """The chat's last run, after PENDING if its stream does not exist yet; empty if there is none."""
        key = chat_pointer(self.streams.key_prefix, chat)
        reply = await self.streams._requests.command(chat, b"GET", key)
        return reply.decode(errors="replace") if reply else ""

    async def _claim(self, chat: str, expected: str, new: str, ttl_ms: int) -> str:
        """Set the pointer if it is ``expected``; return what it is now."""
        key = chat_pointer(self.streams.key_prefix, chat)
        reply = await self.streams._requests.run(_CLAIM, chat, (key,), (expected, new, ttl_ms))
        return str(reply.decode(errors="replace"))

    async def _confirm(self, chat: str, run: str, expected: str) -> None:
        await self._claim(chat, expected, run, self.streams.ttl * 1000)

    # begin and end

    async def begin(
        self, chat: str, producer: Producer, recorder: Recorder, *, message_id: str, on_busy: str, agent_id: str
    ) -> str | None:
        """Begin a run, in a task of its own; returns its id, or None if the chat has one that goes on.

        Raises:
            InvalidIdError, InvalidArgumentError, StoreConnectionError.
        """
        if on_busy not in {"refuse", "stop"}:
            raise InvalidArgumentError(f"on_busy must be 'refuse' or 'stop', not {on_busy!r}")
        if self._closing:
            raise InvalidArgumentError("these chats are closed", hint="the process is shutting down")
        chat_pointer("", chat)
        if self.is_run(chat):
            raise InvalidArgumentError(f"{chat!r} is the id of a run, not of a chat")
        run = f"{chat}:run-{secrets.token_hex(8)}"
        if not await self._reserve(chat, run, stop=on_busy == "stop"):
            await discard(producer)
            return None
        try:
            writer = await self.streams.create_writer(run, agent_id, lease_ms=self._lease_ms, max_length=None)
            writer.send(recorder.header())
            await self._confirm(chat, run, PENDING + run)
            source = producer
            if not isinstance(source, AsyncIterable):
                made = source(Run(chat, run, message_id, writer.stop_requested))
                source = made if isinstance(made, AsyncIterable) else await made
        except BaseException as error:
            await self._give_up(chat, run, error)
            raise
        grace = 0.0 if isinstance(producer, AsyncIterable) else self._stop_grace
        production = Production(self.streams, writer, source, recorder, grace)
        task = asyncio.get_running_loop().create_task(production.run(partial(self._confirm, chat, run, run)))
        self._tasks.add(task)  # a task without a reference may be garbage-collected
        task.add_done_callback(self._tasks.discard)
        return run

    async def _reserve(self, chat: str, run: str, *, stop: bool) -> bool:
        """Point the chat to the run, unless another one goes on."""
        last = await self.pointer(chat)
        while True:
            if last and await self.goes_on(last):
                if not stop:
                    return False
                await self._finish(chat, last)
                last = await self.pointer(chat)
                if last and await self.goes_on(last):
                    continue  # another request stopped the run as well, and has begun one
            found = await self._claim(chat, last, PENDING + run, CLAIM_MS)
            if found == PENDING + run:
                return True
            last = found

    async def _give_up(self, chat: str, run: str, error: BaseException) -> None:
        with contextlib.suppress(HelixError):
            await self._claim(chat, PENDING + run, "", 1)
            await self.streams.fail_stream(run, f"not begun: {type(error).__name__}")

    async def goes_on(self, last: str) -> bool:
        """Whether the run of a pointer is to begin, or is running in a process that is alive."""
        if last.startswith(PENDING):
            return True
        info = await self.streams.get_info(last)
        return info is not None and alive(info)

    async def _finish(self, chat: str, last: str) -> None:
        """Stop a run and wait for its end; end it where it does not end by itself."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._stop_grace + 5
        while last.startswith(PENDING) and loop.time() < give_up:
            await asyncio.sleep(0.05)
            last = await self.pointer(chat)
        run = last.removeprefix(PENDING)
        with contextlib.suppress(StreamNotFoundError, StreamClosedError):
            await self.streams.request_stop(run, "another message was sent")
            try:
                await asyncio.wait_for(self._until_end(run), max(0.1, give_up - loop.time()))
            except (asyncio.TimeoutError, TimeoutError):
                await self.streams.fail_stream(run, "it did not stop")

    async def _until_end(self, run: str) -> None:
        info = await self.streams.get_info(run)
        if info is None or not alive(info):
            return
        async with self.streams.read(run, from_sequence=info.last_sequence, on_gap="skip") as reader:
            with contextlib.suppress(HelixError):  # it failed: that is an end as well
                while await reader.read_batch():
                    pass

    async def stop(self, name: str, reason: str = "") -> str | None:
        """Ask a run, or a chat's current run, to stop; returns the run, or None if there is none that goes on."""
        run = name if self.is_run(name) else (await self.pointer(name)).removeprefix(PENDING)
        if not run:
            return None
        try:
            await self.streams.request_stop(run, reason)
        except (StreamNotFoundError, StreamClosedError):
            return None
        return run

    async def answer_stop(self, name: str, run_id: str | None) -> Response:
        """Ask a chat's current run, or this run of it, to stop; JSON ``{"stopped": run}``."""
        if run_id is not None and self.chat_of(run_id) != self.chat_of(name):
            raise InvalidArgumentError("the run is not of this chat")
        return JSONResponse({"stopped": await self.stop(run_id or name, "stopped by the user")})

    async def close(self, grace_ms: float = 0) -> None:
        """End the runs of this process: those that are not over after ``grace_ms`` are cancelled and fail.

        Belongs into the ``lifespan`` of an app, before the Helix is closed.
        """
        self._closing = True
        tasks = set(self._tasks)
        if tasks and grace_ms:
            await asyncio.wait(tasks, timeout=arguments.milliseconds(grace_ms, "grace_ms"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(
        self,
        run: str,
        codec: EventCodec,
        *,
        position: StreamPosition | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EventStream | None:
        """The response that sends a run after a position; None if its stream does not come to exist."""
        return await follow(
            self.streams,
            run,
            codec,
            position=position,
            headers=headers,
            wait_ms=self._wait_ms,
            heartbeat=self._heartbeat,
        )


class Endpoints:
    """What ``vercel.ChatStreams`` and ``ag_ui.AGUIStreams`` share: the runs of this process, and their end.

    Args:
        streams, lease_ms, stop_grace_ms, wait_ms, heartbeat_ms: see ``ChatRuns``.
        error_text: what the page is told of an exception of the producer, or of a run that failed; by default no more
            than that there was one, since texts of exceptions may hold secrets.
    """

    def __init__(
        self,
        streams: RedisStreamManager,
        *,
        error_text: ErrorText | None = None,
        lease_ms: int = 15_000,
        stop_grace_ms: float = 5_000,
        wait_ms: float = 15_000,
        heartbeat_ms: float = 15_000,
    ) -> None:
        self.runs: ChatRuns = ChatRuns(
            streams, lease_ms=lease_ms, stop_grace_ms=stop_grace_ms, wait_ms=wait_ms, heartbeat_ms=heartbeat_ms
        )
        self._error_text: ErrorText = error_text or plain_text

    async def close(self, grace_ms: float = 0) -> None:
        """End the runs of this process; see ``ChatRuns.close``."""
        await self.runs.close(grace_ms)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


async def follow(
    streams: RedisStreamManager,
    run: str,
    codec: EventCodec,
    *,
    position: StreamPosition | None = None,
    headers: Mapping[str, str] | None = None,
    wait_ms: float = 15_000,
    heartbeat: float = 15.0,
) -> EventStream | None:
    """The response that sends a stream after a position; None if it does not come to exist within ``wait_ms``."""

    def read(position: StreamPosition) -> LineReader:
        return streams._line_reader(run, position)

    first = position or StreamPosition("", 0)
    reader = streams._line_reader(run, first, wait_ms=wait_ms)
    if not await reader.open():
        return None
    return EventStream(read, first, codec, heartbeat=heartbeat, headers=headers, reader=reader)


def alive(info: StreamInfo) -> bool:
    """Whether a stream goes on, written by a process that is alive."""
    return info.status in {"active", "paused"} and info.lease_expires_at is not None


async def answer(response: Awaitable[T]) -> T | Response:
    """Await a response. Invalid ids and an unreachable store become responses, too."""
    try:
        return await response
    except InvalidArgumentError as error:
        return JSONResponse({"error": str(error), "hint": error.hint}, 400)
    except (StoreConnectionError, StoreTimeoutError):
        return JSONResponse({"error": "the store cannot be reached"}, 503, {"Retry-After": "1"})


def plain_text(_error: BaseException) -> str:
    """What a page is told of an error: no more than that there was one, since its text may hold a secret."""
    return ERROR_TEXT
