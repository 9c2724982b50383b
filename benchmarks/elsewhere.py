"""P15: writers here, readers in another process: ``python -m benchmarks.elsewhere URL`` is that process.

Times are those of ``time.perf_counter``, which is one clock for all processes of a machine (Linux, macOS).
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from helix_fast import ResumableReader, connect

from .child import Child, answer_all
from .measure import Also, Run, check
from .open_streams import open_readers
from .probe import PATIENCE, Use, reached
from .stream_loads import close_and_delete, open_writers
from .stream_reads import LiveLatency, percentile
from .targets import TARGETS


class ReadElsewhere(LiveLatency):
    """The load of P4, whose readers are in a process of their own: append, acknowledgement, publication and push."""

    key = "P15"
    what = "p99 from write to readers in another process, 1 000 of them, 20 000 chunks/s"
    target, reach = TARGETS["P15"]

    async def prepare(self) -> None:
        await super().prepare()
        self.reader_cpu: list[float] = []
        self.connections.append(0)  # not counted: two processes have theirs

    async def ours(self) -> float:
        latencies, rate = await self._elsewhere(self.each, self.use)
        self.rates.append(rate)
        self.acknowledged_p99.append(percentile(self.acknowledged, 0.99) * 1000)
        self.medians["ours"].append(statistics.median(latencies) * 1000)
        return percentile(latencies, 0.99) * 1000

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        return iter(())

    async def _elsewhere(self, each: int, use: Use) -> tuple[list[float], float]:
        prefix = self.fresh("elsewhere")
        names = [f"{prefix}-{number}" for number in range(self.streams)]
        sent: list[list[float]] = [[] for _ in names]
        self.acknowledged = []
        async with connect(self.server.url) as helix, Child("elsewhere", self.server.url) as child:
            writers = await open_writers(helix.streams, names)
            await child.ask(names=names)
            await reached(lambda: self.probe.channels(f"*{{{prefix}-*") >= self.streams, "readers that wait")
            with use.of(self.streams * each):
                begin = time.perf_counter() + 0.05
                await asyncio.gather(
                    *(self._write(writer, number, begin, each, sent[number]) for number, writer in enumerate(writers))
                )
                seconds = time.perf_counter() - begin
            child.tell(chunks=each)
            await asyncio.gather(*map(helix.streams.end_stream, names))
            found = await asyncio.wait_for(child.answer(), PATIENCE)
            await close_and_delete(helix.streams, names, writers)
        got: list[list[float]] = found["times"]
        check([len(times) for times in got], [each] * self.streams, "chunks that each reader got")
        chunks = self.streams * each
        self.reader_cpu.append(found["cpu"] / chunks * 1e6)
        latencies = [
            there - here
            for mine, theirs in zip(sent, got, strict=True)
            for here, there in zip(mine, theirs, strict=True)
        ]
        return latencies, chunks / seconds

    def also(self) -> Iterator[Also]:
        yield from (part for part in super().also() if part.what != "connections")
        yield Also("CPU a chunk of the process that reads", statistics.median(self.reader_cpu), "µs")


class Readers:
    """The other process: a reader for each stream, and when it got what."""

    def __init__(self, url: str) -> None:
        self._helix = connect(url)
        self._reading: asyncio.Future[list[None]] | None = None
        self._times: list[list[float]] = []
        self._cpu = 0.0

    async def handle(self, question: dict[str, Any]) -> dict[str, Any]:
        """``names``: open readers of these. Anything else: answer with the times, when all streams have ended."""
        if "names" in question:
            readers = await open_readers((await self._helix).streams, question["names"])
            self._times = [[] for _ in readers]
            self._reading = asyncio.gather(*map(self._read, readers, self._times))
            self._cpu = time.process_time()
            return {"open": len(readers)}
        assert self._reading is not None
        await self._reading
        return {"times": self._times, "cpu": time.process_time() - self._cpu}

    async def _read(self, reader: ResumableReader, times: list[float]) -> None:
        async for stored in reader:
            times.append(time.perf_counter())
            check(stored.sequence, len(times), f"sequence from {reader.stream_id}")


async def serve(url: str) -> None:
    """Be the other process, until the parent asks no more."""
    await answer_all(Readers(url).handle)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1]))
