"""The schema of a state, and the structs in and out of their wire form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from helix_fast.errors import CheckpointStateError, InvalidArgumentError, MalformedStateError
from helix_fast.state.schema import (
    AgentState,
    Checkpoint,
    SubAgentRef,
    SubAgentRefUpdate,
    as_state,
    encode_json,
    from_wire,
    to_wire,
)
from helix_fast.state.validation import AgentStateSchema

WIRE: dict[str, Any] = {
    "sessionId": "s",
    "agentType": "a",
    "status": "running",
    "stepCount": 3,
    "resumeCount": 1,
    "customState": {"x": [], "n": 2**70},
    "messages": [{"role": "user", "content": "hi"}],
    "output": {"a": None},
    "error": None,
    "parentSessionId": "p",
    "subAgentRefs": [
        {
            "subSessionId": "q", "agentType": "w", "toolCallId": None, "status": "done", "result": [], "error": None,
            "newer": 1,
        }
    ],
    "metadata": {"m": 1},
    "version": 4,
    "createdAt": 5,
    "updatedAt": 6,
    "future": {"kept": True},
}  # fmt: skip


def test_wire_form_survives_the_round_trip() -> None:
    state = AgentStateSchema.parse(WIRE)
    assert state.step_count == 3
    assert state.extra == {"future": {"kept": True}}
    assert state.sub_agent_refs == [SubAgentRef("q", "w", None, "done", [], None, {"newer": 1})]
    assert to_wire(state) == WIRE
    assert AgentStateSchema.parse(to_wire(state)) == state
    assert AgentStateSchema.parse(state) == state


@pytest.mark.parametrize("form", [json.dumps(WIRE), json.dumps(WIRE).encode(), bytearray(json.dumps(WIRE).encode())])
def test_json_text_is_parsed_too(form: Any) -> None:
    assert AgentStateSchema.parse(form) == AgentStateSchema.parse(WIRE)


def test_only_session_and_agent_type_are_needed() -> None:
    state = AgentStateSchema.parse({"sessionId": "s", "agentType": "a"})
    assert state == AgentState("s", "a")
    assert (state.status, state.step_count, state.messages, state.version) == ("active", 0, [], 0)


BAD = [
    (None, "$"),
    (5, "$"),
    ([], "$"),
    ("", "$"),
    ("{", "$"),
    (b"\xff", "$"),
    ("[]", "$"),
    ("\ud800", "$"),
    ({}, "sessionId"),
    ({"sessionId": "s"}, "agentType"),
    ({**WIRE, "sessionId": 5}, "sessionId"),
    ({**WIRE, "sessionId": ""}, "sessionId"),
    ({**WIRE, "agentType": ""}, "agentType"),
    ({**WIRE, "agentType": None}, "agentType"),
    ({**WIRE, "status": ""}, "status"),
    ({**WIRE, "status": 1}, "status"),
    ({**WIRE, "stepCount": "3"}, "stepCount"),
    ({**WIRE, "stepCount": 1.5}, "stepCount"),
    ({**WIRE, "stepCount": True}, "stepCount"),
    ({**WIRE, "stepCount": -1}, "stepCount"),
    ({**WIRE, "resumeCount": 2**53}, "resumeCount"),
    ({**WIRE, "customState": []}, "customState"),
    ({**WIRE, "customState": None}, "customState"),
    ({**WIRE, "messages": {}}, "messages"),
    ({**WIRE, "messages": [{}, "x"]}, "messages[1]"),
    ({**WIRE, "error": 5}, "error"),
    ({**WIRE, "parentSessionId": 5}, "parentSessionId"),
    ({**WIRE, "subAgentRefs": {}}, "subAgentRefs"),
    ({**WIRE, "subAgentRefs": ["q"]}, "$"),
    ({**WIRE, "subAgentRefs": [{"subSessionId": "q"}]}, "agentType"),
    ({**WIRE, "subAgentRefs": [{"subSessionId": "q", "agentType": "w", "status": 5}]}, "status"),
    ({**WIRE, "metadata": [1]}, "metadata"),
    ({**WIRE, "createdAt": "2024"}, "createdAt"),
]


@pytest.mark.parametrize(("data", "field"), BAD, ids=range(len(BAD)))
def test_what_is_no_state_is_refused_and_the_field_named(data: Any, field: str) -> None:
    result = AgentStateSchema.safe_parse(data)
    assert (result.success, result.data) == (False, None)
    assert isinstance(result.error, MalformedStateError)
    assert (result.error.key, result.error.field) == ("state", field)
    with pytest.raises(MalformedStateError):
        AgentStateSchema.parse(data)


class Odd(dict[str, Any]):
    """A mapping whose methods do not work."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def deep(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"in": value}
    return value


def state_with(**fields: Any) -> AgentState:
    made = AgentState("s", "a")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


UNSAVABLE: list[tuple[Any, str]] = [
    ({**WIRE, "sessionId": "a{b"}, "sessionId"),
    ({**WIRE, "sessionId": "x" * 513}, "sessionId"),
    ({**WIRE, "sessionId": "\ud800"}, "sessionId"),
    ({**WIRE, "agentType": "\ud800"}, "agentType"),
    ({**WIRE, "status": "\ud800"}, "status"),
    ({**WIRE, "error": "\ud800"}, "error"),
    ({**WIRE, "parentSessionId": "\ud800"}, "parentSessionId"),
    ({**WIRE, "stepCount": "\ud800"}, "$"),
    ({**WIRE, "stepCount": 10**5000}, "stepCount"),
    ({**WIRE, "createdAt": "\ud800"}, "$"),
    ({**WIRE, "createdAt": -1}, "createdAt"),
    ({**WIRE, "customState": {"\ud800": 1}}, "customState"),
    ({**WIRE, "customState": {"k": {"a": "\ud800"}}}, "customState.k"),
    ({**WIRE, "customState": {1: 2}}, "$"),
    ({**WIRE, "customState": {"k": float("nan")}}, "customState.k"),
    ({**WIRE, "customState": deep(900)}, "customState.in"),
    ({**WIRE, "output": object()}, "output"),
    ({**WIRE, "metadata": {"a": {1}, "b": object()}}, "metadata"),
    ({**WIRE, "messages": [{}, {"a": float("inf")}]}, "messages[1]"),
    ({**WIRE, "future": float("nan")}, "extra"),
    ({"sessionId": "s", "agentType": "a", "custom_state": {}}, "$"),
    ({**WIRE, "subAgentRefs": [{"subSessionId": "q{", "agentType": "w"}]}, "$"),
    ({**WIRE, "subAgentRefs": [WIRE["subAgentRefs"][0]] * 2}, "$"),
    ({**WIRE, "\ud800": 1}, "extra"),
    (json.dumps({"sessionId": "s", "agentType": "a", "custom_state": {}}), "$"),
    (Odd(WIRE), "$"),
    (Odd, "$"),
    (AgentState, "$"),
    (state_with(extra=5), "extra"),
    (state_with(session_id=5), "sessionId"),
    (state_with(custom_state=5), "customState"),
    (state_with(messages=[deep(900)]), "messages[0]"),
    (state_with(sub_agent_refs=[Odd()]), "subSessionId"),
    (state_with(sub_agent_refs=5), "subAgentRefs"),
    (state_with(agent_type=deep(900)), "agentType"),
]


@pytest.mark.parametrize(("data", "field"), UNSAVABLE, ids=range(len(UNSAVABLE)))
async def test_what_can_never_be_saved_is_no_state(data: Any, field: str) -> None:
    result = AgentStateSchema.safe_parse(data)
    assert (result.success, result.data) == (False, None)
    assert isinstance(result.error, MalformedStateError)
    assert result.error.field == field, result.error


def test_a_name_in_snake_case_is_told_from_the_one_that_is_meant() -> None:
    result = AgentStateSchema.safe_parse({"sessionId": "s", "agentType": "a", "custom_state": {}})
    assert "'customState'" in str(result.error)
    state = state_with(extra={"custom_state": "of a foreign writer"})
    assert AgentStateSchema.parse(state) == state


def test_lone_surrogates_in_json_text_are_replaced() -> None:
    text = json.dumps({"sessionId": "s", "agentType": "a", "customState": {"k": "cut \ud83d", "\ude00": "🎉\\ud83d"}})
    assert AgentStateSchema.parse(text).custom_state == {"k": "cut \ufffd", "\ufffd": "🎉\\ud83d"}


def test_safe_parse_of_a_state_has_no_error() -> None:
    result = AgentStateSchema.safe_parse(WIRE)
    assert (result.success, result.error) == (True, None)
    assert result.data == AgentStateSchema.parse(WIRE)


def test_parsing_changes_nothing_of_what_was_given() -> None:
    data = json.loads(json.dumps(WIRE))
    state = AgentStateSchema.parse(data)
    state.custom_state["y"] = state.metadata["y"] = 1
    state.messages.append({})
    state.extra.clear()
    assert data == WIRE


def test_unknown_fields_do_not_hide_known_ones() -> None:
    state = AgentState("s", "a", extra={"status": "spoof", "other": 1})
    assert to_wire(state)["status"] == "active"
    assert to_wire(state)["other"] == 1


def test_an_update_leaves_out_what_it_does_not_name() -> None:
    assert to_wire(SubAgentRefUpdate("q", error=None)) == {"subSessionId": "q", "error": None}
    update = from_wire(SubAgentRefUpdate, {"subSessionId": "q", "new": 1}, "update")
    assert (update.status, update.extra) == (msgspec.UNSET, {"new": 1})


def test_a_dict_may_leave_the_session_out_but_not_name_another() -> None:
    assert as_state({"agentType": "a"}, "s").session_id == "s"
    with pytest.raises(InvalidArgumentError):
        as_state({"agentType": "a", "sessionId": "t"}, "s")


def test_a_checkpoint_without_its_state_says_how_to_get_it() -> None:
    made = Checkpoint("c", "s", 1, 1, 0, "active", 0, 1)
    with pytest.raises(CheckpointStateError) as caught:
        _ = made.state
    assert "get_checkpoint" in caught.value.hint
    made.loaded_state = AgentState("s", "a")
    assert made.state is made.loaded_state


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, "\ud800", object(), {"a": [float("inf")]}])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="given"):
        encode_json(value, "given")
