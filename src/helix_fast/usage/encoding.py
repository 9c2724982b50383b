"""Usage entries, checked and encoded: wrong data is refused with MalformedEntryError, before it is sent."""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from helix_fast import codec
from helix_fast.arguments import snake_case, to_json
from helix_fast.errors import HelixError, MalformedEntryError
from helix_fast.keys import check_id

from .responses import FOREIGN_COUNTS
from .schema import (
    EXTRA,
    KNOWN_KINDS,
    PARTS,
    Part,
    SubAgentUsage,
    TokenCounts,
    UnknownUsage,
    Usage,
    UsageEntry,
    decode_entry,
    decode_known,
)

MAX_ENTRY_ID_BYTES: Final = 512
_FROM_RESPONSE: Final = "TokenUsage.from_response() makes an entry of what a provider has answered"


class EncodedEntry(NamedTuple):
    """An entry ready to be sent."""

    session_id: str
    id: str
    wire: bytes


def encode_entry(entry: UsageEntry | dict[str, Any], now: int, session_id: str | None = None) -> EncodedEntry:
    """Check an entry and encode it to JSON.

    A missing id is made, a missing timestamp of a known kind is ``now`` (Unix milliseconds), a missing session is
    ``session_id`` where that is given. A struct is not changed.

    Raises:
        MalformedEntryError: a wrong or missing field, NaN or Infinity, values that JSON does not have, or a session
            other than ``session_id``.
        InvalidIdError: a session id that cannot be one.
    """
    _refuse_foreign_counts(entry)
    if isinstance(entry, dict):
        _refuse_snake_case(entry)
    try:
        if isinstance(entry, Usage) and not _has_extra(entry):
            made = msgspec.structs.replace(
                entry,
                id=_new_id() if entry.id is None else entry.id,
                timestamp=now if entry.timestamp is None else entry.timestamp,
            )
            wire = to_json(made)
            # Structs are not checked when they are made. A value that changes in JSON may be NaN, which msgspec writes
            # as null.
            if decode_known(wire) != made:
                codec.check_finite(made)
            session, entry_id = made.session_id, _check_entry_id(made.id)
            if isinstance(made, SubAgentUsage):
                check_id(made.sub_session_id, "sub_session_id")
        else:
            fields = _complete(entry, now, session_id)
            wire = to_json(fields)
            # As a reader will see it: JSON changes some values (a Decimal).
            decode_entry(wire)
            session, entry_id = fields["sessionId"], fields["id"]
        session, entry_id = check_id(session, "sessionId"), str.__str__(entry_id)
    except HelixError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise MalformedEntryError(str(error)) from error
    if session_id is not None and session != session_id:
        raise MalformedEntryError(f"an entry of session {session!r} among those of {session_id!r}")
    return EncodedEntry(session, entry_id, wire)


def _refuse_foreign_counts(entry: object) -> None:
    """Counts by a provider's names would be kept, and count nothing."""
    fields = entry.data if isinstance(entry, UnknownUsage) else entry
    tokens: Any = fields.get("tokens") if isinstance(fields, dict) else getattr(fields, "tokens", None)
    if isinstance(tokens, TokenCounts):
        tokens = None if tokens.extra is UNSET else tokens.extra
    if tokens is None:
        return
    found = tokens if isinstance(tokens, dict) else [name for name in FOREIGN_COUNTS if hasattr(tokens, name)]
    foreign = sorted(FOREIGN_COUNTS.intersection(found))
    if foreign:
        raise MalformedEntryError(
            f"'tokens' counts by names of a provider: {', '.join(foreign)}",
            hint=f"prompt, completion, reasoning, cached and total are ours; {_FROM_RESPONSE}",
        )


def _refuse_snake_case(fields: dict[str, Any]) -> None:
    """A field by its name in Python would be kept as one that nobody knows, and count nothing."""
    parts = [(PARTS[name], fields.get(name)) for name in PARTS]
    for struct, part in [(KNOWN_KINDS.get(str(fields.get("kind"))), fields), *parts]:
        slip = snake_case(struct, part) if struct is not None and isinstance(part, dict) else None
        if slip is not None:
            raise MalformedEntryError(f"no field {slip[0]!r}", hint=f"a dict has names as in JSON: {slip[1]!r}")


def _new_id() -> str:
    return os.urandom(16).hex()


def _has_extra(entry: Usage) -> bool:
    if entry.extra is not UNSET:
        return True
    parts = (entry.source, getattr(entry, "tokens", None))
    return any(part is not None and getattr(part, "extra", None) is not UNSET for part in parts)


def _complete(entry: object, now: int, session_id: str | None) -> dict[str, Any]:
    """The entry's object in wire form with all that it needs, checked as far as JSON does not show it."""
    fields = _wire_fields(entry)
    kind = fields.get("kind")
    if not isinstance(kind, str):
        raise MalformedEntryError("'kind' is missing or no string", hint=_FROM_RESPONSE)
    if session_id is not None and fields.get("sessionId") is None:
        fields["sessionId"] = session_id
    if fields.get("id") is None:
        fields["id"] = _new_id()
    if kind in KNOWN_KINDS and fields.get("timestamp") is None:
        fields["timestamp"] = now
    codec.check_finite(fields)
    _check(kind, fields)
    return fields


def _check_entry_id(entry_id: object) -> str:
    if not isinstance(entry_id, str) or not 0 < len(entry_id.encode()) <= MAX_ENTRY_ID_BYTES:
        raise MalformedEntryError(f"'id' must be a str of 1 to {MAX_ENTRY_ID_BYTES} bytes")
    return entry_id


def _wire_fields(entry: object) -> dict[str, Any]:
    """The entry's object in wire form, as a new dict."""
    if isinstance(entry, UnknownUsage):
        entry = entry.data
    if isinstance(entry, dict):
        return dict(entry)
    if not isinstance(entry, Usage):
        raise MalformedEntryError(f"expected an entry or a dict, got {type(entry).__name__}", hint=_FROM_RESPONSE)
    fields = _without_extra(entry)
    for name in PARTS:
        part = getattr(entry, name, None)
        if isinstance(part, Part):
            fields[name] = _without_extra(part)
    return fields


def _without_extra(struct: Usage | Part) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(struct)
    extra = fields.pop(EXTRA, None)
    return fields if extra is None else {**fields, **{key: value for key, value in extra.items() if key not in fields}}


def _check(kind: str, fields: dict[str, Any]) -> None:
    _check_entry_id(fields["id"])
    session_id = fields.get("sessionId")
    if session_id is None:
        raise MalformedEntryError("'sessionId' is missing")
    check_id(session_id, "sessionId")
    if kind == "subagent" and isinstance(fields.get("subSessionId"), str):
        check_id(fields["subSessionId"], "subSessionId")
    if kind not in KNOWN_KINDS:
        for name in ("stepCount", "timestamp"):
            value = fields.get(name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**18:
                raise MalformedEntryError(f"an entry of unknown kind {kind!r} needs {name!r}, a whole number from 0")
