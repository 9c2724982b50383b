"""Sealed entries: many batches of a stream's log in one entry, deflated. No I/O.

The layout is in docs/wire-format.md. A sealed entry holds consecutive batches of one term, so that its id, term and
sequences are those that the batches had.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, NamedTuple

from helix_fast.arguments import MAX_EXACT

Entry = list[Any]
"""An entry in the form of XRANGE: its id, and names and values of its fields."""

MOST_BYTES: Final = 4 << 20
"""What a sealed entry inflates to at most: a reader takes no more memory, whatever is stored."""
_WANTED_BYTES: Final = 128 << 10  # of lines: as much as a page of the log has, which is decoded in one go
_LEVEL: Final = 3  # a thirteenth of the time of level 6, for a tenth more bytes (110 kB of tokens: 0.4 ms)
_BATCH: Final = [b"chunk", b"sequence", b"writer"]
_SEALED: Final = [b"chunk", b"sequence", b"sealed", b"writers"]
_END: Final = b"18446744073709551615-"


class SealedEntry(NamedTuple):
    """The fields of a sealed entry.

    Attributes:
        first, last: the sequences of its chunks.
    """

    first: int
    last: int
    deflated_lines: bytes
    deflated_writers: bytes

    @property
    def lines(self) -> bytes:
        """The chunks, one a line. Raises ValueError where they are not what a sealed entry has."""
        lines = _inflate(self.deflated_lines)
        count = lines.count(b"\n") + 1
        if count != self.last - self.first + 1:
            raise ValueError(f"{count} lines, where {self.last - self.first + 1} are due")
        return lines

    def batch(self, first: int) -> tuple[bytes, bytes]:
        """Lines and nonce of the batch that began at a sequence, empty where none did. Raises as ``lines``."""
        at = self.first
        for line in _inflate(self.deflated_writers).split(b"\n"):
            count, _, nonce = line.partition(b" ")
            if at == first:
                begin = at - self.first
                return b"\n".join(self.lines.split(b"\n")[begin : begin + int(count)]), nonce
            at += int(count)
        return b"", b""


def sealed_entry(fields: list[bytes]) -> SealedEntry | None:
    """The fields as those of a sealed entry; None: they are of another one."""
    if fields[::2] != _SEALED:
        return None
    lines, last, count, writers = fields[1::2]
    sequence, chunks = _number(last), _number(count)
    return SealedEntry(sequence - chunks + 1, sequence, lines, writers) if 0 < chunks <= sequence else None


def _number(text: bytes) -> int:
    """A sequence or a count; 0: it is none."""
    return int(text) if text.isdigit() and len(text) <= 16 and int(text) <= MAX_EXACT else 0


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, MOST_BYTES)
        more = b"" if stream.eof else stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"it does not inflate: {error}") from error
    if more:
        raise ValueError(f"it inflates to more than {MOST_BYTES} bytes")
    if not stream.eof or stream.unused_data:
        raise ValueError("its deflated bytes are cut off, or others follow")
    return inflated


def is_end(entry: Entry) -> bool:
    """Whether an entry is the end of a stream, which nothing can follow."""
    entry_id, fields = entry
    events = dict(zip(fields[::2], fields[1::2], strict=False))
    return entry_id.startswith(_END) and events.get(b"event") in {b"ended", b"failed", b"lost"}


class ForeignEntryError(Exception):
    """Another store has written to the log: its entries are not ours to rewrite."""


class Sealing:
    """Turns the entries of a log, taken page by page, into those of the sealed log.

    What has no place in a sealed entry stays as it is: markers, batches that are too large, what would not get smaller.

    Attributes:
        sealed: the sealed entries made.
    """

    def __init__(self) -> None:
        self.sealed: int = 0
        self._made: list[Entry] = []
        self._run: list[Entry] = []
        self._lines: list[int] = []  # of each entry of the run
        self._term = b""
        self._last = 0
        self._bytes = 0

    def take(self, entries: list[Entry]) -> list[Entry]:
        """Take the next entries of the log; returns the next ones of the sealed log. Raises ForeignEntryError."""
        for entry in entries:
            entry_id, fields = entry
            if fields[::2] != _BATCH:
                if b"chunk" in fields[::2] and sealed_entry(fields) is None:
                    raise ForeignEntryError
                self._keep(entry)
                continue
            lines, digits, nonce = fields[1::2]
            count = lines.count(b"\n") + 1
            last = _number(digits)
            first = last - count + 1
            term, _, begin = entry_id.partition(b"-")
            if first < 1 or begin != b"%d" % first or not lines or len(lines) >= MOST_BYTES or b"\n" in nonce:
                self._keep(entry)
                continue
            if term != self._term or first != self._last + 1 or self._bytes + len(lines) >= MOST_BYTES:
                self._seal()
            self._run.append(entry)
            self._lines.append(count)
            self._term, self._last = term, last
            self._bytes += len(lines) + 1
            if self._bytes >= _WANTED_BYTES:
                self._seal()
        made, self._made = self._made, []
        return made

    def _keep(self, entry: Entry) -> None:
        self._seal()
        self._made.append(entry)

    def _seal(self) -> None:
        """Make one entry of those that are gathered, if it is smaller."""
        run, counts, size = self._run, self._lines, self._bytes
        self._run, self._lines, self._bytes = [], [], 0
        if not run:
            return
        lines = zlib.compress(b"\n".join([fields[1] for _id, fields in run]), _LEVEL)
        batches = [b"%d %b" % (count, fields[5]) for count, (_id, fields) in zip(counts, run, strict=True)]
        writers = zlib.compress(b"\n".join(batches), _LEVEL)
        if len(lines) + len(writers) >= size + 10 * len(run):  # an entry takes more than 10 bytes beside its lines
            self._made += run
            return
        self.sealed += 1
        count = b"%d" % sum(counts)
        self._made.append(
            [run[0][0], [b"chunk", lines, b"sequence", run[-1][1][3], b"sealed", count, b"writers", writers]]
        )
