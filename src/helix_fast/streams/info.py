"""StreamInfo, made from the reply of the script ``stream_info``. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from helix_fast.clock import ms_from_iso
from helix_fast.errors import MalformedStreamError
from helix_fast.keys import StreamKeys

from .entries import chunk_fields, sequence_of, stored_text
from .schema import StreamInfo
from .sealed import sealed_entry


def read_info(stream_id: str, keys: StreamKeys, reply: list[Any]) -> StreamInfo:
    """The StreamInfo of a reply: meta hash, first entry, newest entries, lease in ms, time of the server in ms.

    Raises:
        MalformedStreamError: a field of the meta hash is not what this library would write.
    """
    meta, first, newest, lease, now = reply
    fields: dict[bytes, bytes] = dict(zip(meta[::2], meta[1::2], strict=False))

    def text(name: str) -> str | None:
        value = fields.get(name.encode())
        return None if value is None else stored_text(keys.meta, name, value)

    last = sequence_of(newest[0][1])
    first_sequence = max(1, _first_of(first[1]))
    updated = ms_from_iso(text("updatedAt") or "")
    for _entry, pairs in newest:
        stamp = timestamp_of(pairs)
        if stamp is not None:
            updated = max(updated or 0, stamp)
    return StreamInfo(
        stream_id=stream_id,
        status=text("status") or "active",
        epoch=text("epoch") or "",
        first_sequence=first_sequence,
        last_sequence=last,
        chunk_count=max(0, last - first_sequence + 1),
        output=_output(keys, fields.get(b"output")),
        error=fields[b"error"].decode(errors="replace") if b"error" in fields else None,
        stop_requested=fields.get(b"stop") == b"1",
        stop_reason=text("stopReason") or None,
        lease_expires_at=int(now) + lease if lease > 0 else None,
        created_at=ms_from_iso(text("createdAt") or ""),
        updated_at=updated,
    )


def _first_of(fields: list[bytes]) -> int:
    """Sequence of the first chunk in an entry, or of the next one after an entry without chunks."""
    sealed = sealed_entry(fields)
    if sealed is not None:
        return sealed.first
    body, last, foreign = chunk_fields(fields)
    lines = 0 if body is None else 1 if foreign else body.count(b"\n") + 1
    return last - lines + 1


def _output(keys: StreamKeys, value: bytes | None) -> Any:
    if not value:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedStreamError(keys.meta.decode(), f"output is no JSON: {error}") from error


def timestamp_of(fields: list[bytes]) -> int | None:
    """The timestamp of the last chunk in an entry; None if that is no chunk, or has none."""
    body, _sequence, foreign = chunk_fields(fields)
    if body is None:
        return None
    try:
        value = msgspec.json.decode(body if foreign else body.rpartition(b"\n")[2])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    stamp = value.get("timestamp") if isinstance(value, dict) else None
    return stamp if isinstance(stamp, int) and not isinstance(stamp, bool) else None
