"""Fields: structs of sessions as the words that scripts take, store and return, and back. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError, MalformedStateError
from helix_fast.keys import check_id

from .conversation import decode_messages
from .log import UNKNOWN_DIGEST, Log
from .schema import (
    AgentState,
    SessionRun,
    SubAgentRef,
    as_sub_agent_ref,
    decode_json,
    encode_json,
    encode_text,
    from_wire,
    to_wire,
)

_TEXT_FIELDS: Final = ("error", "parentSessionId")


class Encoded:
    """A state without its messages, as the words of ``state_save``."""

    __slots__ = ("custom", "fields", "subagents")

    def __init__(self, state: AgentState) -> None:
        fields: list[bytes] = [b"sessionId", state.session_id.encode()]
        fields += [b"agentType", encode_text(state.agent_type, "state.agentType")]
        fields += [b"status", encode_text(state.status, "state.status")]
        fields += [b"stepCount", b"%d" % arguments.integer(state.step_count, "state.stepCount")]
        fields += [b"resumeCount", b"%d" % arguments.integer(state.resume_count, "state.resumeCount")]
        if state.created_at is not None:
            fields += [b"createdAt", b"%d" % arguments.integer(state.created_at, "state.createdAt")]
        for wire, text in zip(_TEXT_FIELDS, (state.error, state.parent_session_id), strict=True):
            if text is not None:
                # an empty text is stored as such
                fields += [wire.encode(), encode_text(text, f"state.{wire}") if text else b""]
        for wire, value in (("output", state.output), ("metadata", state.metadata), ("extra", state.extra)):
            if value or (wire == "output" and value is not None):
                fields += [wire.encode(), encode_json(value, f"state.{wire}")]
        self.fields: list[bytes] = fields
        self.custom: list[bytes] = encode_object(state.custom_state, "state.customState")
        self.subagents: list[bytes] = encode_refs(state.sub_agent_refs)


def encode_object(value: Any, what: str) -> list[bytes]:
    """An object as name, JSON, name, JSON, ...; InvalidArgumentError for anything else."""
    words = []
    try:
        for name, member in value.items():
            words += [name.encode(), encode_json(member, f"{what}.{name}")]
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidArgumentError(f"{what}: expected an object with names that are str: {error}") from error
    return words


def encode_refs(refs: Any) -> list[bytes]:
    """References as session of the sub-agent, JSON, ...; InvalidArgumentError for anything else, or a session twice."""
    if not isinstance(refs, (list, tuple)):
        raise InvalidArgumentError(f"sub-agent refs must be a list, not {type(refs).__name__}")
    words: list[bytes] = []
    names = set()
    for ref in refs:
        try:
            checked = as_sub_agent_ref(ref, "sub-agent ref")
        except MalformedStateError as error:
            raise InvalidArgumentError(str(error)) from error
        words += [check_id(checked.sub_session_id, "sub_session_id").encode(), encode_ref(checked)]
        if checked.sub_session_id in names:
            raise InvalidArgumentError(f"two refs to sub-agent {checked.sub_session_id!r}")
        names.add(checked.sub_session_id)
    return words


def encode_ref(ref: SubAgentRef) -> bytes:
    """One reference as JSON, without its ordinal, which the scripts add."""
    wire = to_wire(ref)
    wire.pop("ordinal", None)
    return encode_json(wire, "sub-agent ref")


def decode_ref(data: bytes, key: str) -> tuple[int, SubAgentRef]:
    """A stored reference with its ordinal."""
    wire = decode_json(data, key, "subagents")
    ordinal = wire.pop("ordinal", 0) if isinstance(wire, dict) else 0
    return ordinal if isinstance(ordinal, int) else 0, from_wire(SubAgentRef, wire, key)


def decode_refs(stored: Iterable[bytes], key: str) -> list[SubAgentRef]:
    """Stored references, in the order in which they were added."""
    return [ref for _, ref in sorted((decode_ref(data, key) for data in stored), key=lambda pair: pair[0])]


# --- from the scripts ------------------------------------------------------------------------------------------------


def pairs(words: Sequence[bytes]) -> dict[bytes, bytes]:
    """The dict of name, value, name, value, ..."""
    return dict(zip(words[::2], words[1::2], strict=True))


class _Fields:
    def __init__(self, words: Sequence[bytes], key: str) -> None:
        self.key = key
        self.stored = pairs(words)

    def text(self, name: str) -> str | None:
        data = self.stored.get(name.encode())
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise MalformedStateError(self.key, name, str(error)) from error

    def required(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise MalformedStateError(self.key, name, "is missing or empty")
        return text

    def number(self, name: str) -> int:
        data = self.stored.get(name.encode())
        if data is None or not data.isdigit() or len(data) > 16:
            raise MalformedStateError(self.key, name, f"{data!r} is no count")
        return int(data)

    def object(self, name: str) -> dict[str, Any]:
        value = decode_json(self.stored.get(name.encode(), b"{}"), self.key, name)
        if not isinstance(value, dict):
            raise MalformedStateError(self.key, name, "is no object")
        return value


async def decode_state(
    key: bytes,
    session: Sequence[bytes],
    custom: Sequence[bytes],
    subagents: Sequence[bytes],
    messages: Sequence[bytes],
    message_count: int | None = None,
) -> tuple[AgentState, Log]:
    """A state from the reply of a script, and the log of its conversation.

    Args:
        message_count: the number of messages that the state must have; None: the session's own count.

    Raises:
        MalformedStateError: a field is missing, of a wrong type, or no JSON. The error names key and field.
    """
    name = key.decode()
    fields = _Fields(session, name)
    if message_count is None:
        message_count = fields.number("messageCount")
    if len(messages) != message_count:
        raise MalformedStateError(f"{name}:messages", "messages", f"{len(messages)} stored, {message_count} counted")
    stored = fields.stored
    text = hashlib.sha1(usedforsecurity=False)
    state = AgentState(
        session_id=fields.required("sessionId"),
        agent_type=fields.required("agentType"),
        status=fields.required("status"),
        step_count=fields.number("stepCount"),
        resume_count=fields.number("resumeCount"),
        custom_state=decode_custom(custom, name),
        messages=await decode_messages(messages, f"{name}:messages", text),
        output=decode_json(stored[b"output"], name, "output") if b"output" in stored else None,
        error=fields.text("error"),
        parent_session_id=fields.text("parentSessionId"),
        sub_agent_refs=decode_refs(pairs(subagents).values(), f"{name}:subagents"),
        metadata=fields.object("metadata"),
        version=fields.number("version"),
        created_at=fields.number("createdAt"),
        updated_at=fields.number("updatedAt"),
        run=decode_run(stored.get(b"run"), name),
        extra=fields.object("extra"),
    )
    if f"{{{state.session_id}}}" not in name:
        raise MalformedStateError(name, "sessionId", f"is that of another session, {state.session_id!r}")
    digest = fields.text("messageDigest") or (UNKNOWN_DIGEST if message_count else "")
    return state, Log(message_count, digest, text)


def decode_run(data: bytes | None, key: str) -> SessionRun | None:
    """The stored field ``run`` of a session."""
    return from_wire(SessionRun, decode_json(data, key, "run"), f"{key}: run") if data else None


def decode_custom(words: Sequence[bytes], key: str) -> dict[str, Any]:
    """The custom state from name, JSON, name, JSON, ..."""
    custom = {}
    for data, value in pairs(words).items():
        try:
            field = data.decode()
        except UnicodeDecodeError as error:
            raise MalformedStateError(f"{key}:custom", repr(data), str(error)) from error
        custom[field] = decode_json(value, f"{key}:custom", field)
    return custom


def without_thinking(message: dict[str, Any]) -> dict[str, Any]:
    """A message without the model's reasoning: without ``thinking``, ``reasoning`` and such parts of its content."""
    message = {name: value for name, value in message.items() if name not in {"thinking", "reasoning"}}
    content = message.get("content")
    if isinstance(content, list):
        kinds = {"thinking", "redacted_thinking", "reasoning"}
        message["content"] = [part for part in content if not (isinstance(part, dict) and part.get("type") in kinds)]
    return message
