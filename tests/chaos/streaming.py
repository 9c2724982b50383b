"""Programs that write and read streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from helix_fast.connect import Helix
from helix_fast.errors import (
    AcknowledgedDataLostError,
    HelixError,
    SequenceGapError,
    StoreError,
    StreamDeletedError,
    StreamResetError,
    WriteOutcomeUnknownError,
)
from helix_fast.streams.writer import StreamWriter
from tests.support.streams_under_fault import delta

from .program import Program

Chunks = list[dict[str, Any]]


def told_of_streams(program: Program, helix: Helix) -> None:
    """Write down what the stream manager says is lost."""

    def told(error: HelixError) -> None:
        if isinstance(error, AcknowledgedDataLostError):
            program.journal.write("lost", stream=error.stream_id, first=error.first, last=error.last)

    helix.streams.on("error", told)


async def produce(program: Program) -> None:
    """Writes to all streams, in all ways, and repeats a write until it is acknowledged, as a careful caller does."""
    helix = await program.connected()
    told_of_streams(program, helix)
    try:
        await asyncio.gather(*(Production(program, helix, stream).run() for stream in program.order.ids))
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


class Production:
    """What a producer writes to one stream."""

    def __init__(self, program: Program, helix: Helix, stream: str) -> None:
        self._program = program
        self._helix = helix
        self._stream = stream
        self._writer: StreamWriter | None = None
        self._number = 0

    async def run(self) -> None:
        """Write until all faults are over, and once more: with that it has looked what became of its chunks."""
        dice = self._program.dice
        while not self._program.stopping:
            if dice.random() < 0.2:
                await self._repeat(self._send, dice.randrange(1, 30))
            else:
                await self._repeat(self._write, dice.choice((1, 1, 1, 2, 5)))
            if self._writer is not None and dice.random() < 0.02:
                await self._program.calls.wait("close", self._writer.close())
                self._writer = None
            await asyncio.sleep(dice.random() * 0.02)
        await self._repeat(self._write, 1)

    async def _repeat(self, action: Callable[[Chunks], Awaitable[int | None]], count: int) -> None:
        """Repeat it with the same chunks until they are acknowledged, or nobody can say what became of them."""
        program, stream = self._program, self._stream
        author = f"{program.order.name}.{program.incarnation}.{stream}"
        names = [f"{author}.{self._number + n}" for n in range(count)]
        self._number += count
        chunks: Chunks = [{"type": "text_delta", "delta": name} for name in names]
        self._sent = False
        while True:
            try:
                last = await action(chunks)
            except (StreamDeletedError, StreamResetError) as error:  # noqa: PERF203
                program.journal.write("gone", stream=stream, code=error.code)
                self._writer, self._sent = None, False
            except WriteOutcomeUnknownError:
                return
            except HelixError as error:
                program.failed(error, stream)
                await asyncio.sleep(0.05)
            else:
                program.journal.write("ack", stream=stream, names=names, last=last)
                return

    async def _open(self) -> StreamWriter:
        if self._writer is None:
            opening = self._helix.streams.create_writer(self._stream, self._program.order.name)
            self._writer = await self._program.calls.wait("open", opening)
        return self._writer

    async def _write(self, chunks: Chunks) -> int:
        writer = await self._open()
        if len(chunks) == 1:
            return await self._program.calls.wait("write", writer.write(chunks[0]))
        return await self._program.calls.wait("write_many", writer.write_many(chunks))

    async def _send(self, chunks: Chunks) -> None:
        """Send them without waiting, once, and wait for all of them."""
        writer = await self._open()
        if not self._sent:
            for chunk in chunks:
                writer.send(chunk)
            self._sent = True
        await self._program.calls.wait("flush", writer.flush())


async def read(program: Program) -> None:
    """Reads all streams to their ends; goes on where its journal ends, and behind a gap as the error says."""
    helix = await program.connected()
    try:
        await asyncio.gather(*(_read_one(program, helix, stream) for stream in program.order.ids))
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


def _where(program: Program, stream: str) -> tuple[Any, bool]:
    """The position to go on from, and whether the stream's end was seen."""
    position: Any = 0
    for record in program.before:
        if record.get("stream") == stream:
            if record["what"] == "ended":
                return position, True
            position = record.get("position", position)
    return position, False


async def _read_one(program: Program, helix: Helix, stream: str) -> None:
    position, ended = _where(program, stream)
    journal, calls = program.journal, program.calls
    while not ended:
        reader = None
        try:
            reader = await calls.wait("open", helix.streams.create_resumable_reader(stream, from_sequence=position))
            if reader is None:
                await asyncio.sleep(0.1)
                continue
            while True:
                batch = await reader.read_batch()
                if not batch:
                    ended = True
                    journal.write("ended", stream=stream)
                    break
                position = str(batch[-1].position)
                seen = [(one.epoch, one.term, one.sequence, delta(one.chunk)) for one in batch]
                journal.write("seen", sync=False, stream=stream, chunks=seen, position=position)
                if program.order.slow and not program.order.closing.exists():
                    await asyncio.sleep(program.dice.random() * 3)
        except SequenceGapError as gap:
            # In this life of the stream only: a bare sequence is a place in the next one too.
            epoch, told, _ = str(position).partition(":")
            position = f"{epoch}:{gap.first_available - 1}" if told else gap.first_available - 1
            journal.write("gap", stream=stream, requested=gap.requested, position=position)
        except (StreamDeletedError, StreamResetError) as error:
            position = 0
            journal.write("gone", stream=stream, code=error.code, position=0)
        except StoreError as error:
            program.failed(error, stream)
            await asyncio.sleep(0.1)
        finally:
            if reader is not None:
                await calls.wait("close", reader.close())
