"""The programs at work: each is a process of its own, forked by a server of forks, with a journal. Killed at will.

A program that was killed begins again in another incarnation, with the journal of the one before.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from helix_fast import connect
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

from .calls import Calls, HungError
from .journal import Journal, records

BOUND = 60.0
"""Seconds: no call may take longer, whatever the nemesis does meanwhile; its own faults last a few seconds each."""
RETRY = 5.0


class Order(NamedTuple):
    """What a program gets. ``directory``: of the journals, and of the file `stop`."""

    kind: str
    name: str
    url: str
    streams: tuple[str, ...]
    directory: str
    seed: int
    wait_replicas: int = 0

    @property
    def journal(self) -> Path:
        return Path(self.directory, f"{self.name}.journal")


class Program:
    """What all programs share."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.before = records(order.journal)
        self.incarnation = sum(record["what"] == "begin" for record in self.before)
        self.journal = Journal(order.journal)
        self.journal.write("begin", pid=os.getpid())
        self.calls = Calls(self.journal, BOUND)
        self.dice = random.Random(f"{order.seed} {order.name} {self.incarnation}")
        self._stop = Path(order.directory, "stop")

    @property
    def stopping(self) -> bool:
        return self._stop.exists()

    def connect(self) -> Helix:
        return connect(
            self.order.url, timeout=1.0, retry_timeout=RETRY, wait_replicas=self.order.wait_replicas,
            streams={"max_stream_length": None, "block_timeout": 500},
            locks={"default_ttl_ms": 3000},
        )  # fmt: skip

    async def connected(self) -> Helix:
        """Connect, as soon as there is a server."""
        while True:
            helix = self.connect()
            try:
                return await self.calls.wait("connect", helix._open())
            except StoreError:
                await asyncio.sleep(0.1)


async def produce(program: Program) -> None:
    """Writes to all streams, in all ways, and repeats a write until it is acknowledged, as a careful caller does."""
    helix = await program.connected()

    def told(error: HelixError) -> None:
        if isinstance(error, AcknowledgedDataLostError):
            program.journal.write("lost", stream=error.stream_id, first=error.first, last=error.last)

    helix.streams.on("error", told)
    try:
        await asyncio.gather(*(_produce_one(program, helix, stream) for stream in program.order.streams))
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
                program.journal.write("failed", sync=False, stream=stream, code=error.code, text=str(error))
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
        await asyncio.gather(*(_read_one(program, helix, stream) for stream in program.order.streams))
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
            journal.write("failed", sync=False, stream=stream, code=error.code)
            await asyncio.sleep(0.1)
        finally:
            if reader is not None:
                await calls.wait("close", reader.close())


KINDS: dict[str, Callable[[Program], Coroutine[Any, Any, None]]] = {"producer": produce, "reader": read}


def run(order: Order) -> None:
    """The main of each process."""
    from helix_fast.embedded.supervisor import die_with_parent

    if sys.platform == "linux":
        die_with_parent(os.getppid(), signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = Program(order)
    status = 1
    try:
        asyncio.run(KINDS[order.kind](program))
        status = 0
    except HungError:
        status = 3
    except BaseException:
        program.journal.write("crashed", text=traceback.format_exc()[-2000:])
    os._exit(status)
