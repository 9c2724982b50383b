"""RESP of appends, publications and commands, and the reading of published payloads, in plain Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from .arguments import U64_MAX, require_bytes, u64

# Canonical decimal only: what we did not write ourselves must not be read as ours.
_PUSH = re.compile(rb"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19}):(0|[1-9][0-9]{0,19})\n")


def _bulk(*parts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@final
class AppendFramer:
    """RESP of one stream's appends. Immutable; may be shared between threads."""

    __slots__ = ("_head", "_publish_head", "_trim_head", "catch_up_frame", "channel")

    def __init__(self, key: bytes, channel: bytes, publish: bytes = b"PUBLISH") -> None:
        head = _bulk(b"XADD", require_bytes(key, "key"), b"NOMKSTREAM")
        self._head = b"*10\r\n" + head
        self._trim_head = b"*13\r\n" + head + _bulk(b"MINID", b"=")
        self.channel: bytes = require_bytes(channel, "channel")
        self._publish_head = b"*3\r\n" + _bulk(require_bytes(publish, "publish"), channel)
        self.catch_up_frame: bytes = self._publish_head + _bulk(b"!")

    def xadd(self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None) -> bytes:
        """RESP of the `XADD` that appends one batch."""
        return b"".join(self.xadd_pieces(term, first, count, body, nonce, min_id))

    def xadd_pieces(
        self, term: int, first: int, count: int, body: bytes, nonce: bytes, min_id: bytes | None = None
    ) -> tuple[bytes, bytes, bytes]:
        """The same in pieces: what stands before the body, the body itself, and what stands behind it."""
        term, first, count = u64(term, "term"), u64(first, "first"), u64(count, "count")
        require_bytes(body, "body")
        require_bytes(nonce, "nonce")
        if min_id is not None:
            require_bytes(min_id, "min_id")
        if first < 1 or count < 1:
            raise ValueError("first and count must be at least 1")
        last = first + count - 1
        if last > U64_MAX:
            raise OverflowError(f"the last sequence is above {U64_MAX}")
        head = self._head if min_id is None else self._trim_head + _bulk(min_id)
        head += _bulk(b"%d-%d" % (term, first), b"chunk") + b"$%d\r\n" % len(body)
        return head, body, b"\r\n" + _bulk(b"sequence", b"%d" % last, b"writer", nonce)

    def publish(self, term: int, first: int, last: int, body: bytes) -> bytes:
        """RESP of the publication of one batch."""
        term, first, last = u64(term, "term"), u64(first, "first"), u64(last, "last")
        require_bytes(body, "body")
        if last < first:
            raise ValueError("last is below first")
        return self._publish_head + _bulk(b"%d-%d:%d\n%b" % (term, first, last, body))


def frame_command(args: Sequence[bytes | str | int | float]) -> bytes:
    """A command as RESP."""
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
    """(term, first, last, body) of a published payload."""
    found = _PUSH.match(require_bytes(payload, "payload"))
    if found is None:
        raise ValueError("malformed push payload")
    term, first, last = map(int, found.groups())
    if term > U64_MAX or first > U64_MAX or last > U64_MAX or last < first:
        raise ValueError("malformed push payload")
    return term, first, last, payload[found.end() :]
