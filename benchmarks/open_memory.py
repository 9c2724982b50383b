"""Client memory of an open writer and of a live reader: ``python -m benchmarks.open_memory URL 1000 1``.

Counted by tracemalloc, in a process of its own: resident memory would hide what fits into pages that were free already,
and tracing makes everything slow. What C code takes past Python's allocator is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop

from helix_fast import RedisStreamManager, StoredChunk, connect

from .open_streams import open_readers
from .probe import Probe, reached
from .stream_loads import open_writers


class OpenMemory(NamedTuple):
    """Bytes of each; ``reader`` is None where none was opened."""

    writer: float
    reader: float | None


async def measure_memory(url: str, count: int, *, readers: bool) -> OpenMemory:
    """Open so many writers, and a live reader of each of their streams, in a new process.

    Raises:
        RuntimeError: the process failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.open_memory", url, str(count), str(int(readers))),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the process that opens writers and readers failed")
    return OpenMemory(*json.loads(output))


async def open_all(url: str, count: int, with_readers: bool) -> OpenMemory:
    """Open them and count."""
    async with connect(url, key_prefix=f"memory-{count}:") as helix:
        # Objects that are made once, on first use, must not count.
        first = await open_writers(helix.streams, ["first"])
        names = [f"s{number}" for number in range(count)]
        tracemalloc.start()
        empty = traced()
        writers = await open_writers(helix.streams, names)
        of_writers = traced() - empty
        of_readers = None
        if with_readers:
            reading = await read_live(helix.streams, names, Probe(urlsplit(url).path))
            of_readers = traced() - empty - of_writers
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        tracemalloc.stop()
        assert len(writers) + len(first) == count + 1
    return OpenMemory(of_writers / count, None if of_readers is None else of_readers / count)


def traced() -> int:
    """Bytes that are allocated now."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def read_live(
    streams: RedisStreamManager, names: Sequence[str], probe: Probe
) -> asyncio.Future[list[StoredChunk]]:
    """A reader for each name, and a task in each that waits for the next chunk, as a live reader does."""
    readers = await open_readers(streams, names)
    reading = asyncio.gather(*(reader.__anext__() for reader in readers))
    await reached(lambda: probe.channels("*{s*") >= len(names), "readers that wait")
    probe.close()
    return reading


if __name__ == "__main__":
    found = uvloop.run(open_all(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"))
    sys.stdout.write(json.dumps(found) + "\n")
