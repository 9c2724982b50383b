"""AgentStateSchema: checks data that claims to be a state, as storing it would. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from helix_fast.arguments import MAX_EXACT, shown
from helix_fast.errors import HelixError, MalformedStateError
from helix_fast.keys import check_id

from .conversation import encode_messages
from .fields import Encoded
from .schema import AgentState, decode_json, from_wire, refuse_snake_case, to_wire

_FIELDS: Final = {*AgentState.__struct_encode_fields__, "extra"}
_PLACE: Final = re.compile(r"(?:state\.)?((\w+)[^\s:]*)")


class SafeParseResult(NamedTuple):
    """Outcome of ``safe_parse``: ``data`` where ``success``, else ``error``."""

    success: bool
    data: AgentState | None
    error: MalformedStateError | None


class AgentStateSchema:
    """Checks data that claims to be a state: the counterpart of the reference page's Zod schema."""

    @staticmethod
    def parse(data: Any) -> AgentState:
        """The state in ``data``: a dict in wire form, JSON text or bytes, or an AgentState. It can be stored as it is.

        Raises:
            MalformedStateError: it is none; names the field.
        """
        try:
            return _parse(data)
        except MalformedStateError:
            raise
        except HelixError as error:
            problem = f"{error}; {error.hint}" if error.hint else str(error)
            place = _PLACE.match(problem)  # what refuses a value for storing begins with where it is
            found = place[1] if place is not None and place[2] in _FIELDS else "$"
            raise MalformedStateError("state", found, problem) from error
        except Exception as error:  # whatever the methods of a foreign object raise
            raise MalformedStateError("state", "$", shown(error)) from error

    @classmethod
    def safe_parse(cls, data: Any) -> SafeParseResult:
        """As ``parse``, with the error in the result in place of an exception."""
        try:
            return SafeParseResult(True, cls.parse(data), None)
        except MalformedStateError as error:
            return SafeParseResult(False, None, error)


def _parse(data: Any) -> AgentState:
    if isinstance(data, AgentState):
        if not isinstance(data.extra, dict):
            raise MalformedStateError("state", "extra", f"is a {type(data.extra).__name__}, not a dict")
        return _checked(to_wire(data))
    if isinstance(data, (str, bytes, bytearray)):
        text = data.encode(errors="replace") if isinstance(data, str) else bytes(data)
        data = decode_json(text, "state", "$")
    refuse_snake_case(AgentState, data, "state")
    return _checked(data)


def _checked(data: Any) -> AgentState:
    state = from_wire(AgentState, data, "state")
    for name, value in (("stepCount", state.step_count), ("resumeCount", state.resume_count)):
        if not 0 <= value <= MAX_EXACT:
            raise MalformedStateError("state", name, f"{shown(value)} is not from 0 to {MAX_EXACT}")
    for name, word in (("sessionId", state.session_id), ("agentType", state.agent_type), ("status", state.status)):
        if not word:
            raise MalformedStateError("state", name, "is empty")
    for index, message in enumerate(state.messages):
        if not isinstance(message, Mapping):
            raise MalformedStateError("state", f"messages[{index}]", "is no object")
    check_id(state.session_id, "sessionId")
    Encoded(state)
    encode_messages(state.messages)
    return state
