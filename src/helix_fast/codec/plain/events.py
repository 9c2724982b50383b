"""Stored lines as server-sent events, in plain Python: nothing is decoded and encoded again."""

from __future__ import annotations

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
