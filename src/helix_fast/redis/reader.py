"""StreamReader and ResumableReader: async iterators over one stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from helix_fast.errors import MalformedChunkError, ReaderBusyError
from helix_fast.schemas.chunks import StreamChunk
from helix_fast.schemas.streams import StoredChunk, StreamPosition

from .feed import Decoded, Feed

T_co = TypeVar("T_co", covariant=True)
Self = TypeVar("Self", bound="_Reader[object]")


class _Reader(Generic[T_co]):
    """What both readers share. One task at a time may iterate."""

    def __init__(self, feed: Feed, first_page: Decoded) -> None:
        self._feed = feed
        self._first, self._chunks = first_page
        self._index = 0
        self._busy = False

    @property
    def stream_id(self) -> str:
        """The stream that is read."""
        return self._feed.stream_id

    @property
    def epoch(self) -> str:
        """The life of the stream that is read."""
        return self._feed.epoch

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk handed out: what a client keeps to resume."""
        return StreamPosition(self._feed.epoch, self._first + self._index - 1)

    def __aiter__(self: Self) -> Self:
        return self

    async def _advance(self) -> StreamChunk:
        """The next chunk; its sequence is ``self._first + self._index - 1`` afterwards."""
        if self._feed.closed:
            raise StopAsyncIteration
        while self._index >= len(self._chunks):
            if self._busy:
                raise ReaderBusyError(self.stream_id)
            self._busy = True
            try:
                decoded = await self._feed.next()
            finally:
                self._busy = False
            if decoded is None:
                raise StopAsyncIteration
            self._first, self._chunks = decoded
            self._index = 0
        chunk = self._chunks[self._index]
        self._index += 1
        if isinstance(chunk, MalformedChunkError):
            raise chunk
        return chunk

    async def close(self) -> None:
        """Stop reading and unsubscribe. Safe to call twice; a reader that is collected is closed as well."""
        self._chunks = ()
        self._first, self._index = self._first + self._index, 0
        await self._feed.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class StreamReader(_Reader[StreamChunk]):
    """Yields the chunks of a stream, from the first that is kept, then live, until the stream ends.

    Raises, while iterating:
        StreamFailedError: the stream failed; after its last chunk.
        ProducerLostError: the producer's lease ran out without an end.
        StreamResetError: the stream was reset under the reader.
        StreamDeletedError: it was deleted or expired, or the server came back without it.
        SequenceGapError: chunks in between were lost by the server, or trimmed before they were read.
        MalformedChunkError: bytes that are no chunk; the next step goes on behind them.
        StoreConnectionError: the server could not be reached for the retry time; the next step tries again.
        ReaderBusyError: another task waits for the next chunk.
    """

    async def __anext__(self) -> StreamChunk:
        return await self._advance()


class ResumableReader(_Reader[StoredChunk]):
    """Yields ``StoredChunk(chunk, sequence, epoch)`` from a position on, then live, until the stream ends.

    ``sequence`` is what a client sends back as ``Last-Event-ID``. Raises as StreamReader; with ``on_gap="skip"`` no
    SequenceGapError.
    """

    async def __anext__(self) -> StoredChunk:
        index, chunks = self._index, self._chunks
        if index < len(chunks) and not isinstance(chunks[index], MalformedChunkError):
            # Read already: no second coroutine for it.
            self._index = index + 1
            return StoredChunk(cast("StreamChunk", chunks[index]), self._first + index, self._feed.epoch)
        chunk = await self._advance()
        return StoredChunk(chunk, self._first + self._index - 1, self._feed.epoch)

    async def read_batch(self) -> Sequence[StoredChunk]:
        """What is there now, at least one chunk; waits where there is none. Empty when the stream has ended.

        Raises:
            As iterating does; bytes that are no chunk raise when they are the first of a batch.
        """
        try:
            batch = [await self.__anext__()]
        except StopAsyncIteration:
            return ()
        epoch = self._feed.epoch
        while self._index < len(self._chunks):
            chunk = self._chunks[self._index]
            if isinstance(chunk, MalformedChunkError):
                break
            self._index += 1
            batch.append(StoredChunk(chunk, self._first + self._index - 1, epoch))
        return batch
