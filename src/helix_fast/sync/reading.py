"""The steps of a blocking reader. Chunks that have arrived are fetched together: one crossing to the loop for many."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from helix_fast.streams import reader as _reader
from helix_fast.streams.chunks import StreamChunk
from helix_fast.streams.schema import StoredChunk, StreamPosition

from .base import Blocking
from .loop import call, run

T = TypeVar("T")
Self = TypeVar("Self", bound="Reading[Any, Any]")
R = TypeVar("R", bound="_reader._Reader[Any]")


class Reading(Blocking[R], Generic[R, T]):
    """An iterator over a stream, for one thread at a time. As a context manager it closes when left."""

    _arrived: deque[T]

    @classmethod
    def _over(cls: type[Self], wrapped: Any) -> Self:
        made = super()._over(wrapped)
        made._arrived = deque()
        return made

    def __iter__(self: Self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._arrived:
            run(self._fetch())
            if not self._arrived:
                raise StopIteration
        return self._arrived.popleft()

    async def _fetch(self) -> None:
        """Wait for the next items. They are kept here, so that a call that is interrupted loses none."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop reading and unsubscribe. Safe to call twice; a reader that is collected is closed as well."""
        run(self._async.close())
        self._arrived.clear()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class ReadingChunks(Reading[_reader.StreamReader, StreamChunk]):
    """The steps of a StreamReader, one by one: a chunk alone does not say its position."""

    async def _fetch(self) -> None:
        async for chunk in self._async:
            self._arrived.append(chunk)
            return

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk handed out: what a client keeps to resume."""
        return call(lambda: self._async.position)


class ReadingStored(Reading[_reader.ResumableReader, StoredChunk]):
    """The steps of a ResumableReader, as many at a time as there are."""

    _last: StreamPosition | None = None

    def __next__(self) -> StoredChunk:
        stored = super().__next__()
        self._last = stored.position
        return stored

    async def _fetch(self) -> None:
        if self._last is None and self._async.epoch:
            self._last = self._async.position
        self._arrived.extend(await self._async.read_batch())

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk handed out: what a client keeps to resume."""
        return self._last or call(lambda: self._async.position)

    def read_batch(self) -> Sequence[StoredChunk]:
        """The chunks that have arrived, at least one: waits for the first. Empty when the stream has ended.

        Raises:
            As iterating does; bytes that are no chunk raise if they are the first of a batch.
        """
        if not self._arrived:
            run(self._fetch())
        batch = tuple(self._arrived)
        self._arrived.clear()
        if batch:
            self._last = batch[-1].position
        return batch
