"""The codec in plain Python: the oracle of every codec test, and the fallback where nothing compiles.

Bytes in, values out. No redis, no asyncio, no clock, no I/O may enter here: sequence and time are arguments. Every
name, result and error type is that of `_codec.pyx`, and `_codec.pyi` is the contract of both.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, final

from .append import Batch, FastAppend, Outbox, Write  # noqa: F401
from .finite import check_finite  # noqa: F401  parts of the codec that stand apart
from .reader import Inbox, Items  # noqa: F401
from .rollup import Rollup, select_entries  # noqa: F401
from .subscribers import Listeners, count_frame, heard_elsewhere  # noqa: F401

U64_MAX = 18446744073709551615

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
_SHORT = {b'"': rb"\"", b"\\": rb"\\", b"\b": rb"\b", b"\f": rb"\f", b"\n": rb"\n", b"\r": rb"\r", b"\t": rb"\t"}
_LONG = {short: byte for byte, short in _SHORT.items()} | {rb"\/": b"/"}
_UNESCAPED = re.compile(rb"\\.")
_EXACT = re.compile(rb"0|[1-9][0-9]{0,15}")
_TEXT = re.compile(  # the last timestamp: an agent's id may look like one
    rb'\{"type":"text_delta","delta":"((?:[^\x00-\x1f"\\]|\\["\\/bfnrt])*)".*"timestamp":(0|[1-9][0-9]{0,15})\}',
    re.DOTALL,
)
# Canonical decimal only: what we did not write ourselves must not be read as ours.
_PUSH = re.compile(rb"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19}):(0|[1-9][0-9]{0,19})\n")


def _u64(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not 0 <= value <= U64_MAX:
        raise OverflowError(f"{name} is outside 0..{U64_MAX}")
    return int(value)


def _bytes(value: object, name: str) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return value


def _escape(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    return _ESCAPED.sub(lambda match: _SHORT.get(match[0]) or b"\\u%04x" % ord(match[0]), str.encode(text, "utf-8"))


def _bulk(*parts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@final
class ChunkEncoder:
    """Encodes one agent's `text_delta` chunks. Immutable; may be shared between threads."""

    __slots__ = ("_tail", "agent_id", "agent_type")

    def __init__(self, agent_id: str, agent_type: str | None = None) -> None:
        self.agent_id = agent_id
        self.agent_type = agent_type
        tail = b'","agentId":"' + _escape(agent_id, "agent_id")
        if agent_type is not None:
            tail += b'","agentType":"' + _escape(agent_type, "agent_type")
        self._tail = tail + b'","timestamp":'

    def encode_text(self, delta: str, timestamp: int) -> bytes:
        """One `text_delta` as one line of JSON; see the stub for the contract."""
        return b'{"type":"text_delta","delta":"%b%b%d}' % (
            _escape(delta, "delta"),
            self._tail,
            _u64(timestamp, "timestamp"),
        )


@final
class BatchBuilder:
    """Chunks being gathered for one entry, newline separated. Owned by one thread at a time."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def count(self) -> int:
        """Chunks gathered."""
        return len(self._chunks)

    @property
    def size(self) -> int:
        """Bytes of the body so far, separators included."""
        return self._size

    def add_text(self, encoder: ChunkEncoder, delta: str, timestamp: int) -> int:
        """Append one `text_delta`; the new size."""
        if type(encoder) is not ChunkEncoder:
            raise TypeError(f"encoder must be ChunkEncoder, not {type(encoder).__name__}")
        return self._append(encoder.encode_text(delta, timestamp))

    def add(self, chunk: bytes) -> int:
        """Append one encoded chunk; the new size."""
        _bytes(chunk, "chunk")
        if not chunk:
            raise ValueError("chunk is empty")
        if b"\n" in chunk:
            raise ValueError("chunk has a newline inside: it would be read as two")
        return self._append(chunk)

    def take(self) -> bytes:
        """The body; the batch is empty afterwards."""
        body = b"\n".join(self._chunks)
        self._chunks = []
        self._size = 0
        return body

    def _append(self, chunk: bytes) -> int:
        self._size += len(chunk) + (1 if self._chunks else 0)
        self._chunks.append(chunk)
        return self._size


@final
class AppendFramer:
    """RESP of one stream's appends. Immutable; may be shared between threads."""

    __slots__ = ("_head", "_publish_head", "_trim_head", "channel", "look")

    def __init__(self, key: bytes, channel: bytes, publish: bytes = b"PUBLISH") -> None:
        head = _bulk(b"XADD", _bytes(key, "key"), b"NOMKSTREAM")
        self._head = b"*10\r\n" + head
        self._trim_head = b"*13\r\n" + head + _bulk(b"MINID", b"=")
        self.channel = _bytes(channel, "channel")
        self._publish_head = b"*3\r\n" + _bulk(_bytes(publish, "publish"), channel)
        self.look = self._publish_head + _bulk(b"!")

    def xadd(self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None) -> bytes:
        """RESP of the append of one batch; see the stub for the contract."""
        term, first, count = _u64(term, "term"), _u64(first, "first"), _u64(count, "count")
        _bytes(body, "body")
        _bytes(nonce, "nonce")
        if min_id is not None:
            _bytes(min_id, "min_id")
        if first < 1 or count < 1:
            raise ValueError("first and count must be at least 1")
        last = first + count - 1
        if last > U64_MAX:
            raise OverflowError(f"the last sequence is above {U64_MAX}")
        head = self._head if min_id is None else self._trim_head + _bulk(min_id)
        return head + _bulk(b"%d-%d" % (term, first), b"chunk", body, b"sequence", b"%d" % last, b"writer", nonce)

    def publish(self, term: int, first: int, last: int, body: bytes) -> bytes:
        """RESP of the publication of one batch; see the stub for the contract."""
        return self._publish_head + _bulk(self.payload(term, first, last, body))

    def payload(self, term: int, first: int, last: int, body: bytes) -> bytes:
        """What ``publish`` publishes; see the stub for the contract."""
        term, first, last = _u64(term, "term"), _u64(first, "first"), _u64(last, "last")
        _bytes(body, "body")
        if last < first:
            raise ValueError("last is below first")
        return b"%d-%d:%d\n%b" % (term, first, last, body)


def frame_command(args: Sequence[bytes | str | int | float]) -> bytes:
    """Any command as RESP; see the stub for the contract."""
    if isinstance(args, (str, bytes)):
        raise TypeError(f"args must be a sequence of arguments, not {type(args).__name__}")
    parts = tuple(args)
    if not parts:
        raise ValueError("a command needs at least its name")
    return b"*%d\r\n" % len(parts) + _bulk(*map(_argument, parts))


def _argument(value: object) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        return str.encode(value, "utf-8")
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value).encode("ascii")
    if isinstance(value, float):
        return float.__repr__(value).encode("ascii")
    raise TypeError(f"a command argument must be bytes, str, int or float, not {type(value).__name__}")


def parse_push(payload: bytes) -> tuple[int, int, int, bytes]:
    """(term, first, last, body) of a published payload; see the stub for the contract."""
    found = _PUSH.match(_bytes(payload, "payload"))
    if found is None:
        raise ValueError("malformed push payload")
    term, first, last = map(int, found.groups())
    if term > U64_MAX or first > U64_MAX or last > U64_MAX or last < first:
        raise ValueError("malformed push payload")
    return term, first, last, payload[found.end() :]


def _wanted(body: bytes, last: int, after: int) -> tuple[int, bytes]:
    """(sequence of the first wanted line, the wanted lines still joined)."""
    _bytes(body, "body")
    last, after = _u64(last, "last"), _u64(after, "after")
    if not body:
        return last + 1, b""
    count = body.count(b"\n") + 1
    if count > last:
        raise ValueError(f"body has {count} lines, more than the sequences up to {last}")
    if after >= last:
        return last + 1, b""
    first = last - count + 1
    if after < first:
        return first, body
    return after + 1, body.split(b"\n", after - first + 1)[-1]


def split_lines(body: bytes, last: int, after: int) -> tuple[int, list[bytes]]:
    """The lines of a stored body after a sequence; see the stub for the contract."""
    first, wanted = _wanted(body, last, after)
    return first, wanted.split(b"\n") if first <= last and body else []


def join_lines(body: bytes, last: int, after: int) -> tuple[int, int, bytes]:
    """The same as one JSON array; see the stub for the contract."""
    first, wanted = _wanted(body, last, after)
    count = last - first + 1
    return first, count, b"[" + wanted.replace(b"\n", b",") + b"]"


def decode_texts(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, make: Callable[..., Any]
) -> tuple[int, list[Any], int]:
    """The lines of a body that this encoder wrote, as objects; see the stub for the contract."""
    if type(encoder) is not ChunkEncoder:
        raise TypeError(f"encoder must be ChunkEncoder, not {type(encoder).__name__}")
    typed = {} if encoder.agent_type is None else {"agent_type": encoder.agent_type}
    first, lines = split_lines(body, last, after)
    chunks: list[Any] = []
    for line in lines:
        found = _TEXT.fullmatch(line)
        chunk = None
        if found is not None and line[found.end(1) : found.start(2)] == encoder._tail:
            delta = _UNESCAPED.sub(lambda match: _LONG[match[0]], found[1])
            with contextlib.suppress(UnicodeDecodeError):
                chunk = make(delta=delta.decode(), agent_id=encoder.agent_id, timestamp=int(found[2]), **typed)
        chunks.append(chunk)
    return first, chunks, chunks.count(None)


def number_chunks(make: Any, chunks: object, first: int, epoch: object) -> list[Any]:
    """`[make((chunk, sequence, epoch)), ...]` for a subclass of tuple; see the stub for the contract."""
    first = _u64(first, "first")
    if not isinstance(chunks, list):
        raise TypeError(f"chunks must be a list, not {type(chunks).__name__}")
    if not isinstance(make, type) or not issubclass(make, tuple) or make.__dictoffset__:
        raise TypeError("make must be a subclass of tuple without attributes")
    if len(chunks) > U64_MAX - first:
        raise OverflowError(f"the last sequence is above {U64_MAX}")
    return [tuple.__new__(make, (chunk, sequence, epoch)) for sequence, chunk in enumerate(chunks, first)]


def merge_entries(entries: list[Any], last: int) -> tuple[int, int, bytes]:
    """The bodies of entries that follow one another, joined; see the stub for the contract."""
    last = _u64(last, "last")
    if not isinstance(entries, list):
        raise TypeError(f"entries must be a list, not {type(entries).__name__}")
    bodies: list[bytes] = []
    for entry in entries:
        if type(entry) is not list or len(entry) != 2 or type(entry[1]) is not list or len(entry[1]) != 6:
            break
        name, body, second, digits, third, _nonce = entry[1]
        if any(type(field) is not bytes for field in (name, body, second, digits, third)) or not body:
            break
        if (name, second, third) != (b"chunk", b"sequence", b"writer"):
            break
        if not _EXACT.fullmatch(digits) or int(digits) - last != body.count(b"\n") + 1:
            break
        bodies.append(body)
        last = int(digits)
    return len(bodies), last, b"\n".join(bodies)


@final
class Sequencer:
    """The next sequence of a stream, writer side: one range in flight at most. Owned by one thread at a time."""

    __slots__ = ("_flying", "_last")

    def __init__(self, last: int = 0) -> None:
        self._last = _u64(last, "last")
        self._flying = 0

    @property
    def last(self) -> int:
        """Last sequence known to be part of the stream."""
        return self._last

    def reserve(self, count: int) -> int:
        """First sequence of a new range in flight."""
        count = _u64(count, "count")
        if count < 1:
            raise ValueError("count must be at least 1")
        if self._flying:
            raise RuntimeError("a range is in flight already")
        if self._last + count > U64_MAX:
            raise OverflowError(f"the last sequence is above {U64_MAX}")
        self._flying = count
        return self._last + 1

    def commit(self) -> int:
        """The range in flight became part of the stream; its last sequence."""
        if not self._flying:
            raise RuntimeError("no range is in flight")
        self._last += self._flying
        self._flying = 0
        return self._last

    def rollback(self) -> None:
        """The range in flight did not become part of the stream."""
        self._flying = 0

    def jump(self, last: int) -> None:
        """Another writer moved the stream to `last`; drops what is in flight."""
        last = _u64(last, "last")
        if last < self._last:
            raise ValueError(f"a stream does not go back: {last} is below {self._last}")
        self._last = last
        self._flying = 0


@final
class Window:
    """What a reader has seen: contiguity, and dropping what was seen. Owned by one thread at a time."""

    __slots__ = ("_last",)

    def __init__(self, after: int = 0) -> None:
        self._last = _u64(after, "after")

    @property
    def last(self) -> int:
        """Sequence last seen."""
        return self._last

    def offer(self, first: int, last: int) -> int:
        """What to do with an entry of first..last; see the stub for the contract."""
        first, last = _range(first, last)
        if last <= self._last:
            return -1
        if first > self._last + 1:
            return -2
        seen = self._last - first + 1
        self._last = last
        return seen

    def overlaps(self, first: int, last: int) -> bool:
        """Whether first..last is partly seen, partly new."""
        first, last = _range(first, last)
        return first <= self._last < last


def _range(first: int, last: int) -> tuple[int, int]:
    first, last = _u64(first, "first"), _u64(last, "last")
    if first < 1 or last < first:
        raise ValueError("a range starts at 1 or later and does not end before it starts")
    return first, last
