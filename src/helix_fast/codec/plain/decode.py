"""Stored bytes to objects, in plain Python: `text_delta` lines, numbered chunks, pages of entries."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from .arguments import U64_MAX, u64
from .encode import SHORT_ESCAPES, ChunkEncoder
from .lines import split_lines

_LONG = {short: byte for byte, short in SHORT_ESCAPES.items()} | {rb"\/": b"/"}
_UNESCAPED = re.compile(rb"\\.")
_EXACT = re.compile(rb"0|[1-9][0-9]{0,15}")
_TEXT = re.compile(  # the last timestamp: an agent's id may look like one
    rb'\{"type":"text_delta","delta":"((?:[^\x00-\x1f"\\]|\\["\\/bfnrt])*)".*"timestamp":(0|[1-9][0-9]{0,15})\}',
    re.DOTALL,
)


def decode_texts(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, make: Callable[..., Any]
) -> tuple[int, list[Any], int]:
    """Objects for the lines that this encoder wrote, None for other lines."""
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


def number_chunks(make: Any, chunks: object, first: int, epoch: object, term: object) -> list[Any]:
    """`[make((chunk, sequence, epoch, term)), ...]` for a subclass of tuple."""
    first = u64(first, "first")
    if not isinstance(chunks, list):
        raise TypeError(f"chunks must be a list, not {type(chunks).__name__}")
    if not isinstance(make, type) or not issubclass(make, tuple) or make.__dictoffset__:
        raise TypeError("make must be a subclass of tuple without attributes")
    if len(chunks) > U64_MAX - first:
        raise OverflowError(f"the last sequence is above {U64_MAX}")
    return [tuple.__new__(make, (chunk, sequence, epoch, term)) for sequence, chunk in enumerate(chunks, first)]


def iterate_but_last(values: Any) -> Iterator[Any]:
    """An iterator over all items of a tuple but the last."""
    return iter(tuple.__getitem__(values, slice(-1)))


def merge_entries(entries: list[Any], last: int) -> tuple[int, int, bytes]:
    """Join the bodies of the first entries of a page, as far as they are consecutive."""
    last = u64(last, "last")
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
