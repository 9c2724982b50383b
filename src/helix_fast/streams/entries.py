"""Entries of a stream and fields of its meta hash, written by this library or by another store. No I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from helix_fast import codec
from helix_fast.arguments import MAX_EXACT
from helix_fast.errors import (
    HelixError,
    MalformedStreamError,
    ProducerLostError,
    SequenceGapError,
    StoreResponseError,
    StreamFailedError,
)

from .sealed import sealed_entry
from .terms import Terms

# The server's words about stored values that are not ours: of another type, or not what a script can work with
_FOREIGN: Final = ("WRONGTYPE", "user_script")


def typed(key: bytes, error: HelixError) -> HelixError:
    """MalformedStreamError if the server refused what is stored, and not the request; else the error itself."""
    if not isinstance(error, StoreResponseError) or error.server_code not in {"ERR", "WRONGTYPE"}:
        return error
    if not any(words in str(error) for words in _FOREIGN):
        return error
    malformed = MalformedStreamError(key.decode(), f"a key of another type or content: {error}")
    malformed.__cause__ = error
    return malformed


def check_foreign(key: bytes, error: StoreResponseError) -> None:
    """Raise MalformedStreamError if the server refused what is stored, and not the request."""
    malformed = typed(key, error)
    if malformed is not error:
        raise malformed


def stored_number(key: bytes, field: str, value: bytes) -> int:
    """A number of the meta hash: decimal digits alone. Raises MalformedStreamError."""
    number = _number(value)
    if number is None:
        raise MalformedStreamError(key.decode(), f"{field} is no number: {value[:40]!r}")
    return number


def stored_text(key: bytes, field: str, value: bytes) -> str:
    """A text of the meta hash. Raises MalformedStreamError."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise MalformedStreamError(key.decode(), f"{field} is no UTF-8: {value[:40]!r}") from error


def stored_fence(key: bytes, value: bytes) -> bytes:
    """A fencing token of the meta hash, as decimal text; empty: none. Raises MalformedStreamError."""
    if value and not (value.isdigit() and len(value) < 20):
        raise MalformedStreamError(key.decode(), f"fence is no number: {value[:40]!r}")
    return value


def check_current(terms: Terms, number: bytes) -> None:
    """Raise ValueError unless a number, from the meta hash, is that of the last term."""
    if number != b"%d" % terms.current:
        raise ValueError(f"term {number[:40]!r} is not the last one, {terms.current}")


@contextlib.contextmanager
def reading_meta(key: bytes) -> Iterator[None]:
    """MalformedStreamError in place of the errors of reading fields that this library would not have written."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise MalformedStreamError(key.decode(), f"terms, epoch or sequence are not ours: {error}") from error


def _number(value: bytes) -> int | None:
    if not value.isdigit() or len(value) > 16 or (number := int(value)) > MAX_EXACT:
        return None
    return number


def chunk_fields(fields: list[bytes]) -> tuple[bytes | None, int, bool]:
    """(chunks or None, sequence of the last or 0, whether a store of another kind wrote it) of an entry."""
    if fields[::2] == [b"chunk", b"sequence", b"writer"]:
        return fields[1], _number(fields[3]) or 0, False
    values: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=False))
    # a sequence that is no number or out of range: the entry has no place among the others
    return values.get(b"chunk"), _number(values.get(b"sequence", b"")) or 0, b"writer" not in values


def sequence_of(fields: list[bytes]) -> int:
    """Sequence of the last chunk in an entry, or before an entry without chunks; 0 if it has none."""
    return chunk_fields(fields)[1]


class EntryRun:
    """The entries at the beginning of a page that are one run of chunks of one term.

    It ends before a hole, before chunks of another term, or with the page.

    Args:
        entries: the page, in the form of XRANGE.
        last: sequence of the last chunk before it.
        chunk_id: id of the last entry with chunks before it; empty if there is none.
        terms: the stream's terms; None: it has none.
        skip_gaps: a hole before its first chunk is skipped.

    Attributes:
        body: the chunks, one per line. after: sequence before the first of them. last: of the last one.
        entry_id: of the last entry in the run; empty if there is none.
        chunk_id: of the last entry with chunks in the run, or before it. It differs from ``entry_id`` where the run
            ends with a marker.
        cut: a hole, another term or an unreadable entry follows; it must be read again.
        ended: the last entry is the end of the stream. error: the last entry is another end.
        foreign: a store of another kind wrote some of it. misplaced: id of an entry that has chunks but no sequence.

    Raises:
        SequenceGapError: a hole before the first chunk.
        ValueError: a sealed entry that cannot be read, before the first chunk.
    """

    def __init__(
        self, entries: list[list[Any]], last: int, chunk_id: bytes, terms: Terms | None, *, skip_gaps: bool
    ) -> None:
        self.after: int = last
        self.last: int = last
        self.entry_id: bytes = b""
        self.chunk_id: bytes = chunk_id
        self.misplaced: bytes = b""
        self.cut: bool = False
        self.ended: bool = False
        self.foreign: bool = False
        self.error: HelixError | None = None
        self._bodies: list[bytes] = []
        at = 0
        while at < len(entries) and not (self.cut or self.ended or self.error):
            entry_id, fields = entries[at]
            if self._bodies and terms is not None and self.entry_id != self.chunk_id and b"chunk" in fields[::2]:
                self.cut = terms.part(self.chunk_id, entry_id)  # a term may have begun with the marker before it
                if self.cut:
                    break
            taken, self.last, usual = codec.merge_entries(entries[at:], self.last)
            if taken:
                self._bodies.append(usual)
                at += taken
                self.entry_id = self.chunk_id = entries[at - 1][0]
            else:
                self._add(entry_id, fields, skip_gaps)
                at += 1
        self.body: bytes = b"\n".join(self._bodies)

    def _add(self, entry_id: bytes, fields: list[bytes], skip_gaps: bool) -> None:
        sealed = sealed_entry(fields)
        if sealed is None:
            body, sequence, foreign = chunk_fields(fields)
        else:
            try:
                body, sequence, foreign = sealed.lines, sealed.last, False
            except ValueError as error:
                if not self._bodies:
                    raise ValueError(f"entry {entry_id.decode()}: {error}") from error
                self.cut = True  # the chunks before it come first
                return
            # where its last batch would be read on from, had it not been sealed
            entry_id = b"%b-%d" % (entry_id.partition(b"-")[0], sequence)
        count = 0 if body is None else 1 if foreign else body.count(b"\n") + 1
        first = sequence - count + 1
        if first > self.last + 1:
            if self._bodies:
                self.cut = True
                return
            if not skip_gaps:
                raise SequenceGapError(self.last, first)
            self.after = self.last = first - 1
            self.chunk_id = entry_id  # the sequences of the hole are of the term that begins here
        self.entry_id = entry_id
        if body is None:
            self._end(fields)
            return
        self.chunk_id = entry_id
        self.foreign |= foreign
        if sequence < 1:
            self.misplaced = entry_id
        if sequence > self.last:
            if first <= self.last and (self._bodies or first < 1):
                # Another store's overlapping entry: only its new chunks count.
                body = b"\n".join(body.split(b"\n")[self.last - sequence :])
            if foreign:
                # one chunk: its line breaks stay white space between tokens, and stay wrong inside a string
                body = body.replace(b"\n", b"\r")
            # an empty body is a line as well, though no chunk
            self._bodies.append(body or b" ")
            self.last = sequence

    def _end(self, fields: list[bytes]) -> None:
        """Take an entry without chunks, which may be the end of the stream."""
        values = dict(zip(fields[::2], fields[1::2], strict=False))
        kind, error = values.get(b"event", b""), values.get(b"error", b"").decode(errors="replace")
        if kind == b"ended":
            self.ended = True
        elif kind == b"failed":
            self.error = StreamFailedError(error)
        elif kind == b"lost":
            self.error = ProducerLostError(error)
