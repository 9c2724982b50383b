"""Structs of sessions, in the wire form of the reference page: camelCase keys, unknown fields kept in ``extra``.

Given values are refused here before anything is sent; stored ones that are no valid state are refused whole.
JSON knows fewer types than Python: bytes are written as base64 text, dates and UUIDs as text, tuples and sets as
arrays, structs and dataclasses as objects; they come back as what JSON made of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from helix_fast import codec
from helix_fast.arguments import reason, shown, snake_case, to_json, without_lone_surrogates
from helix_fast.errors import CheckpointStateError, HelixError, InvalidArgumentError, MalformedStateError

S = TypeVar("S", bound=msgspec.Struct)

_EXTRA: Final = "~helix_fast.extra"  # wire name of `extra`: never a field of anybody's state, and never written
STATUSES: Final = ("running", "completed", "failed", "interrupted", "paused", "active")


class SubAgentRef(msgspec.Struct, rename="camel"):
    """A sub-agent that the session has started. ``extra`` holds fields that this version does not know."""

    sub_session_id: str
    agent_type: str
    tool_call_id: str | None = None
    status: str = "running"
    result: Any = None
    error: str | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict, name=_EXTRA)


class SubAgentRefUpdate(msgspec.Struct, rename="camel"):
    """What changes in the reference to sub-agent ``sub_session_id``; fields that are not given stay as they are."""

    sub_session_id: str
    agent_type: str | UnsetType = UNSET
    tool_call_id: str | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    result: Any = UNSET
    error: str | UnsetType | None = UNSET
    extra: dict[str, Any] = msgspec.field(default_factory=dict, name=_EXTRA)


class SessionRun(msgspec.Struct, rename="camel"):
    """The run that a session is in, or its last one.

    Attributes:
        id: of the run.
        stream_id: the stream that it writes, or wrote; None: it has none.
        phase: ``"running"``, or the status with which it ended (``completed``, ``failed``, ``interrupted``…).
        checkpoint_id: the checkpoint that its end has made; None while it runs.
    """

    id: str
    stream_id: str | None = None
    phase: str = "running"
    checkpoint_id: str | None = None


class AgentState(msgspec.Struct, rename="camel"):
    """Everything that is known of one session.

    Attributes:
        status: one of ``STATUSES`` or any other non-empty string.
        step_count, resume_count: from 0.
        custom_state: the application's own state, a JSON object.
        messages: the conversation, JSON objects, oldest first.
        output: what the agent gave in the end; ``error`` why it failed.
        version: grows with every write; 0 in a state that was never stored.
        created_at, updated_at: Unix milliseconds of the server; None in a state that was never stored.
        run: the current or last run, set by ``begin_run`` and ``finish_run`` alone; None: there was none.
        extra: fields that this version does not know, by their wire names.
    """

    session_id: str
    agent_type: str
    status: str = "active"
    step_count: int = 0
    resume_count: int = 0
    custom_state: dict[str, Any] = msgspec.field(default_factory=dict)
    messages: list[Any] = msgspec.field(default_factory=list)
    output: Any = None
    error: str | None = None
    parent_session_id: str | None = None
    sub_agent_refs: list[SubAgentRef] = msgspec.field(default_factory=list)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    version: int = 0
    created_at: int | None = None
    updated_at: int | None = None
    run: SessionRun | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict, name=_EXTRA)

    def to_dict(self) -> dict[str, Any]:
        """The state in wire form: names as in JSON, sub-agent refs as dicts, ``extra`` spread out.

        It shares the values. ``save_state`` and ``AgentStateSchema.parse`` take it.

        >>> AgentState("s", "assistant", step_count=2).to_dict()["stepCount"]
        2
        """
        return to_wire(self)


class MergeChanges(msgspec.Struct, rename="camel"):
    """Changes to the top level of the custom state.

    Attributes:
        values: arrays extend the stored array, everything else is set.
        array_replacements: names in ``values`` whose arrays replace the stored one.
        deletes: names that are removed first.
    """

    values: dict[str, Any] = msgspec.field(default_factory=dict)
    array_replacements: Sequence[str] = ()
    deletes: Sequence[str] = ()


class StagedChanges(msgspec.Struct, rename="camel"):
    """What one tool call of a step wants to change.

    Attributes:
        patches: RFC 6902 operations on the custom state; applied only where ``merge_changes`` is None.
        merge_changes: the authoritative delta, as ``MergeChanges.values``.
        timestamp: Unix milliseconds; orders the changes of a step.
        array_replacements, deletes: as in MergeChanges.
    """

    tool_call_id: str
    patches: list[dict[str, Any]] = msgspec.field(default_factory=list)
    merge_changes: dict[str, Any] | None = None
    timestamp: int = 0
    array_replacements: Sequence[str] = ()
    deletes: Sequence[str] = ()


class Checkpoint(msgspec.Struct, rename="camel"):
    """A point of a session to which it can return.

    Attributes:
        id: ``cpv1-{sessionId}-s{stepCount}-t{ms}-{6 hex}``.
        ordinal: grows with every checkpoint of the session.
        version: of the state that it holds.
        message_count: messages of the conversation by then.
        created_at: Unix milliseconds of the server.
        run_id: the run whose end it is; None: it was made by ``create_checkpoint``.
    """

    id: str
    session_id: str
    ordinal: int
    version: int
    step_count: int
    status: str
    message_count: int
    created_at: int
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    run_id: str | None = None
    loaded_state: AgentState | None = msgspec.field(default=None, name="~helix_fast.state")

    @property
    def state(self) -> AgentState:
        """The full state as it was, messages included.

        Raises:
            CheckpointStateError: this checkpoint was listed or created, not loaded by ``get_checkpoint``.
        """
        if self.loaded_state is None:
            raise CheckpointStateError(self.id)
        return self.loaded_state


class MessagePage(NamedTuple):
    """Some messages of a session, with the number of all of them and whether more follow."""

    messages: list[Any]
    total: int
    has_more: bool


class CheckpointPage(NamedTuple):
    """Some checkpoints, newest first; ``cursor`` continues after them, None at the end."""

    items: list[Checkpoint]
    cursor: str | None
    has_more: bool
    total: int


class MergeResult(NamedTuple):
    """The version that a merge made, and what is worth knowing about it."""

    version: int
    warnings: list[str]


class BegunRun(NamedTuple):
    """What ``begin_run`` found: whether the run is under way (False: it had ended before), and the session's state."""

    begun: bool
    state: AgentState


class PromoteResult(NamedTuple):
    """How many staged changes were applied (0: there were none, nothing was done), the version, and warnings."""

    applied: int
    version: int
    warnings: list[str]


# --- JSON ------------------------------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder().decode


def encode_json(value: Any, what: str) -> bytes:
    """One line of JSON.

    Raises:
        InvalidArgumentError: ``what`` holds something that JSON does not have: NaN, a key that is no str, a lone
            surrogate, a cycle, an object of a foreign type.
    """
    try:
        codec.check_finite(value)
        return to_json(value)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidArgumentError(f"{what}: {reason(value, error)}") from error


def decode_json(data: bytes, key: str, field: str) -> Any:
    """A stored JSON value; MalformedStateError names ``key`` and ``field`` where it is none."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        whole = without_lone_surrogates(data)
        if whole is not None:
            return decode_json(whole, key, field)
        raise MalformedStateError(key, field, str(error)) from error


def encode_text(value: Any, what: str) -> bytes:
    """A non-empty str as UTF-8; InvalidArgumentError names ``what``."""
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(f"{what} must be a non-empty str, not {shown(value)}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what}: {error}") from error


# --- wire form -------------------------------------------------------------------------------------------------------


def from_wire(struct: type[S], data: Any, what: str) -> S:
    """A struct from its wire form; unknown fields go into ``extra`` where the struct has one.

    Raises:
        MalformedStateError: not an object, or a field is missing or of the wrong type; names ``what`` and the field.
    """
    if not isinstance(data, Mapping):
        raise MalformedStateError(what, "$", f"expected an object, got {type(data).__name__}")
    names = struct.__struct_encode_fields__
    known = {name: data[name] for name in names if name in data and not name.startswith("~")}
    if _EXTRA in names:
        extra = {name: value for name, value in data.items() if name not in known}
        if extra:
            known[_EXTRA] = extra
    try:
        if struct is AgentState and isinstance(known.get("subAgentRefs"), (list, tuple)):
            refs = known.pop("subAgentRefs")
            state = msgspec.convert(known, AgentState)
            state.sub_agent_refs = [as_sub_agent_ref(ref, what) for ref in refs]
            return cast("S", state)
        return msgspec.convert(known, struct)
    except HelixError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, AttributeError) as error:
        problem, _, place = str(error).partition(" - at `$.")
        missing = problem.partition("missing required field `")[2].rstrip("`")
        raise MalformedStateError(what, place.rstrip("`") or missing or "$", problem) from error


def refuse_snake_case(struct: type[msgspec.Struct], data: Any, what: str) -> None:
    """Raise InvalidArgumentError if a caller's dict has a field by its name in Python."""
    slip = snake_case(struct, data) if isinstance(data, Mapping) else None
    if slip is not None:
        raise InvalidArgumentError(f"{what}: no field {slip[0]!r}", hint=f"a dict has names as in JSON: {slip[1]!r}")


def to_wire(value: msgspec.Struct) -> dict[str, Any]:
    """The wire form of a struct, ``extra`` spread out. Fields that are UNSET are left out."""
    data = {}
    for name, wire in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        member = getattr(value, name)
        if not wire.startswith("~") and member is not UNSET:
            data[wire] = member
    extra = getattr(value, "extra", {})
    if not isinstance(extra, dict):
        raise InvalidArgumentError(f"extra must be a dict, not {type(extra).__name__}")
    for name, member in extra.items():
        data.setdefault(name, member)
    if isinstance(value, AgentState) and (value.run is None or isinstance(value.run, SessionRun)):
        del data["run"]  # not in the wire form of a session without runs
        if value.run is not None:
            data["run"] = to_wire(value.run)
    refs = data.get("subAgentRefs")
    if isinstance(value, AgentState) and isinstance(refs, (list, tuple)):
        data["subAgentRefs"] = [to_wire(ref) if isinstance(ref, SubAgentRef) else ref for ref in refs]
    return data


def as_sub_agent_ref(value: Any, what: str) -> SubAgentRef:
    """A caller's reference from our struct or its wire form, checked."""
    refuse_snake_case(SubAgentRef, value, what)
    wire = to_wire(value) if isinstance(value, SubAgentRef) else value
    return from_wire(SubAgentRef, wire, what)


def as_state(value: AgentState | Mapping[str, Any], session_id: str) -> AgentState:
    """A state that a caller gave, checked; a dict in wire form may leave ``sessionId`` out.

    Raises:
        InvalidArgumentError: it is no valid state, or the state of another session.
    """
    if isinstance(value, AgentState):
        # everything but the conversation and the custom state, which are checked while they are encoded
        probe = to_wire(value)
        for name, member, kind in (
            ("messages", value.messages, (list, tuple)),
            ("customState", value.custom_state, Mapping),
            ("metadata", value.metadata, Mapping),
        ):
            if not isinstance(member, kind):
                raise InvalidArgumentError(f"state.{name} must not be of type {type(member).__name__}")
        probe.update(messages=[], customState={}, output=None, metadata={})
        for name in value.extra:
            probe.pop(name, None)
        state = value
    else:
        if not isinstance(value, Mapping):
            raise InvalidArgumentError(f"a state is an AgentState or a dict, not {type(value).__name__}")
        refuse_snake_case(AgentState, value, "state")
        probe = {"sessionId": session_id, **value}
    try:
        checked = from_wire(AgentState, probe, "state")
    except MalformedStateError as error:
        raise InvalidArgumentError(str(error)) from error
    if not isinstance(value, AgentState):
        state = checked
    if checked.session_id != session_id:
        raise InvalidArgumentError(f"this is the state of session {checked.session_id!r}, not of {session_id!r}")
    return state
