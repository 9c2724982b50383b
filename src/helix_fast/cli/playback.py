"""Agents of the demo: each streams its part of a text while its reader drops off, resumes and counts what it reads.

No output here, and no repair of a lost or duplicated chunk: the demo shows what the store does.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from typing import Final

from helix_fast.agents import AgentExecutor, RunContext
from helix_fast.errors import SessionError, StreamError, StreamNotFoundError
from helix_fast.streams.chunks import StreamChunk, TextDeltaChunk, ToolEndChunk, ToolStartChunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StoredChunk
from helix_fast.streams.writer import StreamWriter

# Roughly a tokenizer: words with the space before them, long words in pieces, punctuation, whitespace.
TOKEN: Final = re.compile(r"\s?\w{1,8}|\s?[^\w\s]{1,4}|\s{1,16}")
WANTED_CHUNKS: Final = 250_000  # seconds of work, and well over the 100 000 chunks that the demo promises
LEAST_TOKENS: Final = 100
TOKENS_BETWEEN_TOOLS: Final = 60
CHUNKS_BETWEEN_DROPS: Final = 400
LONGEST_ABSENCE: Final = 0.05
CHUNKS_MISSED: Final = 8
TOOLS: Final = ("read_file", "search", "run_tests", "rechercher_été")

Event = str | ToolStartChunk | ToolEndChunk
Content = tuple[object, ...]


def cut(text: str) -> list[str]:
    """Cut a text into token-sized deltas; joined, they equal the text."""
    return TOKEN.findall(text)


def slice_length(tokens: int, sessions: int) -> int:
    """Tokens of one session: all sessions together stream the whole text, and at least about WANTED_CHUNKS."""
    wanted = max(-(-tokens // sessions), -(-WANTED_CHUNKS // sessions), LEAST_TOKENS)
    return min(tokens, wanted)


def script_of(tokens: Sequence[str], start: int, length: int, chance: random.Random) -> list[Event]:
    """The events of one agent: ``length`` deltas from ``start`` on (it wraps at the end), and tool events between."""
    events: list[Event] = []
    next_tool = chance.randrange(min(length, TOKENS_BETWEEN_TOOLS) + 1)
    calls = 0
    for index in range(length + 1):
        if index >= next_tool:
            calls += 1
            call, tool = f"call_{calls}", chance.choice(TOOLS)
            number = chance.randrange(1 << 40)
            events.append(ToolStartChunk(tool_call_id=call, tool_name=tool, arguments={"path": f"/src/{number:x}"}))
            events.append(ToolEndChunk(tool_call_id=call, result={"lines": number, "ok": "✓"}, success=True))
            next_tool = index + 1 + chance.randrange(2 * TOKENS_BETWEEN_TOOLS)
        if index < length:
            events.append(tokens[(start + index) % len(tokens)])
    return events


def content(chunk: StreamChunk) -> Content:
    """The content of a tool event, without the fields that the writer fills in."""
    if isinstance(chunk, ToolStartChunk):
        return (chunk.type, chunk.tool_call_id, chunk.tool_name, chunk.arguments)
    if isinstance(chunk, ToolEndChunk):
        return (chunk.type, chunk.tool_call_id, chunk.result, chunk.success)
    return (chunk.type, chunk)


class Session:
    """One agent, its stream and its reader.

    Args:
        number: of the session.
        events: what the agent streams; see ``script_of``.
        chance: decides where the reader drops off, and for how long.
        rate: chunks a second; 0 for as fast as it goes.

    Attributes:
        written, received: chunks acknowledged, chunks read.
        resumes, duplicated, out_of_order: counts so far; ``lost`` is valid when both sides are done.
        latencies: seconds from ``write`` to the reader's loop, of chunks written while the reader was connected.
        trouble: the error that ended writer, reader or run, if any.
        name: of the session; stream_id: of its stream.
    """

    def __init__(self, number: int, events: list[Event], chance: random.Random, rate: float = 0.0) -> None:
        self.name: str = f"agent-{number:05d}"
        self.stream_id: str = self.name
        self.events = events
        self.written: int = 0
        self.received: int = 0
        self.resumes: int = 0
        self.duplicated: int = 0
        self.out_of_order: int = 0
        self.latencies: array[float] = array("d")
        self.trouble: StreamError | SessionError | None = None
        self._connected: asyncio.Event | None = None
        self._chance = chance
        self._rate = rate
        self._sent = array("d")
        self._seen = bytearray(len(events))
        self._highest = 0
        self._text: list[str] = []
        self._tools: list[Content] = []
        drops = chance.randint(1, 2 + 2 * len(events) // CHUNKS_BETWEEN_DROPS)
        self._drops = sorted((chance.randint(1, len(events)) for _ in range(drops)), reverse=True)

    @property
    def lost(self) -> int:
        """Acknowledged chunks that the reader has not seen."""
        return self._seen.count(0, 0, self.written)

    @property
    def identical(self) -> bool:
        """Whether all text and tool events were read byte by byte as they were written."""
        text = "".join(event for event in self.events if isinstance(event, str))
        tools = [content(event) for event in self.events if not isinstance(event, str)]
        return self._tools == tools and "".join(self._text).encode() == text.encode()

    async def play(self, streams: RedisStreamManager) -> None:
        """Stream everything, read it back meanwhile, and end the stream.

        Raises:
            StoreError: the server cannot be reached. A StreamError is kept in ``trouble``.
        """
        writer = await streams.create_writer(self.stream_id, "agent", "demo")
        reading = asyncio.ensure_future(self._read(streams))
        try:
            try:
                await self._write(streams, writer)
            except StreamError as error:
                self.trouble = error
                return
            await reading
            await writer.close()
        finally:
            # The Helix closes a failed writer: close() here would wait for a flush that cannot succeed.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def play_as_run(self, streams: RedisStreamManager, executor: AgentExecutor) -> None:
        """As ``play``, with the agent in a run of an executor, which writes and ends the stream.

        Raises:
            StoreError: the server cannot be reached.
        """

        connected = self._connected = asyncio.Event()

        async def agent(_message: object, _context: RunContext) -> AsyncIterator[Event]:
            await connected.wait()
            pause = 1 / self._rate if self._rate else 0.0
            for event in self.events:
                if pause:
                    await asyncio.sleep(pause)
                self._sent.append(time.perf_counter())
                yield event

        try:
            handle = await executor.execute(agent, None, session_id=self.name, agent_type="demo")
            self.stream_id = handle.stream_id
            reading = asyncio.ensure_future(self._read(streams))
            try:
                await handle.result()
                self.written = len(self._sent)
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        except (StreamError, SessionError) as error:
            self.trouble = error

    async def _write(self, streams: RedisStreamManager, writer: StreamWriter) -> None:
        clock, sent = time.perf_counter, self._sent
        pause = 1 / self._rate if self._rate else 0.0
        due = clock() + pause * self._chance.random()  # agents start at different moments
        for event in self.events:
            if pause:
                due += pause
                await asyncio.sleep(max(0.0, due - clock()))
            sent.append(clock())
            if isinstance(event, str):
                writer.send_text(event)
                if not pause:
                    await asyncio.sleep(0)  # lets the other agents run
            else:
                # Waiting for the acknowledgement also keeps an agent without a rate from running ahead of the server.
                self.written = await writer.write(event)
        await writer.flush()
        self.written = len(sent)
        await streams.end_stream(self.stream_id, {"chunks": self.written})

    async def _read(self, streams: RedisStreamManager) -> None:
        last, epoch = 0, None
        try:
            while True:
                reader = await streams.create_resumable_reader(self.stream_id, from_sequence=last, epoch=epoch)
                if reader is None:
                    raise StreamNotFoundError(self.stream_id)
                epoch, since = reader.epoch, time.perf_counter()
                if self._connected is not None:
                    self._connected.set()
                async with reader:
                    async for stored in reader:
                        last = stored.sequence
                        self.saw(stored, since)
                        if self._drops and self.received >= self._drops[-1]:
                            self._drops.pop()
                            break
                    else:
                        return
                self.resumes += 1
                longest = max(LONGEST_ABSENCE, CHUNKS_MISSED / self._rate) if self._rate else LONGEST_ABSENCE
                await asyncio.sleep(self._chance.choice((0.0, self._chance.uniform(0, longest))))
        except StreamError as error:
            self.trouble = error

    def saw(self, stored: StoredChunk, since: float) -> None:
        """Count a chunk that the reader got; ``since``: when it connected, by ``time.perf_counter``."""
        sequence, chunk = stored.sequence, stored.chunk
        self.received += 1
        if not 0 < sequence <= len(self._seen) or self._seen[sequence - 1]:
            self.duplicated += 1
        else:
            self._seen[sequence - 1] = 1
            if sequence < self._highest:
                self.out_of_order += 1
            else:
                self._highest = sequence
            if sequence <= len(self._sent) and self._sent[sequence - 1] >= since:
                self.latencies.append(time.perf_counter() - self._sent[sequence - 1])
        if isinstance(chunk, TextDeltaChunk):
            self._text.append(chunk.delta)
        else:
            self._tools.append(content(chunk))
