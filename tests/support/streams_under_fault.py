"""What the fault tests of streams share: stores of chosen patience, chunks to tell apart, and the log's truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from helix_fast.errors import HelixError
from helix_fast.streams.chunks import StreamChunk, TextDeltaChunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StoredChunk
from helix_fast.streams.storage import RedisResumableStorage
from helix_fast.transport.resolve import topology_for


class StreamStore(RedisStreamManager):
    """A manager with the methods of a storage on it: one object for tests that write both ways."""

    def __init__(self, redis: Any = None, **options: Any) -> None:
        super().__init__(redis, **options)
        topology = self._requests.topology
        self._storage = RedisResumableStorage(topology=topology, key_prefix=self.key_prefix, manager=self)
        self.create, self.delete = self._storage.create, self._storage.delete
        self.append, self.append_many = self._storage.append, self._storage.append_many
        self.read_from, self.subscribe = self._storage.read_from, self._storage.subscribe
        self.end, self.fail, self.get_metadata = self._storage.end, self._storage.fail, self._storage.get_metadata

    def on(self, event: Literal["error"], callback: Callable[[HelixError], object]) -> None:
        super().on(event, callback)
        self._storage.on(event, callback)

    async def close(self) -> None:
        try:
            await self._storage.close()
        finally:
            await super().close()


@contextlib.asynccontextmanager
async def storage(
    url: str, *, retry_timeout: float = 10.0, timeout: float = 5.0, wait_replicas: int = 0, **options: Any
) -> AsyncIterator[StreamStore]:
    """A store that gives up after `retry_timeout`, on connections of its own."""
    topology = topology_for(url, timeout=timeout, retry_timeout=retry_timeout, wait_replicas=wait_replicas)
    try:
        async with StreamStore(topology=topology, **options) as store:
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


async def logged(store: StreamStore, stream_id: str) -> list[str]:
    return deltas(await store.read_from(stream_id))


def collect_errors(store: RedisStreamManager) -> list[HelixError]:
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


async def follow(store: RedisStreamManager, stream_id: str, **position: Any) -> Following:
    reader = await store.create_resumable_reader(stream_id, **position)
    assert reader is not None
    return Following(reader)
