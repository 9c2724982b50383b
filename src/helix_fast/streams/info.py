"""StreamInfo, made from the reply of the script ``stream_info``. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from helix_fast.clock import ms_from_iso

from .entries import sequence_of
from .schema import StreamInfo


def read_info(stream_id: str, reply: list[Any]) -> StreamInfo:
    """The StreamInfo of a reply: meta hash, first entry, newest entries, lease in ms, time of the server in ms."""
    meta, first, newest, lease, now = reply
    fields = {name.decode(): value for name, value in zip(meta[::2], meta[1::2], strict=False)}
    last = sequence_of(newest[0][1])
    chunk_count = 0
    first_sequence = last + 1
    first_values = dict(zip(first[1][::2], first[1][1::2], strict=False))
    if first_values:
        end = sequence_of(first[1])
        body = first_values.get(b"chunk")
        lines = 0 if body is None else body.count(b"\n") + 1 if b"writer" in first_values else 1
        first_sequence = end - lines + 1
        chunk_count = last - first_sequence + 1
    created = ms_from_iso(fields["createdAt"].decode()) if "createdAt" in fields else None
    updated = ms_from_iso(fields["updatedAt"].decode()) if "updatedAt" in fields else None
    for _entry, pairs in newest:
        stamp = _timestamp(dict(zip(pairs[::2], pairs[1::2], strict=False)).get(b"chunk"))
        if stamp is not None:
            updated = max(updated or 0, stamp)
    error = fields.get("error")
    output = fields.get("output")
    return StreamInfo(
        stream_id=stream_id,
        status=fields.get("status", b"active").decode(),
        epoch=fields.get("epoch", b"").decode(),
        first_sequence=first_sequence,
        last_sequence=last,
        chunk_count=chunk_count,
        output=msgspec.json.decode(output) if output else None,
        error=None if error is None else error.decode(errors="replace"),
        stop_requested=fields.get("stop") == b"1",
        stop_reason=fields["stopReason"].decode() if fields.get("stopReason") else None,
        lease_expires_at=int(now) + lease if lease > 0 else None,
        created_at=created,
        updated_at=updated,
    )


def _timestamp(body: bytes | None) -> int | None:
    if body is None:
        return None
    try:
        value = msgspec.json.decode(body.rpartition(b"\n")[2])
    except msgspec.DecodeError:
        return None
    stamp = value.get("timestamp") if isinstance(value, dict) else None
    return stamp if isinstance(stamp, int) and not isinstance(stamp, bool) else None
