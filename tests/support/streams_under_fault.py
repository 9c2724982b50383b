"""What the fault tests of streams share: stores of chosen patience, chunks to tell apart, and the log's truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from helix_fast.errors import HelixError
from helix_fast.streams.chunks import StreamChunk, TextDeltaChunk
from helix_fast.streams.schema import StoredChunk
from helix_fast.streams.storage import RedisResumableStorage
from helix_fast.transport.resolve import topology_for


@contextlib.asynccontextmanager
async def storage(
    url: str, *, retry_timeout: float = 10.0, timeout: float = 5.0, **options: Any
) -> AsyncIterator[RedisResumableStorage]:
    """A store (it is a RedisStreamManager too) that gives up after `retry_timeout`, on connections of its own."""
    topology = topology_for(url, timeout=timeout, retry_timeout=retry_timeout)
    try:
        async with RedisResumableStorage(topology=topology, **options) as store:
            yield store
    finally:
        await topology.close()


def text(value: object) -> TextDeltaChunk:
    return TextDeltaChunk(delta=str(value))


def delta(chunk: StreamChunk) -> str:
    assert isinstance(chunk, TextDeltaChunk)
    return chunk.delta


def deltas(chunks: list[StoredChunk]) -> list[str]:
    """The texts of a log, which must have the sequences 1, 2, 3…"""
    assert [stored.sequence for stored in chunks] == list(range(1, len(chunks) + 1))
    return [delta(stored.chunk) for stored in chunks]


async def logged(store: RedisResumableStorage, stream_id: str) -> list[str]:
    return deltas(await store.read_from(stream_id))


def collect_errors(store: RedisResumableStorage) -> list[HelixError]:
    errors: list[HelixError] = []
    store.on("error", errors.append)
    return errors


class Following:
    """Reads a stream in the background: `chunks` is what came, `error` what ended it."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.chunks: list[StoredChunk] = []
        self.error: HelixError | None = None
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            async for stored in self.reader:
                self.chunks.append(stored)
        except HelixError as error:
            self.error = error

    async def done(self, seconds: float = 10.0) -> list[str]:
        """Wait for the stream's end; the texts."""
        await asyncio.wait_for(self.task, seconds)
        return deltas(self.chunks)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.reader.close()


async def follow(store: RedisResumableStorage, stream_id: str, **position: Any) -> Following:
    reader = await store.create_resumable_reader(stream_id, **position)
    assert reader is not None
    return Following(reader)
