"""LineReader: a stream as the lines that are stored, for what passes them on without looking into them."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

from helix_fast import codec

from .cursor import StreamCursor
from .schema import StreamPosition

Self = TypeVar("Self", bound="LineReader")


class Lines(NamedTuple):
    """Consecutive chunks, as they are stored: newline separated JSON.

    Attributes:
        body: the chunks up to ``last``; those up to ``after`` among them were read before.
        epoch, term: of their positions; empty where they are not known.
    """

    body: bytes
    last: int
    after: int
    epoch: str
    term: str


class _Undecoded:
    """Stands in for a decoder: keeps an entry as it is. What several readers get is one object anyway."""

    def decode(self, body: bytes, last: int, after: int) -> tuple[int, tuple[bytes, int, int], bool]:
        """The entry in the place of its chunks."""
        return after + 1, (body, last, after), False

    def decode_shared(self, _body: bytes, _last: int, _after: int) -> None:
        """Nothing that others could copy."""


async def stored_lines(cursor: StreamCursor) -> list[bytes]:
    """The lines of the log behind a cursor, without waiting for more. Raises as ``StreamCursor.next``."""
    cursor.decoder = cast("Any", _Undecoded())
    lines: list[bytes] = []
    while (read := cast("Any", await cursor.stored())) is not None:
        body, last, after = read[1]
        lines += codec.split_lines(body, last, after)[1]
    return lines


class LineReader:
    """Reads a stream from a position on, then live, until it ends. As ResumableReader, without decoding."""

    def __init__(self, cursor: StreamCursor) -> None:
        self._cursor = cursor
        self._after = cursor.last
        self._term = ""
        self._page: Any = None
        cursor.decoder = cursor.pushes.decoder = cast("Any", _Undecoded())

    @property
    def epoch(self) -> str:
        """The life of the stream that is read."""
        return self._cursor.epoch

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk handed out."""
        return StreamPosition(self._cursor.epoch, self._after, self._term)

    async def open(self) -> bool:
        """Read the first page, to be handed out; False if there is no such stream.

        Raises:
            As ``RedisStreamManager.create_resumable_reader``.
        """
        page = await self._cursor.open()
        if page is not None and page[1]:
            self._page = page
        return page is not None

    async def read_batch(self) -> Lines | None:
        """The chunks that have arrived, at least one: waits for the first. None when the stream has ended.

        Raises:
            As ``ResumableReader.read_batch``, but for chunks that are malformed.
        """
        if self._page is not None:
            read, self._page = self._page, None
            return self._lines(read, self._cursor.term)
        pushes = self._cursor.pushes
        if pushes.idle():
            await self._cursor.wait_for_push()
        return self.read_pushed() or await self._read_log()

    async def _read_log(self) -> Lines | None:
        self._cursor.check_loop()
        read: Any = await self._cursor.next()
        return None if read is None else self._lines(read, self._cursor.term)

    def read_pushed(self) -> Lines | None:
        """The chunks that were pushed meanwhile, an entry at a time; None if there are none, or the log comes first."""
        read: Any = self._cursor.pushes.next_pushed()
        # A push of another term than that of the last entry is not taken: the log comes first.
        return None if read is None else self._lines(read, self._term or self._cursor.term)

    def _lines(self, read: Any, term: str) -> Lines:
        body, last, after = read[1]
        self._after, self._term = last, term
        return Lines(body, last, after, self._cursor.epoch, self._term)

    async def close(self) -> None:
        """Stop reading and unsubscribe. Safe to call twice."""
        await self._cursor.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
