"""A process that holds any number of streams open and writes to them when asked: ``python -m benchmarks.open_streams``.

The cost of open streams (objects that the garbage collector visits, entries in tables) falls on their own process, not
on the baseline's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import uvloop

from helix_fast import RedisStreamManager, ResumableReader, StreamWriter, TextDeltaChunk, connect

from .child import Child, answer_all
from .measure import check
from .payloads import HEADLINE
from .probe import Probe
from .stream_loads import AT_ONCE, open_writers

TASKS = 100
CHECKED = 1000


class Cost(NamedTuple):
    """Of a chunk, in µs: time, CPU of the client, CPU of the server."""

    time: float
    client_cpu: float
    server_cpu: float


class OpenStreams:
    """The child process, seen from its parent. An async context manager.

    Args:
        url: the server.
        count: streams to hold open.
        text: of every chunk.
    """

    def __init__(self, url: str, count: int, *, text: str = HEADLINE) -> None:
        self._child = Child("open_streams", url, count, text)
        self.opened: dict[str, Any] = {}

    async def __aenter__(self) -> OpenStreams:
        await self._child.__aenter__()
        try:
            self.opened = await self._child.ask()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._child.__aexit__()

    async def write(self, chunks: int, probe: Probe) -> Cost:
        """Write so many chunks by 100 tasks, each to the next of its streams; then have the streams checked."""
        before = probe.cpu_seconds()
        took = await self._child.ask(chunks=chunks)
        server_cpu = probe.cpu_seconds() - before  # the check that follows is not measured
        await self._child.ask(check=True)
        return Cost(took["seconds"] / chunks * 1e6, took["client_cpu"] / chunks * 1e6, server_cpu / chunks * 1e6)


async def serve(url: str, count: int, text: str) -> None:
    """Open the streams, then write as many chunks as each question says, or check them, until there are no more."""
    async with connect(url, key_prefix=f"open-{count}:") as helix:
        names = [f"s{number}" for number in range(count)]
        began = time.perf_counter()
        writers = await open_writers(helix.streams, names)
        opened = {"open_seconds": time.perf_counter() - began}
        state = Written(writers, text)

        async def handle(question: dict[str, Any]) -> dict[str, Any]:
            if "chunks" in question:
                return await state.write(question["chunks"])
            if "check" in question:
                await state.check(helix.streams)
            return opened

        await answer_all(handle)


async def open_readers(streams: RedisStreamManager, names: Sequence[str]) -> list[ResumableReader]:
    """A reader for each name. It subscribes on the first read that finds no chunk."""
    readers: list[ResumableReader] = []
    for start in range(0, len(names), AT_ONCE):
        for made in await asyncio.gather(*map(streams.create_resumable_reader, names[start : start + AT_ONCE])):
            assert made is not None
            readers.append(made)
    return readers


class Written:
    """The writers, and how far each stream is."""

    def __init__(self, writers: list[StreamWriter], text: str) -> None:
        self._writers = writers
        self._text = text
        self._last = [0] * len(writers)
        self._next = [0] * TASKS

    async def write(self, chunks: int) -> dict[str, float]:
        """One run; every acknowledged sequence is compared with the one that is due."""
        gc.collect()
        cpu = time.process_time()
        began = time.perf_counter()
        await asyncio.gather(*(self._task(number, chunks // TASKS) for number in range(TASKS)))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "client_cpu": time.process_time() - cpu}

    async def check(self, streams: RedisStreamManager) -> None:
        """Some thousand of the streams are where they should be, says the server."""
        step = max(1, len(self._writers) // CHECKED)
        looked_at = range(0, len(self._writers), step)
        infos = await asyncio.gather(*(streams.get_info(self._writers[number].stream_id) for number in looked_at))
        for number, info in zip(looked_at, infos, strict=True):
            assert info is not None
            check(info.last_sequence, self._last[number], f"last sequence of {info.stream_id}")

    async def _task(self, number: int, chunks: int) -> None:
        """Streams ``number``, ``number + TASKS``…, in turns: each has one task, so each chunk is an entry."""
        mine = range(number, len(self._writers), TASKS)
        place = self._next[number]
        for _ in range(chunks):
            stream = mine[place % len(mine)]
            place += 1
            sequence = await self._writers[stream].write(TextDeltaChunk(delta=self._text))
            self._last[stream] += 1
            if sequence != self._last[stream]:
                check(sequence, self._last[stream], f"sequence of {self._writers[stream].stream_id}")
        self._next[number] = place


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
