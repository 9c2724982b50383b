"""Stored bodies, in plain Python: newline separated chunks, cut apart or joined to one JSON array."""

from __future__ import annotations

from .arguments import require_bytes, u64


def _wanted(body: bytes, last: int, after: int) -> tuple[int, bytes]:
    """(sequence of the first wanted line, the wanted lines still joined)."""
    require_bytes(body, "body")
    last, after = u64(last, "last"), u64(after, "after")
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
    """The chunks of a stored body after a sequence."""
    first, wanted = _wanted(body, last, after)
    return first, wanted.split(b"\n") if first <= last and body else []


def join_lines(body: bytes, last: int, after: int) -> tuple[int, int, bytes]:
    """The chunks of a stored body after a sequence, as one JSON array."""
    first, wanted = _wanted(body, last, after)
    count = last - first + 1
    return first, count, b"[" + wanted.replace(b"\n", b",") + b"]"
