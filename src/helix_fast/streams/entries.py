"""The fields of a stream entry, written by this library or by another store."""

from __future__ import annotations

from typing import Any

from helix_fast.arguments import MAX_EXACT


def chunk_fields(fields: list[bytes]) -> tuple[bytes | None, int, bool]:
    """(chunks or None, sequence of the last, whether a store of another kind wrote it) of an entry."""
    if fields[::2] == [b"chunk", b"sequence", b"writer"] and fields[3].isdigit() and len(fields[3]) < 17:
        return fields[1], int(fields[3]), False
    values: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        sequence = int(values.get(b"sequence", b"0"))
    except ValueError:
        sequence = 0
    if sequence > MAX_EXACT:
        sequence = 0  # out of range: the entry has no place among the others
    return values.get(b"chunk"), sequence, b"writer" not in values


def sequence_of(fields: list[bytes]) -> int:
    """Sequence of the last chunk in an entry, or before an entry without chunks; 0 if it has none."""
    return chunk_fields(fields)[1]
