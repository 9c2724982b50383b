"""What the stream interfaces hand out beside the chunks themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from helix_fast.errors import InvalidArgumentError

from .chunks import StreamChunk


class StreamPosition(NamedTuple):
    """A place in one life of a stream: after chunk ``sequence`` of ``epoch``. Prints as ``"epoch:sequence"``."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """Read what ``str()`` of a position gave, for example an SSE ``Last-Event-ID``.

        Raises:
            InvalidArgumentError: the text is no position.
        """
        epoch, colon, sequence = str(text).rpartition(":")
        # 20 digits hold any sequence; int() refuses thousands of them with an error of its own
        if not colon or not epoch or len(sequence) > 20 or not (sequence.isascii() and sequence.isdigit()):
            raise InvalidArgumentError(f"{text!r} is no stream position", hint='expected "epoch:sequence"')
        return cls(epoch, int(sequence))


class StoredChunk(NamedTuple):
    """A chunk with its place in the stream."""

    chunk: StreamChunk
    sequence: int
    epoch: str

    @property
    def position(self) -> StreamPosition:
        """The position after this chunk: what a client keeps to resume."""
        return StreamPosition(self.epoch, self.sequence)


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
