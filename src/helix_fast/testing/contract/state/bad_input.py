"""What cannot be right is refused before a byte is sent, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import HelixError, InvalidArgumentError, InvalidIdError, PatchError
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef

NAN = float("nan")
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"in": value}
    return value


DEEP: Any = nested(900)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


UNSHOWABLE: Any = Unshowable()


def name_of(value: Any) -> str:
    """The value as the id of a test."""
    try:
        return repr(value)[:60].encode("ascii", "replace").decode()
    except Exception:  # it is deep, long, or a foreign object
        return type(value).__name__


BAD_IDS: list[Any] = [
    "",
    "a{b",
    "a}b",
    "a\nb",
    "\0",
    "x" * 513,
    "é" * 257,
    "\ud800",
    None,
    5,
    b"s",
    ["s"],
    DEEP,
    UNSHOWABLE,
]
Call = Callable[[Any, Any], Any]


def calls(session_id: Any) -> dict[str, Callable[[Any], Any]]:
    return {
        "create": lambda s: s.create_session(session_id, agent_type="a"),
        "save": lambda s: s.save_state(session_id, {"agentType": "a"}),
        "load": lambda s: s.load_state(session_id),
        "exists": lambda s: s.session_exists(session_id),
        "delete": lambda s: s.delete_session(session_id),
        "status": lambda s: s.update_status(session_id, "x"),
        "cas": lambda s: s.compare_and_set_status(session_id, ["x"], "y"),
        "steps": lambda s: s.increment_step_count(session_id),
        "resumes": lambda s: s.increment_resume_count(session_id),
        "append": lambda s: s.append_messages(session_id, [{}]),
        "messages": lambda s: s.get_messages(session_id),
        "count": lambda s: s.get_message_count(session_id),
        "truncate": lambda s: s.truncate_messages(session_id, 0),
        "pop": lambda s: s.pop_messages(session_id),
        "touch": lambda s: s.touch(session_id),
        "merge": lambda s: s.merge_custom_state(session_id, MergeChanges({"a": 1})),
        "add refs": lambda s: s.add_sub_agent_refs(session_id, []),
        "update ref": lambda s: s.update_sub_agent_ref(session_id, {"subSessionId": "q"}),
        "refs": lambda s: s.get_sub_agent_refs(session_id),
        "checkpoint": lambda s: s.create_checkpoint(session_id),
        "get checkpoint": lambda s: s.get_checkpoint(session_id, "x"),
        "latest": lambda s: s.get_latest_checkpoint(session_id),
        "list": lambda s: s.list_checkpoints(session_id),
        "restore": lambda s: s.restore_checkpoint(session_id, "x"),
        "drop": lambda s: s.delete_checkpoints(session_id),
        "stage": lambda s: s.stage_changes(session_id, "step", StagedChanges("t", [], {}, 1)),
        "staged": lambda s: s.get_staged_changes(session_id, "step"),
        "promote": lambda s: s.promote_staging(session_id, "step"),
        "discard": lambda s: s.discard_staging(session_id, "step"),
    }


@pytest.mark.parametrize("name", list(calls("s")))
async def test_a_bad_session_id_is_refused(state_store: Any, name: str) -> None:
    for bad in BAD_IDS:
        with pytest.raises(InvalidIdError):
            await calls(bad)[name](state_store)


@pytest.mark.parametrize("bad", BAD_IDS, ids=name_of)
async def test_a_bad_step_id_is_refused(state_store: Any, bad: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    for call in (
        state_store.stage_changes("s", bad, StagedChanges("t", [], {}, 1)),
        state_store.get_staged_changes("s", bad),
        state_store.promote_staging("s", bad),
        state_store.discard_staging("s", bad),
    ):
        with pytest.raises(InvalidIdError):
            await call


def session(**fields: Any) -> AgentState:
    made = AgentState("s", "a")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


BAD_STATES: list[Any] = [
    None,
    5,
    "state",
    [],
    b"{}",
    {},
    {"agentType": None},
    {"agentType": ""},
    {"agentType": "a", "sessionId": "other"},
    {"agentType": "a", "stepCount": "1"},
    {"agentType": "a", "stepCount": -1},
    {"agentType": "a", "customState": []},
    {"agentType": "a", "customState": {"x": NAN}},
    {"agentType": "a", "messages": {}},
    {"agentType": "a", "messages": ["text"]},
    {"agentType": "a", "metadata": [1]},
    {"agentType": "a", "subAgentRefs": [{"agentType": "a"}]},
    {"agentType": "a", "subAgentRefs": [5]},
    {"agentType": "a", "subAgentRefs": "x"},
    {"agentType": "a", "future": NAN},
    {"agentType": "a", "custom_state": {}},
    {"agentType": "a", "customState": {}, "step_count": 2},
    {"agentType": "a", "subAgentRefs": [{"subSessionId": "q", "agentType": "w", "tool_call_id": "c"}]},
    {"agentType": "a", "stepCount": "\ud800"},
    {"agentType": "a", "createdAt": "\ud800"},
    {"agentType": "a", "parentSessionId": "\ud800"},
    {"agentType": "a", "\ud800": 1},
    {"agentType": "a", "stepCount": 10**5000},
    {"agentType": "a", "customState": DEEP},
    {"agentType": DEEP},
    {"agentType": "a", "messages": [DEEP]},
    {"agentType": "a", "customState": {"x": {NAN}}},
    session(session_id="other"),
    session(session_id=None),
    session(agent_type=None),
    session(agent_type=""),
    session(agent_type="\ud800"),
    session(status=""),
    session(status=1),
    session(step_count=-1),
    session(step_count=1.5),
    session(step_count=True),
    session(step_count=2**53),
    session(resume_count="1"),
    session(custom_state=None),
    session(custom_state=[]),
    session(custom_state={1: 2}),
    session(custom_state={"a": {1: 2}}),
    session(custom_state={"a": NAN}),
    session(custom_state={"a": object()}),
    session(custom_state={"a": CYCLE}),
    session(custom_state={"\ud800": 1}),
    session(custom_state={"a": "\ud800"}),
    session(messages=None),
    session(messages="text"),
    session(messages=[1]),
    session(messages=[[]]),
    session(messages=[None]),
    session(messages=[{"a": float("inf")}]),
    session(messages=[b"{"]),
    session(output=NAN),
    session(output=object()),
    session(error=5),
    session(parent_session_id=5),
    session(metadata=None),
    session(metadata={"a": NAN}),
    session(extra=None),
    session(extra=5),
    session(extra={"\ud800": 1}),
    session(step_count="\ud800"),
    session(step_count=10**5000),
    session(created_at="\ud800"),
    session(error="\ud800"),
    session(agent_type=DEEP),
    session(output=DEEP),
    session(output=UNSHOWABLE),
    session(status=UNSHOWABLE),
    session(messages=[{"x": UNSHOWABLE}]),
    session(sub_agent_refs=[SubAgentRef("q", "w", extra={"\ud800": 1})]),
    session(sub_agent_refs=[SubAgentRef("q", "w", status="\ud800")]),
    session(extra={"a": NAN}),
    session(sub_agent_refs=None),
    session(sub_agent_refs=[SubAgentRef("q", "w"), SubAgentRef("q", "w")]),
    session(sub_agent_refs=[SubAgentRef("q{", "w")]),
    session(sub_agent_refs=[SubAgentRef(5, "w")]),  # type: ignore[arg-type]
    session(sub_agent_refs=[SubAgentRef("q", "w", result=NAN)]),
    session(created_at=-1),
    session(created_at="yesterday"),
]


@pytest.mark.parametrize("bad", BAD_STATES, ids=name_of)
async def test_a_bad_state_is_refused_and_changes_nothing(state_store: Any, bad: Any) -> None:
    before = await state_store.create_session("s", agent_type="a", initial_state={"k": 1})
    with pytest.raises(InvalidArgumentError):
        await state_store.save_state("s", bad)
    assert await state_store.load_state("s") == before


REF = {"subSessionId": "q", "agentType": "w"}
BAD_CALLS: dict[str, Callable[[Any], Any]] = {
    "agent type": lambda s: s.create_session("n", agent_type=5),
    "empty agent type": lambda s: s.create_session("n", agent_type=""),
    "initial state": lambda s: s.create_session("n", agent_type="a", initial_state=[1]),
    "initial value": lambda s: s.create_session("n", agent_type="a", initial_state={"a": NAN}),
    "metadata": lambda s: s.create_session("n", agent_type="a", metadata="x"),
    "save of nothing": lambda s: s.save({"agentType": "a"}),
    "expected version": lambda s: s.save_state("s", AgentState("s", "a"), expected_version="1"),
    "negative version": lambda s: s.save_state("s", AgentState("s", "a"), expected_version=-1),
    "token text": lambda s: s.update_status("s", "x", fencing_token="5"),
    "token float": lambda s: s.append_messages("s", [{}], fencing_token=1.0),
    "token bool": lambda s: s.create_checkpoint("s", fencing_token=True),
    "token negative": lambda s: s.delete_session("s", fencing_token=-1),
    "token large": lambda s: s.merge_custom_state("s", MergeChanges(), fencing_token=2**63),
    "status": lambda s: s.update_status("s", None),
    "empty status": lambda s: s.update_status("s", ""),
    "expected text": lambda s: s.compare_and_set_status("s", "active", "x"),
    "expected none": lambda s: s.compare_and_set_status("s", [], "x"),
    "expected null": lambda s: s.compare_and_set_status("s", None, "x"),
    "expected types": lambda s: s.compare_and_set_status("s", ["active", 5], "x"),
    "cas version": lambda s: s.compare_and_set_status("s", ["active"], "x", expected_version=1.0),
    "by zero": lambda s: s.increment_step_count("s", 0),
    "by negative": lambda s: s.increment_resume_count("s", -1),
    "by text": lambda s: s.increment_step_count("s", "1"),
    "messages": lambda s: s.append_messages("s", {"role": "user"}),
    "messages text": lambda s: s.append_messages("s", "text"),
    "message": lambda s: s.append_messages("s", [{}, 5]),
    "message value": lambda s: s.append_messages("s", [{"a": object()}]),
    "offset": lambda s: s.get_messages("s", offset=-1),
    "offset type": lambda s: s.get_messages("s", offset=None),
    "limit": lambda s: s.get_messages("s", limit=-1),
    "limit zero": lambda s: s.get_messages("s", limit=0),
    "limit large": lambda s: s.get_messages("s", limit=10_001),
    "limit type": lambda s: s.get_messages("s", limit="50"),
    "list limit": lambda s: s.list_checkpoints("s", limit=0),
    "list limit large": lambda s: s.list_checkpoints("s", limit=10_001),
    "list limit bool": lambda s: s.list_checkpoints("s", limit=True),
    "truncate": lambda s: s.truncate_messages("s", -1),
    "pop": lambda s: s.pop_messages("s", 0),
    "pop large": lambda s: s.pop_messages("s", 10_001),
    "pop version": lambda s: s.pop_messages("s", expected_version="1"),
    "touch": lambda s: s.touch("s", ttl=-1),
    "touch type": lambda s: s.touch("s", ttl="1"),
    "sessions limit": lambda s: s.list_sessions(limit=0),
    "sessions limit that is text": lambda s: s.list_sessions(limit="1"),
    "sessions cursor": lambda s: s.list_sessions(cursor="no cursor"),
    "keep": lambda s: s.delete_checkpoints("s", keep_last=-1),
    "checkpoint id": lambda s: s.get_checkpoint("s", None),
    "empty checkpoint id": lambda s: s.get_checkpoint("s", ""),
    "restore id": lambda s: s.restore_checkpoint("s", 5),
    "checkpoint metadata": lambda s: s.create_checkpoint("s", metadata=[1]),
    "changes": lambda s: s.merge_custom_state("s", None),
    "changes list": lambda s: s.merge_custom_state("s", [1]),
    "a value of plain ones": lambda s: s.merge_custom_state("s", {"notes": NAN}),
    "a name of plain values": lambda s: s.merge_custom_state("s", {"\ud800": 1}),
    "a type of name of plain values": lambda s: s.merge_custom_state("s", {5: 1}),
    "changes in snake case": lambda s: s.merge_custom_state("s", {"values": {}, "array_replacements": ["k"]}),
    "deep values": lambda s: s.merge_custom_state("s", {"notes": DEEP}),
    "values in surrogates": lambda s: s.merge_custom_state("s", MergeChanges({"a": {"\ud800": 1}})),
    "deletes in surrogates": lambda s: s.merge_custom_state("s", MergeChanges(deletes=["\ud800"])),
    "replacements unshown": lambda s: s.merge_custom_state("s", MergeChanges({}, [UNSHOWABLE])),
    "status in surrogates": lambda s: s.update_status("s", "\ud800"),
    "deep status": lambda s: s.update_status("s", DEEP),
    "deep message": lambda s: s.append_messages("s", [DEEP]),
    "message in surrogates": lambda s: s.append_messages("s", [{"a": "\ud800"}]),
    "deep offset": lambda s: s.get_messages("s", offset=DEEP),
    "long limit": lambda s: s.get_messages("s", limit=10**5000),
    "long token": lambda s: s.update_status("s", "x", fencing_token=10**5000),
    "deep cursor": lambda s: s.list_checkpoints("s", cursor=DEEP),
    "cursor in surrogates": lambda s: s.list_checkpoints("s", cursor="\ud800"),
    "deep sessions cursor": lambda s: s.list_sessions(cursor=DEEP),
    "ref in snake case": lambda s: s.add_sub_agent_refs("s", [{**REF, "tool_call_id": "c"}]),
    "ref update in snake case": lambda s: s.update_sub_agent_ref("s", {**REF, "tool_call_id": "c"}),
    "ref update in surrogates": lambda s: s.update_sub_agent_ref("s", {**REF, "status": "\ud800"}),
    "deep ref update": lambda s: s.update_sub_agent_ref("s", {**REF, "result": DEEP}),
    "checkpoint id in surrogates": lambda s: s.restore_checkpoint("s", "\ud800"),
    "deep checkpoint metadata": lambda s: s.create_checkpoint("s", metadata=DEEP),
    "staged in snake case": lambda s: s.stage_changes("s", "step", {"toolCallId": "t", "merge_changes": {}}),
    "staged call in surrogates": lambda s: s.stage_changes("s", "step", StagedChanges("\ud800", [], {}, 1)),
    "staged name in surrogates": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"\ud800": 1}, 1)),
    "staged value in surrogates": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"a": "\ud800"}, 1)),
    "staged time in surrogates": lambda s: s.stage_changes("s", "step", {"toolCallId": "t", "timestamp": "\ud800"}),
    "staged replacement": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {}, 1, ["\ud800"])),
    "staged op in surrogates": lambda s: s.stage_changes("s", "step", StagedChanges("t", [{"op": "\ud800"}], None, 1)),
    "deep staged": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"a": DEEP}, 1)),
    "deep patch": lambda s: s.stage_changes("s", "step", StagedChanges("t", [{"op": "add", "value": DEEP}], None, 1)),
    "values": lambda s: s.merge_custom_state("s", MergeChanges([1])),  # type: ignore[arg-type]
    "value": lambda s: s.merge_custom_state("s", MergeChanges({"a": NAN})),
    "name": lambda s: s.merge_custom_state("s", MergeChanges({"\ud800": 1})),
    "name type": lambda s: s.merge_custom_state("s", MergeChanges({5: 1})),  # type: ignore[dict-item]
    "replacements": lambda s: s.merge_custom_state("s", MergeChanges({}, [5])),  # type: ignore[list-item]
    "replacements text": lambda s: s.merge_custom_state("s", MergeChanges({}, "ab")),
    "deletes": lambda s: s.merge_custom_state("s", MergeChanges({}, (), [None])),  # type: ignore[list-item]
    "refs": lambda s: s.add_sub_agent_refs("s", {"subSessionId": "q"}),
    "ref": lambda s: s.add_sub_agent_refs("s", [{"subSessionId": "q"}]),
    "ref update": lambda s: s.update_sub_agent_ref("s", {"status": "x"}),
    "ref update type": lambda s: s.update_sub_agent_ref("s", {"subSessionId": "q", "status": 5}),
    "ref update value": lambda s: s.update_sub_agent_ref("s", {"subSessionId": "q", "result": NAN}),
    "staged": lambda s: s.stage_changes("s", "step", None),
    "staged call": lambda s: s.stage_changes("s", "step", StagedChanges("", [], {}, 1)),
    "staged time": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {}, -1)),
    "staged time type": lambda s: s.stage_changes("s", "step", {"toolCallId": "t", "timestamp": "now"}),
    "staged value": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"a": NAN}, 1)),
    "staged field": lambda s: s.stage_changes("s", "step", {"toolCallId": "t", "mergeChange": {}}),
    "staged deletes": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], None, 1, (), ("a",))),
    "staged patches": lambda s: s.stage_changes("s", "step", {"toolCallId": "t", "patches": {}}),
}


@pytest.mark.parametrize("name", BAD_CALLS)
async def test_a_bad_argument_is_refused_and_changes_nothing(state_store: Any, name: str) -> None:
    before = await state_store.create_session("s", agent_type="a", initial_state={"k": 1})
    await state_store.add_sub_agent_refs("s", [SubAgentRef("q", "w")])
    before = await state_store.load_state("s")
    with pytest.raises(InvalidArgumentError):
        await BAD_CALLS[name](state_store)
    assert await state_store.load_state("s") == before
    assert not await state_store.session_exists("n")
    assert await state_store.get_staged_changes("s", "step") == []


@pytest.mark.parametrize("patch", [5, None, "x", {}, {"op": 1}, {"path": "/a"}])
async def test_what_is_no_patch_is_not_staged(state_store: Any, patch: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    with pytest.raises((PatchError, InvalidArgumentError)):
        await state_store.stage_changes("s", "step", StagedChanges("t", [patch], None, 1))
    assert await state_store.get_staged_changes("s", "step") == []


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": -1},
        {"ttl": 1.5},
        {"ttl": "60"},
        {"ttl": True},
        {"max_checkpoints": 0},
        {"max_checkpoints": -1},
        {"max_checkpoints": "3"},
        {"key_prefix": "a{"},
        {"key_prefix": None},
    ],
    ids=repr,
)
def test_options_that_make_no_sense_are_refused(state_stores: Callable[..., Any], options: Any) -> None:
    with pytest.raises(HelixError) as caught:
        state_stores(**options)
    assert isinstance(caught.value, InvalidArgumentError)
