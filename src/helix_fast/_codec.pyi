"""The codec's contract, for the compiled module and for its twin in `codec/plain`.

Bytes in, values out: no I/O, no clock.

Sequences, terms and timestamps are integers in 0..18446744073709551615: another value is OverflowError, another type
(bool too) TypeError. Arguments of type bytes take bytes only: no bytearray, no memoryview (TypeError). A str with a
lone surrogate is UnicodeEncodeError, a ValueError. A call that raises has changed nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, final

from helix_fast.codec.plain.append import Batch as Batch
from helix_fast.codec.plain.append import FastAppend as FastAppend
from helix_fast.codec.plain.append import Outbox as Outbox
from helix_fast.codec.plain.append import Write as Write
from helix_fast.codec.plain.reader import Inbox as Inbox
from helix_fast.codec.plain.reader import Items as Items
from helix_fast.codec.plain.subscribers import Listeners as Listeners
from helix_fast.codec.plain.subscribers import count_frame as count_frame
from helix_fast.codec.plain.subscribers import heard_elsewhere as heard_elsewhere

_T = TypeVar("_T")
_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])

@final
class ChunkEncoder:
    """Encodes the `text_delta` chunks of one agent: holds all bytes of them that never change.

    Immutable; may be shared between threads. Wire form: the reference page's (`type`, `delta`, `agentId`, `agentType`,
    `timestamp`).

    Args:
        agent_id: the agent's id.
        agent_type: the agent's type; None leaves the key out.

    Raises:
        TypeError: an argument is no str.
        UnicodeEncodeError: an argument has a lone surrogate.
    """

    def __new__(cls, agent_id: str, agent_type: str | None = None) -> ChunkEncoder: ...
    @property
    def agent_id(self) -> str:
        """As given."""

    @property
    def agent_type(self) -> str | None:
        """As given."""

    def encode_text(self, delta: str, timestamp: int) -> bytes:
        r"""One `text_delta` as one line of JSON: byte for byte what `msgspec.json.encode` makes of the same fields.

        Args:
            delta: the text; any length, may be empty.
            timestamp: Unix milliseconds, 0..2**64-1.

        Returns:
            `{"type":"text_delta","delta":"...","agentId":"...","agentType":"...","timestamp":123}`, in one line.

        Raises:
            TypeError: delta is no str, or timestamp no int.
            UnicodeEncodeError: delta has a lone surrogate.
            OverflowError: timestamp is out of range.

        >>> ChunkEncoder("a1").encode_text("line\n", 7)
        b'{"type":"text_delta","delta":"line\\n","agentId":"a1","timestamp":7}'
        """

@final
class BatchBuilder:
    """Chunks being gathered for one stream entry: newline separated bytes and their count.

    Owned by one thread at a time; without the GIL a race can mix the order of chunks, never corrupt memory.
    """

    def __new__(cls) -> BatchBuilder: ...
    @property
    def count(self) -> int:
        """Chunks gathered."""

    @property
    def size(self) -> int:
        """Bytes of the body so far, separators included."""

    def add_text(self, encoder: ChunkEncoder, delta: str, timestamp: int) -> int:
        """Append what `encoder.encode_text(delta, timestamp)` returns, without making it a bytes object of its own.

        Returns:
            The new size, bytes.

        Raises:
            TypeError, UnicodeEncodeError, OverflowError: as `encode_text`.
            MemoryError: no memory for it.
        """

    def add(self, chunk: bytes) -> int:
        """Append one chunk that is encoded already.

        Args:
            chunk: one line of JSON. That it is JSON is not checked.

        Returns:
            The new size, bytes.

        Raises:
            ValueError: the chunk is empty or has a newline inside (it would be read as two).
            TypeError: it is not bytes.
            MemoryError: no memory for it.
        """

    def take(self) -> bytes:
        r"""The body, `chunk\nchunk\n...chunk` without a newline at the end (b"" for an empty batch). Empties the batch.

        Raises:
            MemoryError: no memory for it; the chunks stay.
        """

@final
class AppendFramer:
    """RESP of the appends of one stream; the constant head is made once. Immutable; may be shared between threads.

    Args:
        key: the stream's key.
        channel: the channel on which its entries are published.
        publish: the publishing command, b"PUBLISH" or b"SPUBLISH".
    """

    def __new__(cls, key: bytes, channel: bytes, publish: bytes = b"PUBLISH") -> AppendFramer: ...
    @property
    def channel(self) -> bytes:
        """As given."""

    @property
    def look(self) -> bytes:
        """RESP of `PUBLISH channel !`: there is something in the log."""

    def xadd(self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None) -> bytes:
        """RESP of `XADD key NOMKSTREAM [MINID = min_id] term-first chunk body sequence first+count-1 writer nonce`.

        Args:
            term: the stream's term.
            first: sequence of the first chunk, at least 1.
            count: chunks in the body, at least 1; not compared with the body.
            body: what `BatchBuilder.take` returned.
            nonce: the writer's nonce.
            min_id: entries below this id are trimmed; None trims nothing.

        Raises:
            ValueError: first or count is 0.
            OverflowError: a number, or first + count - 1, is out of range.
        """

    def publish(self, term: int, first: int, last: int, body: bytes) -> bytes:
        """RESP of `PUBLISH channel payload`. Raises as `payload`."""

    def payload(self, term: int, first: int, last: int, body: bytes) -> bytes:
        r"""`<term>-<first>:<last>\n<body>`, which `parse_push` reads. ValueError where last is below first."""

def frame_command(args: Sequence[bytes | str | int | float]) -> bytes:
    r"""Any command as RESP: bytes as they are, str as UTF-8, int in decimal, float as its repr.

    Raises:
        TypeError: an argument is of another type, bool among them; or `args` itself is a str or bytes.
        ValueError: there is no argument at all.
        UnicodeEncodeError: a str has a lone surrogate.

    >>> frame_command(["GET", b"key"])
    b'*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n'
    """

def parse_push(payload: bytes) -> tuple[int, int, int, bytes]:
    """(term, first, last, body) of a published payload. The body may be empty.

    Raises:
        ValueError: no such head, a number that is not canonical decimal or above 64 bits, or last below first.
        TypeError: it is not bytes.
    """

def split_lines(body: bytes, last: int, after: int) -> tuple[int, list[bytes]]:
    r"""The chunks of a stored body whose sequence is above `after`.

    Args:
        body: newline separated chunks.
        last: sequence of the last of them.
        after: sequence last seen, 0 for all.

    Returns:
        (sequence of the first returned chunk, chunks). Nothing wanted, or an empty body: (last + 1, []).

    Raises:
        ValueError: the body has more lines than there are sequences up to `last`.

    >>> split_lines(b"1\n2\n3", 12, 10)
    (11, [b'2', b'3'])
    """

def join_lines(body: bytes, last: int, after: int) -> tuple[int, int, bytes]:
    r"""As `split_lines`, but as one JSON array, so that one msgspec call decodes a batch.

    That a line is one JSON value is not checked: compare the length of what was decoded with the count.

    Returns:
        (sequence of the first element, elements, array). Nothing wanted, or an empty body: (last + 1, 0, b"[]").

    Raises:
        ValueError, OverflowError, TypeError: as `split_lines`.

    >>> join_lines(b"1\n2\n3", 12, 10)
    (11, 2, b'[2,3]')
    """

def decode_texts(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, make: Callable[..., _T]
) -> tuple[int, list[_T | None], int]:
    """The chunks of a stored body that come after sequence `after`, where `encoder` wrote them.

    Args:
        encoder: whose `text_delta` lines are known here, with escapes other than \\u, and up to 16 digits of timestamp.
        body, last, after: as `split_lines` takes them.
        make: called with delta, agent_id, timestamp, and agent_type where the encoder has one, all by name.

    Returns:
        (sequence of the first chunk, what `make` returned for each or None for lines that are to be read otherwise,
        how many of those there are).

    Raises:
        As `split_lines`, and what `make` raises.
    """

def number_chunks(make: type[_Tuple], chunks: list[Any], first: int, epoch: object) -> list[_Tuple]:
    """`make` objects of (chunk, sequence, epoch), sequences counted from `first`; OverflowError, TypeError.

    `make` is a subclass of tuple without attributes of its own, as a NamedTuple; its `__new__` is not called.
    """

def merge_entries(entries: list[Any], last: int) -> tuple[int, int, bytes]:
    """The bodies of the entries that a stream's page begins with, as far as they follow one another as usual.

    Args:
        entries: `[[id, [b"chunk", body, b"sequence", sequence, b"writer", nonce]], ...]` as XRANGE gives them.
        last: sequence of the last chunk before them.

    Returns:
        (entries taken, sequence of the last chunk in them, their bodies joined). An entry with other fields, or one
        that does not begin with the next sequence, ends it.

    Raises:
        TypeError: entries is no list. OverflowError: last is out of range.
    """

def check_finite(value: object, binary: bool = True) -> None:
    """Refuse what JSON cannot hold but msgspec would write as null or as a string.

    Walks dict, list, tuple and msgspec structs.

    Args:
        binary: whether bytes may be in it, which msgspec writes as base64 text.

    Raises:
        ValueError: a NaN or Infinity (the message names the path: `data.x[3]`), or more than 512 levels, as in a cycle;
            never RecursionError.
        TypeError: a dict key that is no str, or bytes where they may not be.
    """

@final
class Sequencer:
    """The next sequence of a stream, writer side: one range in flight at most. Owned by one thread at a time.

    Args:
        last: last sequence that is part of the stream, 0 for none.
    """

    def __new__(cls, last: int = 0) -> Sequencer: ...
    @property
    def last(self) -> int:
        """Last sequence known to be part of the stream; a range in flight does not count."""

    def reserve(self, count: int) -> int:
        """Put the next `count` sequences in flight; returns the first of them, `last + 1`.

        Raises:
            ValueError: count is 0.
            RuntimeError: a range is in flight already.
            OverflowError: count is negative, or the last sequence would not fit 64 bits.
        """

    def commit(self) -> int:
        """The range in flight became part of the stream; returns the new last sequence.

        Raises:
            RuntimeError: nothing is in flight.
        """

    def rollback(self) -> None:
        """The range in flight did not become part of the stream: its sequences are the next to be reserved.

        With nothing in flight, no effect: so it may follow `jump`, which drops the range itself.
        """

    def jump(self, last: int) -> None:
        """Another writer moved the stream to `last`. Drops what is in flight.

        Raises:
            ValueError: `last` is below the last known: a stream never goes back.
            OverflowError: out of range.
        """

@final
class Window:
    """What a reader has seen: contiguity, and dropping what was seen. Owned by one thread at a time.

    Args:
        after: sequence last seen, 0 for none.
    """

    def __new__(cls, after: int = 0) -> Window: ...
    @property
    def last(self) -> int:
        """Sequence last seen."""

    def offer(self, first: int, last: int) -> int:
        """What to do with an entry that covers first..last.

        Returns:
            n >= 0: take it without its first n chunks; `last` is seen now.
            -1: all of it was seen, drop it.
            -2: a hole before it, read the log.

        Raises:
            ValueError: first is 0 or last is below first.
            OverflowError: out of range.
        """

    def overlaps(self, first: int, last: int) -> bool:
        """Whether first..last is partly seen, partly new: first <= self.last < last. Raises as `offer`."""

@final
class Rollup:
    """Sums of usage entries, read from their raw JSON; can be continued, merged and copied.

    `codec.plain.rollup.read_entry` decides what an entry counts for. Sums of integers are exact, whatever their size;
    fractions are added with Neumaier's compensation. Owned by one thread at a time; else a
    race mixes up sums, never memory.
    """

    def __new__(cls) -> Rollup: ...
    @property
    def entry_count(self) -> int:
        """Entries counted."""

    @property
    def malformed_count(self) -> int:
        """Those that could not be counted: no JSON object, no kind, negative or fractional tokens and the like."""

    def add(self, entries: list[bytes]) -> None:
        """Add entries, each one JSON object. TypeError: no list, or not all are bytes; those before have been added."""

    def merge(self, other: Rollup) -> None:
        """Add all that another rollup has summed up, which stays as it is. TypeError: it is no Rollup."""

    def copy(self) -> Rollup:
        """The same sums in an object of their own."""

    @staticmethod
    def restore(exported: object) -> Rollup:
        """The rollup that has exported this, to the last bit; lists, which JSON makes of tuples, are as good.

        TypeError, ValueError: what no rollup of at most 2**32 entries can have exported.
        """

    def export(self) -> tuple[Any, ...]:
        """The sums: (entry_count, malformed_count, first time or None, last time or None, groups, children).

        `groups` are five dicts by name: tokens by model, tools, sub-agents by type, custom by type, other kinds. A
        value is (count, seven integers, count of integer numbers, their sum, least and greatest or None, count of
        fractions, their sum, what rounding left over, least and greatest or None). The seven integers are prompt,
        completion, reasoning, cached, total, reasoning inside completion, cached inside prompt; of tools and
        sub-agents successes and failures, then zeros. `children` are the sessions of sub-agents, in order.
        """

def select_entries(
    entries: Sequence[bytes],
    kinds: Sequence[bytes] | None,
    steps: tuple[int | None, int | None],
    times: tuple[int | None, int | None],
    limit: int,
) -> list[bytes]:
    """The first `limit` usage entries that match, in their order, the very objects.

    Args:
        entries: each one JSON object; what is none, or has no kind, never matches.
        kinds: kinds that match; None: all.
        steps: least and greatest `stepCount`, inclusive, None: open. An entry without one matches only (None, None).
        times: the same for `timestamp`.

    Raises:
        TypeError: an entry or a kind is no bytes.
    """
