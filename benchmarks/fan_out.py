"""P21: 10 000 readers of one stream in one process: what a delivered chunk costs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from helix_fast import ResumableReader, StreamWriter, TextDeltaChunk, connect

from .measure import Measure, Run, check
from .open_streams import open_readers
from .payloads import AGENT_ID, AGENT_TYPE, TIMESTAMP
from .probe import PATIENCE
from .targets import TARGETS

ENTRY = 64


class FanOut(Measure):
    """CPU of the process for a chunk that one reader gets, in its own task, as an object of its own.

    The baseline hands the same object to as many functions, one after the other: no task, no copy, no sequence.
    """

    key = "P21"
    what = f"10 000 readers of one stream in one process, entries of {ENTRY}: CPU of a delivered chunk"
    against = "a plain call of a callback"
    unit = "ns"
    target, reach = TARGETS["P21"]

    async def prepare(self) -> None:
        self.readers = self.size.pick(10_000, 1_000, 20)
        self.entries = self.size.pick(2, 2, 2)

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        if self.size.full:
            yield "one at a time, against waking a task for each", lambda: self._delivered(1), self._woken

    async def ours(self) -> float:
        return await self._delivered(ENTRY)

    async def _delivered(self, entry: int) -> float:
        """Writes the next entry when all readers have had the one before."""
        name = self.fresh("fan")
        async with connect(self.server.url) as helix:
            async with await helix.streams.create_writer(name, AGENT_ID, AGENT_TYPE) as writer:
                await writer.write_many(self._chunks(entry))
                readers = await open_readers(helix.streams, [name] * self.readers)
                arrived = [0]
                reading = asyncio.gather(
                    *(self._read(reader, entry * (self.entries + 1), arrived) for reader in readers)
                )
                await self._until(arrived, entry)
                began = time.process_time()
                for turn in range(self.entries):
                    await self._write_and_wait(writer, entry, arrived, entry * (turn + 2))
                seconds = time.process_time() - began
                await reading
            await helix.streams.delete_stream(name)
        return seconds / (self.entries * entry * self.readers) * 1e9

    def _chunks(self, count: int) -> list[TextDeltaChunk]:
        return [TextDeltaChunk(delta=self.text, timestamp=TIMESTAMP) for _ in range(count)]

    async def _write_and_wait(self, writer: StreamWriter, entry: int, arrived: list[int], each: int) -> None:
        await writer.write_many(self._chunks(entry))
        await self._until(arrived, each)

    async def _until(self, arrived: list[int], each: int) -> None:
        end = time.monotonic() + PATIENCE
        while arrived[0] < each * self.readers:
            await asyncio.sleep(0)
            if time.monotonic() > end:
                raise TimeoutError(f"{arrived[0]} chunks of {each * self.readers} arrived")

    async def _read(self, reader: ResumableReader, chunks: int, arrived: list[int]) -> None:
        last = 0
        async with reader:
            async for stored in reader:
                last = stored.sequence
                arrived[0] += 1
                if last == chunks:
                    break
        check(last, chunks, "last sequence that a reader got")

    async def baseline(self) -> float:
        counts = [0]

        def callback(_chunk: Any) -> None:
            counts[0] += 1

        chunk = TextDeltaChunk(delta=self.text)
        callbacks = [callback] * self.readers
        chunks = self.size.pick(200, 200, 20)
        began = time.process_time()
        for _ in range(chunks):
            for call in callbacks:
                call(chunk)
        seconds = time.process_time() - began
        check(counts[0], chunks * self.readers, "calls")
        return seconds / counts[0] * 1e9

    async def _woken(self) -> float:
        """A future for each task, which is woken by its result: what any library does that hands chunks to tasks."""
        loop = asyncio.get_running_loop()
        turns = self.size.pick(20, 10, 2)
        futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(self.readers)]

        async def wait(number: int) -> None:
            for _ in range(turns):
                await futures[number]
                futures[number] = loop.create_future()

        tasks = [asyncio.ensure_future(wait(number)) for number in range(self.readers)]
        await asyncio.sleep(0)
        began = time.process_time()
        for _ in range(turns):
            for future in futures:
                future.set_result(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return (time.process_time() - began) / (turns * self.readers) * 1e9
