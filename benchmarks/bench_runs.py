"""Runs of agents: P19."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from helix_fast import StreamWriter, TextDeltaChunk, connect
from helix_fast.agents import AgentExecutor, RunContext, RunHandle

from .measure import Also, Measure, Run, check
from .stream_loads import check_last, close_and_delete, open_writers
from .targets import TARGETS
from .under_pytest import benchmark_of


class RunChunks(Measure):
    """Runs at once, of agents that yield one chunk after the other; against tasks that await the write of theirs.

    Counted from the moment when all have begun, to the last result: the end of each run is in it.
    """

    key = "P19"
    what = "500 runs of an executor, one chunk"
    against = "500 writers, each await write()"
    unit = "µs"
    target, reach = TARGETS["P19"]

    async def prepare(self) -> None:
        self.runs_at_once = self.size.pick(500, 500, 20)
        self.each = self.size.pick(150, 100, 3)
        self.helix = await connect(self.server.url)
        self.executor = AgentExecutor(self.helix)
        self.whole: float = 0.0

    async def clean(self) -> None:
        await self.executor.drain(0)
        await self.helix.close()

    async def ours(self) -> float:
        return await self._runs(waits=False)

    async def baseline(self) -> float:
        return await self._writers(waits=False)

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        ours, baseline = functools.partial(self._runs, waits=True), functools.partial(self._writers, waits=True)
        yield "both sides wait for a turn of the loop before each chunk", ours, baseline

    def also(self) -> Iterator[Also]:
        yield Also("the same with the beginnings of the runs", self.whole, "µs")

    async def _writers(self, *, waits: bool) -> float:
        streams, prefix, each, text = self.helix.streams, self.fresh("writers"), self.each, self.text
        names = [f"{prefix}-{number}" for number in range(self.runs_at_once)]
        writers = await open_writers(streams, names)

        async def write(writer: StreamWriter) -> None:
            for _ in range(each):
                if waits:
                    await asyncio.sleep(0)
                await writer.write(TextDeltaChunk(delta=text))

        began = time.perf_counter()
        await asyncio.gather(*map(write, writers))
        seconds = time.perf_counter() - began
        await check_last(streams, names, each)
        await close_and_delete(streams, names, writers)
        return seconds / (self.runs_at_once * each) * 1e6

    async def _runs(self, *, waits: bool) -> float:
        go, text, each = asyncio.Event(), self.text, self.each

        async def agent(_message: Any, _context: RunContext) -> AsyncIterator[str]:
            await go.wait()
            for _ in range(each):
                if waits:
                    await asyncio.sleep(0)
                yield text

        first = time.perf_counter()
        handles = await asyncio.gather(*(self.executor.execute(agent, "go") for _ in range(self.runs_at_once)))
        began = time.perf_counter()
        go.set()
        results = await asyncio.gather(*(handle.result() for handle in handles))
        ended = time.perf_counter()
        check({result.status for result in results}, {"completed"}, "how the runs ended")
        await self._check(handles)
        chunks = self.runs_at_once * each
        self.whole = (ended - first) / chunks * 1e6
        return (ended - began) / chunks * 1e6

    async def _check(self, handles: list[RunHandle]) -> None:
        await check_last(self.helix.streams, [handle.stream_id for handle in handles], self.each)
        for handle in handles:
            await self.helix.streams.delete_stream(handle.stream_id)
            await self.helix.state.delete_session(handle.session_id)


MEASURES = (RunChunks,)
test_runs = benchmark_of(*MEASURES)
