"""StreamReader and ResumableReader: async iterators over one stream."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from helix_fast import codec
from helix_fast.errors import MalformedChunkError, ReaderBusyError

from .chunks import Decoded, StreamChunk
from .cursor import Feed
from .schema import StoredChunk, StreamPosition

T = TypeVar("T")
Self = TypeVar("Self", bound="_Reader[Any]")


class _Reader(codec.Items, Generic[T]):
    """What both readers share. One task at a time may iterate."""

    if TYPE_CHECKING:

        def __aiter__(self: Self) -> Self: ...
        def __anext__(self) -> Coroutine[Any, Any, T]: ...

    def __init__(self, feed: Feed, first_page: Decoded) -> None:
        self._feed = feed
        self._busy = False
        self._take(first_page)

    def _take(self, decoded: Decoded) -> None:
        self._first, self._chunks, self._faulty = decoded
        self._items = self._hand_out()
        self._index = 0
        self._find_clean()

    def _hand_out(self) -> list[T]:
        """What the iterator yields for the chunks at hand."""
        raise NotImplementedError

    def _find_clean(self) -> None:
        """Find the end of the items before the next error."""
        self._clean = len(self._chunks)
        if self._faulty:
            for index in range(self._index, self._clean):
                if isinstance(self._chunks[index], MalformedChunkError):
                    self._clean = index
                    break

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

    async def _advance(self) -> None:
        """Wait until there is an item; raises what stands in its place."""
        feed = self._feed
        if feed.closed:
            raise StopAsyncIteration
        while self._index >= len(self._chunks):
            if self._busy:
                raise ReaderBusyError(self.stream_id)
            self._busy = True
            try:
                if feed.waits():  # awaited from here: a coroutine more is what a live chunk would feel
                    await feed.arrival()
                decoded = feed.at_hand() or await feed.next()
            finally:
                self._busy = False
            if decoded is None:
                raise StopAsyncIteration
            self._take(decoded)
        chunk = self._chunks[self._index]
        if isinstance(chunk, MalformedChunkError):
            self._index += 1
            self._find_clean()
            raise chunk

    async def close(self) -> None:
        """Stop reading and unsubscribe. Safe to call twice; a reader that is collected is closed as well."""
        self._take((self._first + self._index, [], False))
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

    def _hand_out(self) -> list[StreamChunk]:
        return self._chunks  # type: ignore[return-value]  # errors among them are raised, not handed out


class ResumableReader(_Reader[StoredChunk]):
    """Yields ``StoredChunk(chunk, sequence, epoch)`` from a position on, then live, until the stream ends.

    ``sequence`` is what a client sends back as ``Last-Event-ID``. Raises as StreamReader; with ``on_gap="skip"`` no
    SequenceGapError.
    """

    def _hand_out(self) -> list[StoredChunk]:
        return codec.number_chunks(StoredChunk, self._chunks, self._first, self._feed.epoch)

    async def read_batch(self) -> Sequence[StoredChunk]:
        """What is there now, at least one chunk; waits where there is none. Empty when the stream has ended.

        Raises:
            As iterating does; bytes that are no chunk raise when they are the first of a batch.
        """
        if self._index >= self._clean:
            try:
                await self._advance()
            except StopAsyncIteration:
                return ()
        begin, self._index = self._index, self._clean
        return self._items[begin : self._clean]
