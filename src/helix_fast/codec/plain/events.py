"""Stored lines as server-sent events, in plain Python: nothing is decoded and encoded again."""

from __future__ import annotations

import re

from .arguments import require_bytes, u64
from .decode import _TEXT
from .encode import ChunkEncoder
from .lines import split_lines


def frame_events(
    encoder: ChunkEncoder, body: bytes, last: int, after: int, prefix: bytes, limit: int
) -> tuple[int, list[bytes | int]]:
    """Events of the lines that this encoder wrote, and the sequences of other lines in their places."""
    if type(encoder) is not ChunkEncoder:
        raise TypeError(f"encoder must be ChunkEncoder, not {type(encoder).__name__}")
    require_bytes(prefix, "prefix")
    limit = u64(limit, "limit")
    first, lines = split_lines(body, last, after)
    parts: list[bytes | int] = []
    run = b""
    for sequence, line in enumerate(lines, first):
        if _is_text(encoder, line):
            run += b"id: %s%d\ndata: %s\n\n" % (prefix, sequence, line)
            if len(run) >= limit:
                parts.append(run)
                run = b""
            continue
        if run:
            parts.append(run)
            run = b""
        parts.append(sequence)
    return first, [*parts, run] if run else parts


def _is_text(encoder: ChunkEncoder, line: bytes) -> bool:
    found = _TEXT.fullmatch(line)
    if found is None or line[found.end(1) : found.start(2)] != encoder._tail:
        return False
    try:
        found[1].decode()
    except UnicodeDecodeError:
        return False
    return True


# The text of a line as our encoders write it: no escaped slash, which is not written that way again.
_DELTA = re.compile(rb'(?:[^\x00-\x1f"\\]|\\["\\bfnrt])+')
_STAMP = re.compile(rb"(?:0|[1-9][0-9]{0,15})\}")


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
    """Events of the leading lines of one form, each with the line's text between bytes of the caller."""
    named = {"line_head": line_head, "line_tail": line_tail, "head": head, "tail": tail}
    for name, value in (named | ({} if middle is None else {"middle": middle})).items():
        require_bytes(value, name)
    limit = u64(limit, "limit")
    if b"\n" in line_head + line_tail:
        raise ValueError("a line has no line break within")
    first, lines = split_lines(body, last, after)
    frames, count = b"", 0
    for line in lines:
        delta = _delta(line, line_head, line_tail)
        if delta is None:
            break
        if not join or not frames:
            frames += head if middle is None else b"%b%d%b" % (head, first + count, middle)
        frames += delta if join else delta + tail
        count += 1
        if len(frames) >= limit:
            break
    return first, count, frames + tail if join and frames else frames


def _delta(line: bytes, head: bytes, tail: bytes) -> bytes | None:
    found = _DELTA.match(line, len(head))
    if found is None or line[found.end() : found.end() + 1] != b'"':
        return None
    if not line.startswith(head) or not line.startswith(tail, found.end()):
        return None
    rest = line[found.end() + len(tail) :]
    if not (_STAMP.fullmatch(rest) if tail.endswith(b":") else rest == b"}"):
        return None
    try:
        found[0].decode()
    except UnicodeDecodeError:
        return None
    return found[0]
