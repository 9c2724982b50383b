"""One file: the contract of the codec, whole, for the compiled module and for `codec/plain`.

Two kinds of names. *Pure* ones: bytes and values in, values out; no I/O, no clock. *Hot* ones (from `Outbox` on): the
steps of each chunk through an appender and a reader; they call the objects that they get, and decide no policy.

Sequences, terms and timestamps are integers in 0..18446744073709551615: another value is OverflowError, another type
(bool too) TypeError. Arguments of type bytes take bytes only: no bytearray, no memoryview (TypeError). A str with a
lone surrogate is UnicodeEncodeError, a ValueError. A call of a pure name that raises has changed nothing.
"""

from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, final

from typing_extensions import disjoint_base

_T = TypeVar("_T")
_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])

MAX_BATCH_BYTES: Final = 65536
"""Bytes of a batch from which on it is closed."""

@final
class ChunkEncoder:
    """Encodes the `text_delta` chunks of one agent. Immutable; may be shared between threads.

    Fields, in this order: `type`, `delta`, `agentId`, `agentType`, `timestamp`.

    Args:
        agent_id: the agent's id.
        agent_type: the agent's type; None leaves the key out.

    Raises:
        TypeError: an argument is not str.
        UnicodeEncodeError: an argument has a lone surrogate.
    """

    def __new__(cls, agent_id: str, agent_type: str | None = None) -> ChunkEncoder: ...
    @property
    def agent_id(self) -> str:
        """The argument."""

    @property
    def agent_type(self) -> str | None:
        """The argument."""

    def encode_text(self, delta: str, timestamp: int) -> bytes:
        r"""One `text_delta` as one line of JSON: byte for byte what `msgspec.json.encode` makes of the same fields.

        Args:
            delta: the text; any length, may be empty.
            timestamp: Unix milliseconds, 0..2**64-1.

        Returns:
            `{"type":"text_delta","delta":"...","agentId":"...","agentType":"...","timestamp":123}`, in one line.

        Raises:
            TypeError: delta is not str, or timestamp not int.
            UnicodeEncodeError: delta has a lone surrogate.
            OverflowError: timestamp is out of range.

        >>> ChunkEncoder("a1").encode_text("line\n", 7)
        b'{"type":"text_delta","delta":"line\\n","agentId":"a1","timestamp":7}'
        """

@final
class BatchBuilder:
    r"""Builds the body of one stream entry: newline separated chunks, and their count.

    Owned by one thread at a time; without the GIL a race can mix the order of chunks, never corrupt memory.

    >>> batch = BatchBuilder()
    >>> batch.add(b"{}"), batch.add_text(ChunkEncoder("a"), "", 1), batch.count
    (2, 63, 2)
    >>> batch.take()
    b'{}\n{"type":"text_delta","delta":"","agentId":"a","timestamp":1}'
    """

    def __new__(cls) -> BatchBuilder: ...
    @property
    def count(self) -> int:
        """Chunks gathered."""

    @property
    def size(self) -> int:
        """Bytes of the body so far, separators included."""

    def add_text(self, encoder: ChunkEncoder, delta: str, timestamp: int) -> int:
        """Append the result of `encoder.encode_text(delta, timestamp)`, without a bytes object for it.

        Returns:
            The new size, bytes.

        Raises:
            TypeError, UnicodeEncodeError, OverflowError: as `encode_text`.
            MemoryError: nothing was added.
        """

    def add(self, chunk: bytes) -> int:
        """Append one encoded chunk.

        Args:
            chunk: one line of JSON; that it is JSON is not checked.

        Returns:
            The new size, bytes.

        Raises:
            ValueError: the chunk is empty or has a newline inside (it would be read as two).
            TypeError: the chunk is not bytes.
            MemoryError: nothing was added.
        """

    def take(self) -> bytes:
        r"""Return the body, `chunk\nchunk\n...chunk`, b"" for none, and empty the batch.

        Raises:
            MemoryError: the chunks stay in the batch.
        """

@final
class AppendFramer:
    r"""RESP of the appends and publications of one stream. Immutable; may be shared between threads.

    Args:
        key: the stream's key.
        channel: the channel on which its entries are published.
        publish: the publishing command, b"PUBLISH" or b"SPUBLISH".

    >>> AppendFramer(b"key", b"channel").publish(17, 1, 2, b"{}\n{}")
    b'*3\r\n$7\r\nPUBLISH\r\n$7\r\nchannel\r\n$12\r\n17-1:2\n{}\n{}\r\n'
    """

    def __new__(cls, key: bytes, channel: bytes, publish: bytes = b"PUBLISH") -> AppendFramer: ...
    @property
    def channel(self) -> bytes:
        """The argument."""

    @property
    def catch_up_frame(self) -> bytes:
        """RESP of `PUBLISH channel !`, at which subscribers read the log."""

    def xadd(self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None) -> bytes:
        """RESP of `XADD key NOMKSTREAM [MINID = min_id] term-first chunk body sequence first+count-1 writer nonce`.

        Args:
            term: the stream's term.
            first: sequence of the first chunk, at least 1.
            count: chunks in the body, at least 1; not compared with the body.
            body: result of `BatchBuilder.take`.
            nonce: distinguishes this batch from every other.
            min_id: entries below this id are trimmed; None: none.

        Raises:
            ValueError: first or count is 0.
            OverflowError: a number, or first + count - 1, is out of range.
        """

    def xadd_pieces(
        self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None
    ) -> tuple[bytes, bytes, bytes]:
        """The same in pieces, for a long body, which is not copied: what stands before it, itself, what is behind it.

        Raises as `xadd`.
        """

    def publish(self, term: int, first: int, last: int, body: bytes) -> bytes:
        r"""RESP of `PUBLISH channel payload`. The payload is `<term>-<first>:<last>\n<body>`, see `parse_push`.


        Raises:
            ValueError: last is below first. OverflowError: a number is out of range.
        """

def frame_command(args: Sequence[bytes | str | int | float]) -> bytes:
    r"""A command as RESP: bytes unchanged, str as UTF-8, int in decimal, float as its repr.

    Raises:
        TypeError: an argument is of another type, bool among them; or `args` itself is a str or bytes.
        ValueError: `args` is empty.
        UnicodeEncodeError: a str has a lone surrogate.

    >>> frame_command(["GET", b"key"])
    b'*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n'
    """

def parse_push(payload: bytes) -> tuple[int, int, int, bytes]:
    r"""(term, first, last, body) of a published payload. The body may be empty.

    Raises:
        ValueError: no such head, a number that is not canonical decimal or above 64 bits, or last below first.
        TypeError: the payload is not bytes.

    >>> parse_push(b"17-1:2\n{}\n{}")
    (17, 1, 2, b'{}\n{}')
    """

def split_lines(body: bytes, last: int, after: int) -> tuple[int, list[bytes]]:
    r"""The chunks of a stored body whose sequence is above `after`.

    Args:
        body: newline separated chunks.
        last: sequence of the last of them.
        after: sequence last seen, 0 for none.

    Returns:
        (sequence of the first returned chunk, chunks). All seen, or an empty body: (last + 1, []).

    Raises:
        ValueError: the body has more lines than there are sequences up to `last`.

    >>> split_lines(b"1\n2\n3", 12, 10)
    (11, [b'2', b'3'])
    """

def join_lines(body: bytes, last: int, after: int) -> tuple[int, int, bytes]:
    r"""As `split_lines`, but as one JSON array, so that one msgspec call decodes a batch.

    That a line is one JSON value is not checked: compare the number of decoded elements with the count.

    Returns:
        (sequence of the first element, count, array). All seen, or an empty body: (last + 1, 0, b"[]").

    Raises:
        ValueError, OverflowError, TypeError: as `split_lines`.

    >>> join_lines(b"1\n2\n3", 12, 10)
    (11, 2, b'[2,3]')
    """

def decode_texts(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, make: Callable[..., _T]
) -> tuple[int, list[_T | None], int]:
    r"""The chunks of a stored body whose sequence is above `after`, decoded if `encoder` wrote them.

    Args:
        encoder: the writer of the `text_delta` lines that are decoded: those without `\u` escapes, and with at most 16
            digits of timestamp.
        body, last, after: as for `split_lines`.
        make: called by name with delta, agent_id, timestamp, and agent_type if the encoder has one.

    Returns:
        (sequence of the first chunk, a list of the results of `make` with None for each other line, number of Nones).

    Raises:
        ValueError, OverflowError, TypeError: as `split_lines`; the errors of `make`.

    >>> decode_texts(ChunkEncoder("a"), ChunkEncoder("a").encode_text("hi", 7) + b"\n{}", 2, 0, dict)
    (1, [{'delta': 'hi', 'agent_id': 'a', 'timestamp': 7}, None], 1)
    """

def frame_events(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, prefix: bytes, limit: int
) -> tuple[int, list[bytes | int]]:
    r"""Frame the chunks of a stored body after a sequence as server-sent events, without decoding them.

    An event is `id: `, the prefix and the sequence, and `data: ` with the line. Only the lines of one encoder are
    framed: of them it is known that they are chunks. The caller frames the others.

    Args:
        encoder: of the agent whose text the body probably has.
        body: a stored body. last: sequence of its last chunk. after: sequence after which to begin.
        prefix: what a position has before its sequence.
        limit: bytes at which a part ends, with the event that reaches it.

    Returns:
        The sequence of the first chunk, `last + 1` for none; and the parts: bytes of consecutive events, or the
        sequence of a line that another one wrote, in its place.

    Raises:
        ValueError: the body has more lines than `last`.
        OverflowError: a number is negative or above 2**64 - 1.
        TypeError: `body` or `prefix` is not bytes.

    >>> line = ChunkEncoder("a").encode_text("x", 7)
    >>> frame_events(ChunkEncoder("a"), line + b"\n{}", 9, 0, b"e:", 1 << 16)
    (8, [b'id: e:8\ndata: {"type":"text_delta","delta":"x","agentId":"a","timestamp":7}\n\n', 9])
    """

def frame_deltas(
    line_head: bytes,
    line_tail: bytes,
    body: bytes,
    last: int,
    after: int,
    head: bytes,
    middle: bytes | None,
    tail: bytes,
    limit: int,
    join: bool = False,
) -> tuple[int, int, bytes]:
    r"""Frame the texts of a stored body after a sequence for another protocol, without decoding them.

    A line is framed if it is `line_head`, the text of a JSON string without its quotes, `line_tail`, and a brace; where
    `line_tail` ends with a colon, digits come before the brace. The text is passed on as it is written, so it must be
    one that an encoder writes again in the same way: not empty, in valid UTF-8, without escaped slashes or `\u`.

    Args:
        body: a stored body. last: sequence of its last chunk. after: sequence after which to begin.
        head: what an event has before its text; with a `middle` the sequence and that stand between the two.
        tail: what it has after its text.
        limit: bytes at which to stop, with the event that reaches it.
        join: all texts in one event, with the sequence of the first.

    Returns:
        The sequence of the first line, `last + 1` for none; how many lines are framed; and the events.

    Raises:
        ValueError: the body has more lines than `last`; a line break in what lines have.
        OverflowError: a number is negative or above 2**64 - 1.
        TypeError: something else than bytes.

    >>> frame_deltas(b'{"t":"', b'"', b'{"t":"a"}\n{"t":"b"}\n{}', 9, 0, b"<", b":", b">", 1 << 16)
    (7, 2, b'<7:a><8:b>')
    """

def number_chunks(make: type[_Tuple], chunks: list[Any], first: int, epoch: object, term: object) -> list[_Tuple]:
    """Make a `make` of (chunk, sequence, epoch, term) for each chunk; the sequences count up from `first`.

    Args:
        make: a subclass of tuple without attributes of its own, such as a NamedTuple; its `__new__` is not called.

    Raises:
        TypeError: `make` or `chunks` is of another type.
        OverflowError: a sequence is out of range.

    >>> number_chunks(tuple, ["a", "b"], 7, "epoch", "1a")
    [('a', 7, 'epoch', '1a'), ('b', 8, 'epoch', '1a')]
    """

def iterate_but_last(values: tuple[Any, ...]) -> Iterator[Any]:
    """An iterator over all items of a tuple but the last; a subclass's own length and items are passed by.

    Raises:
        TypeError: it is no tuple.

    >>> list(iterate_but_last(("a", 7, "epoch", "1a")))
    ['a', 7, 'epoch']
    """

def merge_entries(entries: list[Any], last: int) -> tuple[int, int, bytes]:
    """Join the bodies of the first entries of a page, as far as they are consecutive.

    Args:
        entries: reply to XRANGE, `[[id, [b"chunk", body, b"sequence", sequence, b"writer", nonce]], ...]`.
        last: sequence of the last chunk before them.

    Returns:
        (entries taken, sequence of the last chunk in them, their bodies joined). The first entry with other fields, or
        that does not begin with the next sequence, is not taken, nor is any behind it.

    Raises:
        TypeError: entries is not a list.
        OverflowError: last is out of range.

    >>> merge_entries([[b"17-1", [b"chunk", b"{}", b"sequence", b"1", b"writer", b"aaaa0001"]]], 0)
    (1, 1, b'{}')
    """

def merge_page(reply: bytes, last: int) -> tuple[int, int, int, bytes, bytes, bytes]:
    """As `merge_entries`, of a page that was not parsed: no object is made of an entry.

    Args:
        reply: to XRANGE, as RESP.
        last: sequence of the last chunk before it.

    Returns:
        (entries in the page, entries taken, sequence of the last chunk in them, id of the first and of the last of
        them, their bodies joined); the ids are b"" where none was taken.

    Raises:
        ValueError: no array.
        TypeError: reply is not bytes.
        OverflowError: last is out of range.

    >>> entry = [b"*2", b"$4", b"17-1", b"*6", b"$5", b"chunk", b"$2", b"{}", b"$8", b"sequence", b"$1", b"1"]
    >>> merge_page(b"\\r\\n".join([b"*1", *entry, b"$6", b"writer", b"$1", b"w", b""]), 0)
    (1, 1, 1, b'17-1', b'17-1', b'{}')
    """

@final
class ReplyCutter:
    """Cuts what a server sends into replies (RESP2), without parsing them. Owned by one thread.

    >>> cutter = ReplyCutter()
    >>> cutter.feed(b"+OK\\r\\n*1\\r\\n$2\\r\\n")
    >>> cutter.next(), cutter.next(), cutter.rest()
    (b'+OK\\r\\n', None, b'*1\\r\\n$2\\r\\n')
    """

    def __new__(cls) -> ReplyCutter: ...
    @property
    def size(self) -> int:
        """Bytes fed that are not part of a reply yet."""

    def feed(self, data: bytes) -> None:
        """Add received bytes. TypeError: data is not bytes."""

    def next(self) -> bytes | None:
        """The next whole reply, or None. ValueError: no RESP2; nothing more can be cut then."""

    def rest(self) -> bytes:
        """Take what was fed and is not part of a whole reply; it begins where a reply begins."""

@final
class StringArray:
    """The strings of a reply that is an array of strings, which are not made into objects. Immutable.

    Args:
        reply: the reply, as RESP.

    Raises:
        ValueError: no array of strings, or more behind it. TypeError: reply is not bytes.

    >>> array = StringArray(b"*2\\r\\n$1\\r\\na\\r\\n$1\\r\\nb\\r\\n")
    >>> len(array), array.first, array.last, array.strings(1)
    (2, b'a', b'b', [b'b'])
    """

    def __init__(self, reply: bytes) -> None: ...
    @property
    def first(self) -> bytes:
        """The first string; b"" where there is none."""

    @property
    def last(self) -> bytes:
        """The last one."""

    def __len__(self) -> int: ...
    def strings(self, first: int = 0) -> list[bytes]:
        """The strings from an index on, as objects."""

def check_finite(value: object, binary: bool = True) -> None:
    """Refuse values that JSON cannot hold and that msgspec writes as null or as a string.

    Searches dict, list, tuple and msgspec structs.

    Args:
        binary: accept bytes, which msgspec writes as base64 text.

    Raises:
        ValueError: a NaN or Infinity (the message names the path), or more than 512 levels, as in a cycle; never
            RecursionError.
        TypeError: a dict key that is not str, or bytes.

    >>> check_finite({"x": [1.0, float("nan")]})
    Traceback (most recent call last):
    ValueError: x[1]: nan is no JSON number
    """

@final
class Sequencer:
    """Numbers the chunks of a writer: at most one range is in flight. Owned by one thread at a time.

    Args:
        last: last sequence of the stream, 0 for none.

    >>> sequencer = Sequencer(4)
    >>> sequencer.reserve(3), sequencer.last, sequencer.commit(), sequencer.last
    (5, 4, 7, 7)
    """

    def __new__(cls, last: int = 0) -> Sequencer: ...
    @property
    def last(self) -> int:
        """Last sequence known to be stored; a range in flight does not count."""

    def reserve(self, count: int) -> int:
        """Put the next `count` sequences in flight; returns the first, `last + 1`.

        Raises:
            ValueError: count is 0.
            RuntimeError: a range is in flight already.
            OverflowError: count is negative, or the last sequence would not fit 64 bits.
        """

    def commit(self) -> int:
        """The range in flight was stored; returns its last sequence.

        Raises:
            RuntimeError: nothing is in flight.
        """

    def rollback(self) -> None:
        """The range in flight was not stored: its sequences are the next to be reserved.

        No effect with nothing in flight: so it may follow `jump`.
        """

    def jump(self, last: int) -> None:
        """Another writer moved the stream to `last`; drops the range in flight.

        Raises:
            ValueError: `last` is below the known one: a stream never goes back.
            OverflowError: out of range.
        """

@final
class Window:
    """Sequences that a reader has seen: finds gaps and duplicates. Owned by one thread at a time.

    Args:
        after: sequence last seen, 0 for none.

    >>> window = Window(4)
    >>> window.offer(4, 6), window.offer(4, 6), window.offer(8, 9), window.last
    (1, -1, -2, 6)
    """

    def __new__(cls, after: int = 0) -> Window: ...
    @property
    def last(self) -> int:
        """Sequence last seen."""

    def offer(self, first: int, last: int) -> int:
        """Offer an entry of the sequences first..last.

        Returns:
            n >= 0: take it without its first n chunks; `last` is seen now.
            -1: drop it, all of it was seen.
            -2: read the log, there is a gap before it.

        Raises:
            ValueError: first is 0 or last is below first.
            OverflowError: out of range.
        """

@final
class Rollup:
    """Sums of usage entries by model, tool, sub-agent type and custom type, read from their raw JSON.

    The rule of what an entry adds is `read_entry` in `codec/plain/rollup.py`. Sums of integers are exact at any size;
    fractions are added with Neumaier's compensation. Owned by one thread at a time; a race may mix up sums, never
    corrupt memory.

    >>> rollup = Rollup()
    >>> rollup.add([b'{"kind":"tool","toolName":"search","durationMs":5}', b'{"kind":"tool","toolName":"search"}'])
    >>> rollup.entry_count, rollup.export()[4][1]["search"][0]
    (2, 2)
    """

    def __new__(cls) -> Rollup: ...
    @property
    def entry_count(self) -> int:
        """Entries counted."""

    @property
    def malformed_count(self) -> int:
        """Entries that were not counted: not a JSON object, no kind, negative or fractional tokens and the like."""

    def add(self, entries: list[bytes]) -> None:
        """Add entries, each one JSON object. TypeError: not a list, or not bytes; the entries before were added."""

    def add_strings(self, strings: StringArray, first: int = 0) -> None:
        """Add the entries of a reply, from an index on. TypeError: it is no StringArray."""

    def merge(self, other: Rollup) -> None:
        """Add the sums of another rollup, which does not change. TypeError: it is not a Rollup."""

    def copy(self) -> Rollup:
        """A rollup of its own with the same sums."""

    @staticmethod
    def restore(exported: object) -> Rollup:
        """The rollup that exported these sums, to the last bit; lists, which JSON makes of tuples, are accepted.

        Raises:
            TypeError, ValueError: no rollup of at most 2**32 entries can have exported them.
        """

    def export(self) -> tuple[Any, ...]:
        """The sums: (entry_count, malformed_count, first time or None, last time or None, sections, children).

        `sections` are five dicts by name: tokens by model, tools, sub-agents by type, custom by type, other kinds. A
        value is (count, seven integers, count of integer numbers, their sum, least and greatest or None, count of
        fractions, their sum, rest of rounding, least and greatest or None): of the costs of tokens, of durations, of
        custom values. The seven integers are prompt,
        completion, reasoning, cached, total, reasoning inside completion, cached inside prompt; of tools and
        sub-agents successes and failures, then zeros. `children` are the sessions of sub-agents, in order.
        """

def load_entry(data: bytes) -> dict[str, Any]:
    """The JSON object of one usage entry; lone surrogates in escapes, which JavaScript writes, are accepted.

    Raises:
        ValueError: not a JSON object with a string `kind`.
    """

def select_entries(
    entries: Sequence[bytes],
    kinds: Sequence[bytes] | None,
    steps: tuple[int | None, int | None],
    times: tuple[int | None, int | None],
    limit: int,
) -> list[bytes]:
    """The first `limit` usage entries that pass the filters, in their order: the same objects.

    Args:
        entries: each one JSON object; another value, or one without a kind, never passes.
        kinds: kinds that pass; None: all.
        steps: least and greatest `stepCount`, inclusive; None: open. An entry without one passes only (None, None).
        times: the same for `timestamp`.

    Raises:
        TypeError: an entry or a kind is not bytes.

    >>> select_entries([b'{"kind":"tool","timestamp":5}', b'{"kind":"tokens"}'], None, (None, None), (1, 9), 10)
    [b'{"kind":"tool","timestamp":5}']
    """

@final
class Outbox:
    """Requests that wait for the next write of a connection, and who gets their replies. Owned by one thread.

    >>> outbox = Outbox()
    >>> outbox.add(b"*1\\r\\n$4\\r\\nPING\\r\\n", print), outbox.size, outbox.requests
    (True, 14, 1)
    """

    frames: list[bytes]
    """The requests, or their pieces, in the order in which they were added."""
    slots: list[Callable[[Any], None] | None]
    """What is called with the reply to each; None drops it."""
    size: int
    """Bytes of the frames."""
    requests: int
    """Requests added so far; `clear` does not reset it."""
    ready: list[Any]
    """Appenders that the next write asks for their frames."""
    scheduled: bool
    """Set by the connection: its next write is scheduled."""

    def __new__(cls) -> Outbox: ...
    def add(self, frame: bytes | tuple[bytes, ...], slot: Callable[[Any], None] | None) -> bool:
        """Add a request; returns whether a write must be scheduled. TypeError: the frame is not bytes."""

    def take_ready(self) -> list[Any]:
        """The appenders that are ready; the list is empty afterwards."""

    def clear(self) -> None:
        """Drop all requests, after they were written or have failed."""

@final
class Write:
    """One awaited write of `count` chunks.

    Args:
        original: the argument of the call, by which a repeated call is recognised.
        count: chunks in it.
        future: gets the sequence of the last chunk.
        owner: the writer that was called.
    """

    owner: Any
    task: Any
    """The calling task, set when the write has failed."""
    original: Any
    future: Future[int]
    fresh: bool
    """Its writer has written nothing else since it failed."""
    count: int
    acked: int
    """Chunks that are stored."""
    lost: int
    """Chunks that were withdrawn unsent after a failure."""
    last: int
    """Sequence of the last stored chunk."""

    def __init__(self, original: object, count: int, future: Future[int], owner: object = None) -> None: ...
    def acknowledge(self, chunks: int, last: int) -> None:
        """Count `chunks` more as stored, the last of them at `last`; with all of them stored, the future gets it."""

    def fail(self, error: BaseException) -> None:
        """Raise the error in the caller, if it still waits."""

@final
class Batch:
    """A closed batch: its bytes never change.

    Args:
        body: newline separated chunks.
        count: their number.
        writes: as the property of this name.
        nonce: 8 characters that no other batch has.
        only: the write of a batch of one awaited chunk, in place of `writes`.
    """

    body: bytes
    nonce: bytes
    count: int
    only: Write | None
    several: list[tuple[Write, int, int]] | None
    first: int
    """Sequence of the first chunk, once it was sent."""
    sent: bool
    """It was sent at least once."""
    doubtful: bool
    """The reply to an attempt was lost."""

    def __init__(
        self,
        body: bytes,
        count: int,
        writes: list[tuple[Write, int, int]] | None,
        nonce: bytes,
        only: Write | None = None,
    ) -> None: ...
    @property
    def writes(self) -> list[tuple[Write, int, int]]:
        """(write, number of its chunks in this batch, index behind the last of them) of each awaited write."""

    @writes.setter
    def writes(self, writes: list[tuple[Write, int, int]]) -> None: ...
    def lines(self, *, awaited: bool) -> list[bytes]:
        """The chunks that belong to an awaited write, or those that belong to none."""

@disjoint_base
class FastAppend:
    """Fast path of an awaited chunk: with nothing buffered, one chunk is one XADD, published when it is acknowledged.

    A subclass has the rest, batching, retries and recovery, in the methods that are called here: `check_loop`,
    `check_open`, `put_many`, `replied`, `schedule` and `suspend`. Owned by one thread.

    Args:
        stream_id: the stream.
        topology: sends requests; `lane_for(stream_id)`, if there is one, takes all of them; `presence` knows the local
            subscribers.
        framer: makes the requests.
        terms: `current` is the number of the current term.
        buffer: the write buffer, with `sequence`, `open`, `batches`, `flushes`, `max_count` and `close_batch`.
        nonce: 4 characters that no other appender has; the nonces of its batches begin with them.
        max_length: chunks that the stream keeps, 0 for all.
        linger: seconds for which chunks are gathered; more than 0 disables the fast path.
        make_future: makes the future of an awaited write.
        call_soon: the event loop's.
        loop_closed: whether the event loop is closed.
    """

    stream_id: str
    topology: Any
    lane: Any
    terms: Any
    subscribers: RemoteSubscribers
    nonce: bytes
    open: BatchBuilder
    """The buffer's open batch."""
    sequence: Sequencer
    """The buffer's."""
    batches: deque[Batch]
    """The buffer's closed batches."""
    flushes: deque[Any]
    """The buffer's."""
    single: Batch | None
    """The batch in flight, as long as only the fast path knows it; `buffer` hands it over."""
    framer: AppendFramer
    state: int
    """A `codec.states.State`."""
    max_count: int
    max_length: int
    assisted_batches: int
    """Batches that still get their sequences from the server."""
    generation: int
    """Of the connection for which the end of the stream is known."""
    numbered: int
    """Nonces made."""
    trimmed: int
    trims: int
    failed: Any
    """The failed writes."""
    trouble: Any
    """Of the batch in flight, if any."""
    make_future: Callable[[], Any]
    call_soon: Callable[..., Any]
    loop_closed: Callable[[], bool]
    observed: Any
    linger: float
    silent: bool
    """A publication was skipped for lack of remote subscribers; a count has been requested."""

    def __init__(
        self,
        stream_id: str,
        topology: Any,
        framer: AppendFramer,
        terms: Any,
        buffer: Any,
        nonce: bytes,
        max_length: int,
        linger: float,
        make_future: Callable[[], Any],
        call_soon: Callable[..., Any],
        loop_closed: Callable[[], bool],
    ) -> None: ...
    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""

    @property
    def buffer(self) -> Any:
        """The write buffer, which has the batch in flight from now on."""

    def next_nonce(self) -> bytes:
        """8 characters that no other batch has. ValueError: `nonce` has not 4 characters."""

    def transmit(self, frame: bytes | tuple[bytes, ...]) -> None:
        """Send the request of the batch in flight; `__call__` gets the reply."""

    def enlist(self, delay: float) -> None:
        """Have the next batch sent on this turn of the event loop, or `delay` seconds from now."""

    def advance(self) -> None:
        """Nothing is in flight any more: go on with the next batch, if there is one."""

    def send_text(self, encoder: ChunkEncoder, delta: str, seconds: float) -> None:
        """Add a `text_delta` that is not awaited, with that Unix time; closes a full batch and schedules its sending.

        Raises:
            TypeError, UnicodeEncodeError: as `ChunkEncoder.encode_text`; nothing was added.
        """

    def put(self, chunk: bytes, original: object, owner: object) -> Write:
        """Add one awaited chunk: sent at once if nothing is buffered or in flight, else by `put_many`."""

    def announce(self, first: int, last: int, body: bytes) -> bool:
        """Hand a stored batch to local subscribers and publish it for remote ones; whether there are local ones."""

    def notify_catch_up(self) -> None:
        """Have the stream's subscribers read its log."""

    def __call__(self, reply: Any) -> None:
        """Take the reply to the batch in flight: acknowledge a batch of one awaited chunk, else call `replied`."""

@final
class RemoteSubscribers:
    """Whether a stream has subscribers in other processes, by the replies to its publications. Owned by one thread.

    Args:
        presence: the subscriptions of this process. `local`: channels by name, each with `counted`, whether the server
            counts it; `subscribe_epoch`: how often that became true; `counts_unreliable`: the counts mean nothing.
        channel: the stream's.
    """

    channel: bytes
    present: bool
    """There is one, as far as known."""
    pending: int
    """Publications whose replies are pending."""
    stale: int
    """Pending replies that are older than the last call of `assume_present`."""

    def __init__(self, presence: Any, channel: bytes) -> None: ...
    def assume_present(self) -> None:
        """A subscriber has arrived, or may have: ignore the counts in pending replies."""

    def exceeds_local(self, count: int) -> bool:
        """Whether that many subscriptions are more than this process's own."""

    def __call__(self, reply: Any) -> None:
        """Take the reply to a publication, the count of its receivers; an error changes nothing."""

@disjoint_base
class ChunkIterator:
    """Asynchronous iterator over a buffer. A subclass fills the buffer in `_take(decoded)`, with what
    `PushBuffer.next_pushed` returned, and in `_advance()`, a coroutine. Owned by one thread.

    A step takes its item when it is awaited, not before: a step that is dropped or cancelled unstarted takes nothing.
    """

    _items: list[Any]
    """The buffer."""
    _index: int
    """Index of the next item."""
    _error_at: int
    """Index of the first item that is an error, which is not yielded; their number where none is."""
    _pushes: Any
    """A PushBuffer, whose next push a step without an item waits for and takes; None: every such step advances."""
    _cursor: Any
    """Its `time_silence` starts the timer that ends a wait, where none runs."""
    _binding: Any
    _running_loop: Any
    """`loop` of the binding, and what this returns, must be the loop of the pushes; else a step advances."""
    _busy: bool
    """Somebody waits for the next item: another step advances."""

    def __aiter__(self) -> Any: ...
    def __anext__(self) -> Any:
        """The next item; awaits a push or `_advance` where none is left. RuntimeError: nor after that."""

@final
class StreamEntry:
    """One stored batch, as its subscribers get it. Shared by all readers of the stream in this process.

    Args:
        term, first: of its id. last: sequence of its last chunk.
        body: chunks, one a line.
    """

    term: int
    first: int
    last: int
    body: bytes
    readers: int
    """Readers that it was delivered to and that have not decoded it."""
    decoded: Any
    """What one of them decoded, for the others; the decoder decides what may be shared."""

    def __init__(self, term: int, first: int, last: int, body: bytes) -> None: ...

@disjoint_base
class PushBuffer:
    """The pushes that one reader has not taken yet, and whether they count. Owned by one thread.

    It holds the rule of catching up: *subscribe, read the log once more, then take the pushes that continue it*. That
    reading finds every entry that was pushed before it; later pushes are buffered here. Call `start` when the channel
    is joined, `begin_read` before each request to the log, `next_pushed` for the pushes, and `stop` at the end. A gap,
    another term, a lost subscription, an event, or more than 512 pushes or 1 MiB make the buffer `stale`: it holds no
    pushes until the log has been read again.
    """

    window: Window
    """The sequences seen."""
    entry_id: bytes
    """Id of the last entry seen, b"" for none."""
    decoder: Any
    """`decode(body, last, after)` makes the chunks of a push; `decode_shared`, with the same arguments, makes chunks
    that may be copied for other readers, or returns None."""
    live: bool
    """The channel is joined."""
    stale: bool
    """The log must be read before a push counts."""
    announce_on_read: bool
    """The next request to the log must announce this reader to the stream's writers."""
    loop: Any
    """The event loop of the reader."""
    waiter: Any
    """Future of a waiting reader."""
    since: float
    """When its wait began, on the loop's clock."""
    timed: bool
    """A timer runs that ends a wait."""
    pending: list[StreamEntry]
    """The pushes."""
    pending_bytes: int
    """Size of their bodies."""

    def start(self) -> None:
        """The channel was joined: buffer its pushes, which count when the log has been read once more."""

    def begin_read(self) -> bool:
        """The log is about to be read; pushes from now on may be newer. Returns whether to announce this reader."""

    def fail_read(self, announce: bool) -> None:
        """The request failed, and must be repeated; `begin_read` returned `announce` for it."""

    def stop(self) -> None:
        """Take no more pushes: the stream or its reader has ended."""

    def pushed(self, entry: StreamEntry | None) -> None:
        """Take a push and wake the reader; None: the log has something new. TypeError: it is neither."""

    def resync(self) -> None:
        """The channel was joined anew: messages may be missing, so announce the reader and have the log read."""

    def mark_stale(self) -> None:
        """Drop the pushes and have the log read."""

    def wait(self) -> Any:
        """A future that is done when anything happens; the wait for it begins."""

    def wake(self) -> None:
        """Wake the waiting reader."""

    def idle(self) -> bool:
        """Whether there is nothing to do but to wait for a push."""

    def next_pushed(self) -> Any:
        """The decoded chunks of the next push with something new; None for none."""

def push_entry(subscribers: list[Any], entry: StreamEntry | None) -> None:
    """Give an entry to the subscribers, a list of weak references; None has them read the log."""

def push_payload(subscribers: list[Any], payload: bytes) -> None:
    """The same with the entry of a published payload; None for a payload that is no entry."""

def deliver_messages(cutter: ReplyCutter, channels: dict[bytes, Any]) -> bytes | None:
    """Give the messages that were fed to the cutter to `receive` of their channels, up to a reply that is none.

    Returns:
        that reply, to be parsed; None: no whole reply is left.

    Raises:
        ValueError: no RESP2.
    """
