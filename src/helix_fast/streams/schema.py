"""What the stream interfaces hand out beside the chunks themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from helix_fast import arguments, codec
from helix_fast.errors import InvalidArgumentError

from .chunks import StreamChunk

_TERM: Final = re.compile(r"\d{1,16}[a-z]\w*|")


class _OfTerm:
    """Makes a named tuple whose last item, ``term``, its length, its iterator and its comparisons leave out.

    In this way it unpacks as it did before positions knew their term. The codec fills the items.
    """

    __slots__ = ()

    def _known(self: Any) -> tuple[Any, ...]:
        return tuple.__getitem__(self, slice(-1))

    def _all(self: Any) -> tuple[Any, ...]:
        return tuple.__getitem__(self, slice(None))

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Any]: ...

    else:
        __iter__ = codec.iterate_but_last  # what unpacking costs is paid for each chunk

    def __len__(self) -> int:
        return len(self._known())

    def __eq__(self, other: object) -> bool:
        if type(other) is type(self):
            return bool(self._all() == other._all())
        return isinstance(other, tuple) and bool(self._known() == other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._known())

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self._all()


class _Position(NamedTuple):
    epoch: str
    sequence: int


class _Stored(NamedTuple):
    chunk: StreamChunk
    sequence: int
    epoch: str


class StreamPosition(_OfTerm, _Position):
    """A place in one life of a stream: after chunk ``sequence`` of ``epoch``. It unpacks into these two.

    Prints as ``"epoch:term:sequence"``, or as ``"epoch:sequence"`` where the term is not known.
    """

    __slots__ = ()

    def __new__(cls, epoch: str, sequence: int, term: str = "") -> StreamPosition:
        """Make one of its parts."""
        return tuple.__new__(cls, (epoch, sequence, term))

    def __repr__(self) -> str:
        return f"StreamPosition(epoch={self.epoch!r}, sequence={self.sequence!r}, term={self.term!r})"

    @property
    def term(self) -> str:
        """The stretch of the log, between takeovers and new histories of the server, in which the sequence was seen.

        Empty where it is not known. With it, a position on a branch that the server lost is recognised.
        """
        return str(tuple.__getitem__(self, 2))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.term}:{self.sequence}" if self.term else f"{self.epoch}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """Read what ``str()`` of a position gave, for example an SSE ``Last-Event-ID``.

        Raises:
            InvalidArgumentError: the text is no position.
        """
        life, colon, sequence = str(text).rpartition(":")
        epoch, _, term = life.partition(":")
        # 20 digits hold any sequence; int() refuses thousands of them with an error of its own
        valid = len(sequence) <= 20 and sequence.isascii() and sequence.isdigit()
        if not colon or not epoch or not valid or not _TERM.fullmatch(term):
            raise InvalidArgumentError(f"{text!r} is no stream position", hint='expected "epoch:term:sequence"')
        return cls(epoch, int(sequence), term)


class StoredChunk(_OfTerm, _Stored):
    """A chunk with its place in the stream. It unpacks into ``chunk``, ``sequence`` and ``epoch``."""

    __slots__ = ()

    def __new__(cls, chunk: StreamChunk, sequence: int, epoch: str, term: str = "") -> StoredChunk:
        """Make one of its parts."""
        return tuple.__new__(cls, (chunk, sequence, epoch, term))

    def __repr__(self) -> str:
        values = f"chunk={self.chunk!r}, sequence={self.sequence!r}, epoch={self.epoch!r}, term={self.term!r}"
        return f"StoredChunk({values})"

    @property
    def term(self) -> str:
        """See ``StreamPosition.term``: epoch, term and sequence together identify a chunk."""
        return str(tuple.__getitem__(self, 3))

    @property
    def position(self) -> StreamPosition:
        """The position after this chunk: what a client keeps to resume."""
        return StreamPosition(self.epoch, self.sequence, self.term)


def to_position(value: int | str | StreamPosition, epoch: str = "") -> StreamPosition:
    """The position that an argument ``from_sequence`` names. A bare sequence is one of ``epoch``.

    Raises:
        InvalidArgumentError: it is none.
    """
    if isinstance(value, StreamPosition):
        return value
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return StreamPosition.parse(value)
    if isinstance(value, str):
        value = int(value) if len(value) <= 20 else arguments.MAX_EXACT + 1
    return StreamPosition(epoch, arguments.integer(value, "from_sequence"))


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """State of a stream.

    Attributes:
        status: ``active``, ``paused``, ``ended`` or ``failed``.
        epoch: tells this life of the stream from others.
        first_sequence: first chunk that is kept; ``last_sequence + 1`` where none is.
        last_sequence: last chunk written, 0 in a new stream.
        chunk_count: chunks kept.
        output: what ``end_stream`` was given.
        error: what ``fail_stream`` was given.
        stop_requested: whether ``request_stop`` was called; ``stop_reason`` is what it was given.
        lease_expires_at: when the producer's lease runs out, Unix milliseconds of the server; None without a lease.
        created_at, updated_at: Unix milliseconds of the server (of the last chunk's own timestamp, where later).
    """

    stream_id: str
    status: str
    epoch: str
    first_sequence: int
    last_sequence: int
    chunk_count: int
    output: Any = None
    error: str | None = None
    stop_requested: bool = False
    stop_reason: str | None = None
    lease_expires_at: int | None = None
    created_at: int | None = None
    updated_at: int | None = None
