"""StreamReader and ResumableReader: async iterators over one stream."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from helix_fast import codec
from helix_fast.errors import MalformedChunkError, ReaderBusyError
from helix_fast.transport.binding import running_loop

from .chunks import Decoded, StreamChunk
from .cursor import StreamCursor
from .schema import StoredChunk, StreamPosition

T = TypeVar("T")
Self = TypeVar("Self", bound="_Reader[Any]")


class _Reader(codec.ChunkIterator, Generic[T]):
    """What both readers share. One task at a time may iterate."""

    if TYPE_CHECKING:
        _cursor: StreamCursor
        _pushes: codec.PushBuffer

        def __aiter__(self: Self) -> Self: ...
        def __anext__(self) -> Coroutine[Any, Any, T]: ...

    def __init__(self, cursor: StreamCursor, first_page: Decoded) -> None:
        self._cursor = cursor
        self._pushes = cursor.pushes
        self._binding = cursor.binding
        self._running_loop = running_loop
        self._term = ""
        self._take(first_page)

    def _take(self, decoded: Decoded) -> None:
        self._first, self._chunks, self._faulty = decoded
        self._term_before, self._term = self._term, self._cursor.term
        self._items = self._hand_out()
        self._index = 0
        self._error_at = len(self._chunks)
        if self._faulty:
            self._find_first_error()

    def _hand_out(self) -> list[T]:
        """The items of the current page, as the iterator yields them."""
        raise NotImplementedError

    def _find_first_error(self) -> None:
        """Find the next item that is raised and not yielded."""
        self._error_at = len(self._chunks)
        for index in range(self._index, self._error_at):
            if isinstance(self._chunks[index], MalformedChunkError):
                self._error_at = index
                break

    @property
    def stream_id(self) -> str:
        """The stream that is read."""
        return self._cursor.stream_id

    @property
    def epoch(self) -> str:
        """The life of the stream that is read."""
        return self._cursor.epoch

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk handed out: what a client keeps to resume."""
        term = self._term if self._index else self._term_before or self._term
        return StreamPosition(self._cursor.epoch, self._first + self._index - 1, term)

    async def _advance(self) -> None:
        """Wait until there is an item, or raise the error in its place."""
        cursor, pushes = self._cursor, self._pushes
        if cursor.closed:
            raise StopAsyncIteration
        cursor.check_loop()
        while self._index >= len(self._chunks):
            if self._busy:
                raise ReaderBusyError(self.stream_id)
            self._busy = True
            try:
                if pushes.idle():  # for `read_batch`; awaited from here: one coroutine less for every live entry
                    await cursor.wait_for_push()
                decoded = pushes.next_pushed() or await cursor.next()
            finally:
                self._busy = False
            if decoded is None:
                raise StopAsyncIteration
            self._take(decoded)
        chunk = self._chunks[self._index]
        if isinstance(chunk, MalformedChunkError):
            self._index += 1
            self._find_first_error()
            raise chunk

    async def close(self) -> None:
        """Stop reading and unsubscribe. Safe to call twice; a reader that is collected is closed as well."""
        self._take((self._first + self._index, [], False))
        await self._cursor.close()

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
        MalformedStreamError: what is stored is no stream of ours.
        StoreConnectionError: the server could not be reached for the retry time; the next step tries again.
        ReaderBusyError: another task waits for the next chunk.
    """

    def _hand_out(self) -> list[StreamChunk]:
        return self._chunks  # type: ignore[return-value]  # errors among them are raised, not handed out


class ResumableReader(_Reader[StoredChunk]):
    """Yields ``StoredChunk(chunk, sequence, epoch)`` from a position on, then live, until the stream ends.

    ``str(stored.position)`` is what a client sends back as ``Last-Event-ID``. Raises as
    StreamReader; with ``on_gap="skip"`` no SequenceGapError.
    """

    def _hand_out(self) -> list[StoredChunk]:
        return codec.number_chunks(StoredChunk, self._chunks, self._first, self._cursor.epoch, self._term)

    async def read_batch(self) -> Sequence[StoredChunk]:
        """The chunks that have arrived, at least one: waits for the first. Empty when the stream has ended.

        Raises:
            As iterating does; bytes that are no chunk raise if they are the first of a batch.
        """
        if self._index >= self._error_at:
            try:
                await self._advance()
            except StopAsyncIteration:
                return ()
        begin, self._index = self._index, self._error_at
        batch = self._items[begin : self._error_at]
        if self._index == len(self._chunks):
            self._take((self._first + self._index, [], False))  # the caller alone holds them now
        return batch
