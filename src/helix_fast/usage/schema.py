"""Usage entries, tagged by ``kind``, in the wire form of the reference page: JSON with camelCase keys.

Fields that a struct does not know are kept in ``extra`` and written back, in ``tokens`` and ``source`` too; a kind that
is not known becomes :class:`UnknownUsage`. Wrong data is refused here, with MalformedEntryError, before it is sent.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final, NamedTuple, TypeVar, Union, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from helix_fast import codec
from helix_fast.arguments import snake_case, to_json
from helix_fast.errors import HelixError, InvalidArgumentError, MalformedEntryError
from helix_fast.keys import check_id

from .responses import FOREIGN_COUNTS, read_response

MAX_ENTRY_ID_BYTES: Final = 512
# Wire name of `extra`: no entry has a field of this name, and it is never written.
_EXTRA: Final = "~helix_fast.extra"
_FROM_RESPONSE: Final = "TokenUsage.from_response() makes an entry of what a provider has answered"

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[int, Meta(ge=0, lt=10**18)]
Duration = Union[Annotated[int, Meta(ge=0)], Annotated[float, Meta(ge=0)]]  # noqa: UP007
Value = Union[int, float]  # noqa: UP007
Extra = Union[dict[str, Any], UnsetType]  # noqa: UP007


class _Part(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    extra: Extra = msgspec.field(default=UNSET, name=_EXTRA)


class TokenCounts(_Part):
    """Tokens of one model call, each a whole number from 0; None: not reported.

    ``reasoning`` is inside ``completion`` and ``cached`` (read from a cache) inside ``prompt``, as most providers
    report them, unless one does not fit in there or ``total`` has room for it beside prompt and completion. Without
    ``total``, prompt + completion counts, and what stands beside them.
    """

    prompt: Count | None = None
    completion: Count | None = None
    reasoning: Count | None = None
    cached: Count | None = None
    total: Count | None = None


class UsageSource(_Part):
    """Who spent it: ``type`` is ``agent``, ``tool`` or any other text."""

    type: str
    name: str | None = None


class Usage(
    msgspec.Struct, tag_field="kind", rename="camel", omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What every entry carries.

    Attributes:
        session_id: the session that spent it.
        id: makes the entry count once; made where it is None.
        run_id: the run within the session.
        step_count: the step, from 0.
        timestamp: Unix milliseconds; the time of recording where it is None.
        source: who spent it.
        extra: fields that this version does not know, by their wire names.
    """

    id: str | None = None
    session_id: str
    run_id: str | None = None
    step_count: Count = msgspec.field(default_factory=int)
    timestamp: Milliseconds | None = None
    source: UsageSource | None = None
    extra: Extra = msgspec.field(default=UNSET, name=_EXTRA)

    @property
    def kind(self) -> str:
        """The entry's ``kind`` on the wire."""
        return str(self.__struct_config__.tag)


class TokenUsage(Usage, tag="tokens"):
    """A call of a model."""

    model: str
    tokens: TokenCounts

    @classmethod
    def from_response(
        cls,
        response: object,
        *,
        session_id: str,
        run_id: str | None = None,
        step_count: int = 0,
        model: str | None = None,
        id: str | None = None,  # noqa: A002  the field's name
        timestamp: int | None = None,
        source: UsageSource | None = None,
    ) -> TokenUsage:
        """The entry for the response of a provider or a framework, which is recognised by its shape.

        Args:
            response: an object or dict of OpenAI (chat, Responses, Agents), Anthropic (the message, or the last
                ``message_delta``, whose counts are cumulative), Gemini, LangChain (AIMessage, LLMResult), pydantic-ai
                (response, run or usage) or LiteLLM; or the usage in one of them.
            session_id, run_id, step_count, timestamp, source: of the entry.
            model: needed where the response does not name it, as a usage alone.
            id: default: the response's own id, so that it counts once; made when recorded where it has none.

        Raises:
            InvalidArgumentError: no usage is found, or no model; the message says what was found.
        """
        found = read_response(response)
        named = model or found.model
        if named is None:
            raise InvalidArgumentError(f"{type(response).__name__} does not name the model", hint="give model=")
        return cls(
            id=found.id if id is None else id,
            session_id=session_id,
            run_id=run_id,
            step_count=step_count,
            timestamp=timestamp,
            source=source,
            model=named,
            tokens=msgspec.convert(found.counts, TokenCounts),
        )


class ToolUsage(Usage, tag="tool"):
    """A call of a tool. ``duration_ms`` is in milliseconds, from 0. Without ``success``: no ``error`` is one."""

    tool_name: str
    tool_call_id: str | None = None
    duration_ms: Duration | None = None
    success: bool | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.success is None:
            self.success = self.error is None


class SubAgentUsage(Usage, tag="subagent"):
    """A run of a sub-agent, whose own usage is recorded at its own session ``sub_session_id``."""

    sub_session_id: str
    agent_type: str | None = None
    duration_ms: Duration | None = None
    success: bool | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.success is None:
            self.success = self.error is None


class CustomUsage(Usage, tag="custom"):
    """Anything else that is measured: ``value``, any finite number, of a ``type``."""

    type: str
    value: Value
    unit: str | None = None
    metadata: dict[str, Any] | None = None


class UnknownUsage(msgspec.Struct, frozen=True):
    """An entry of a kind that this version does not know; ``data`` is the whole wire object, ``kind`` included.

    To be recorded it needs ``sessionId``, ``stepCount`` and ``timestamp``: what reading by them needs.
    """

    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """The entry's ``kind`` on the wire."""
        return cast("str", self.data["kind"])

    def __getattr__(self, name: str) -> Any:
        """Fields by their wire name or its snake_case form, where that is no name of this class."""
        if not name.startswith("__"):
            data = self.data
            head, *rest = name.split("_")
            camel = head + "".join(part.capitalize() for part in rest)
            for key in (name, camel):
                if key in data:
                    return data[key]
            if name in {"id", "session_id", "run_id", "step_count", "timestamp", "source"}:
                return None
        raise AttributeError(name)


KnownUsage = Union[TokenUsage, ToolUsage, SubAgentUsage, CustomUsage]  # noqa: UP007  read at run time on Python 3.10
UsageEntry = Union[KnownUsage, UnknownUsage]  # noqa: UP007
KNOWN_KINDS: Final[dict[str, type[Usage]]] = {
    str(struct.__struct_config__.tag): struct for struct in (TokenUsage, ToolUsage, SubAgentUsage, CustomUsage)
}

_PARTS: Final[dict[str, type[_Part]]] = {"tokens": TokenCounts, "source": UsageSource}
_decode_known = msgspec.json.Decoder(KnownUsage).decode
_AnyStruct = TypeVar("_AnyStruct", bound=msgspec.Struct)


class EncodedEntry(NamedTuple):
    """An entry ready to be sent."""

    session_id: str
    id: str
    wire: bytes


def _convert(fields: dict[str, Any], struct: type[_AnyStruct]) -> _AnyStruct:
    """A struct that keeps what it does not know, also in its parts."""
    names = {name for name in struct.__struct_encode_fields__ if name != _EXTRA} | {"kind"}
    known = {name: value for name, value in fields.items() if name in names}
    extra = {name: value for name, value in fields.items() if name not in names}
    for name, part in _PARTS.items():
        if name in names and isinstance(known.get(name), dict):
            known[name] = _convert(known[name], part)
    made = msgspec.convert(known, struct, from_attributes=True)
    for name in _PARTS:
        if isinstance(known.get(name), _Part):
            setattr(made, name, known[name])
    if extra:
        made.extra = extra  # type: ignore[attr-defined]
    return made


def decode_entry(data: bytes) -> UsageEntry:
    """Decode one stored entry.

    Raises:
        MalformedEntryError: no JSON object, no string ``kind``, or a known kind with missing or wrong fields.
    """
    try:
        return cast("UsageEntry", _decode_known(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        fields = codec.load_entry(data)
        return from_wire(fields)
    except ValueError as error:
        raise MalformedEntryError(f"{error}: {data[:200]!r}") from error


def from_wire(fields: dict[str, Any]) -> UsageEntry:
    """The entry for an object in wire form. ValueError where it is none."""
    struct = KNOWN_KINDS.get(fields["kind"])
    return UnknownUsage(fields) if struct is None else cast("UsageEntry", _convert(fields, struct))


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
            if _decode_known(wire) != made:
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
    parts = [(_PARTS[name], fields.get(name)) for name in _PARTS]
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
    for name in _PARTS:
        part = getattr(entry, name, None)
        if isinstance(part, _Part):
            fields[name] = _without_extra(part)
    return fields


def _without_extra(struct: Usage | _Part) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(struct)
    extra = fields.pop(_EXTRA, None)
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
