"""Programs that write and read streams."""

from __future__ import annotations

import asyncio
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
from tests.support.streams_under_fault import delta

from .program import Program


async def produce(program: Program) -> None:
    """Writes to all streams, in all ways, and repeats a write until it is acknowledged, as a careful caller does."""
    helix = await program.connected()

    def told(error: HelixError) -> None:
        if isinstance(error, AcknowledgedDataLostError):
            program.journal.write("lost", stream=error.stream_id, first=error.first, last=error.last)

    helix.streams.on("error", told)
    try:
        await asyncio.gather(*(_produce_one(program, helix, stream) for stream in program.order.ids))
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


async def _produce_one(program: Program, helix: Helix, stream: str) -> None:
    dice, writer, number = program.dice, None, 0
    author = f"{program.order.name}.{program.incarnation}.{stream}"
    while True:
        # The last write comes after all faults: with it the process has looked what became of its chunks.
        last_one = program.stopping
        count = 1 if last_one else dice.choice((1, 1, 1, 2, 5))
        names = [f"{author}.{number + n}" for n in range(count)]
        number += count
        chunks = [{"type": "text_delta", "delta": name} for name in names]
        acknowledged = False
        while not acknowledged:
            try:
                if writer is None:
                    writer = await program.calls.wait("open", helix.streams.create_writer(stream, program.order.name))
                if count == 1:
                    last = await program.calls.wait("write", writer.write(chunks[0]))
                else:
                    last = await program.calls.wait("write_many", writer.write_many(chunks))
            except (StreamDeletedError, StreamResetError) as error:  # noqa: PERF203
                program.journal.write("gone", stream=stream, code=error.code)
                writer = None
            except WriteOutcomeUnknownError:
                break
            except HelixError as error:
                program.failed(error, stream)
                await asyncio.sleep(0.05)
            else:
                program.journal.write("ack", stream=stream, names=names, last=last)
                acknowledged = True
        if last_one and acknowledged:
            return
        if writer is not None and dice.random() < 0.02:
            await program.calls.wait("close", writer.close())
            writer = None
        await asyncio.sleep(dice.random() * 0.02)


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
        except SequenceGapError as gap:
            position = gap.first_available - 1
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
