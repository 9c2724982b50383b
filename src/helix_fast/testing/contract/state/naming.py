"""Names in dicts, and the places that errors name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import InvalidArgumentError

NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda s: s.save_state("n", {"agentType": "a", "custom_state": {}}), "'customState'"),
        (lambda s: s.merge_custom_state("s", {"array_replacements": []}), "'arrayReplacements'"),
        (lambda s: s.stage_changes("s", "step", {"tool_call_id": "t"}), "'toolCallId'"),
        (lambda s: s.add_sub_agent_refs("s", [{"sub_session_id": "q"}]), "'subSessionId'"),
        (lambda s: s.update_sub_agent_ref("s", {"sub_session_id": "q"}), "'subSessionId'"),
    ],
)
async def test_a_name_in_snake_case_is_refused_with_the_name_that_is_meant(
    state_store: Any, call: Callable[[Any], Any], hint: str
) -> None:
    await state_store.create_session("s", agent_type="a")
    with pytest.raises(InvalidArgumentError) as caught:
        await call(state_store)
    assert hint in caught.value.hint


async def test_other_names_in_snake_case_are_data(state_store: Any) -> None:
    await state_store.save_state("s", {"agentType": "a", "my_own": 1, "customState": {"step_count": 2}})
    state = await state_store.load_state("s")
    assert (state.extra, state.custom_state) == ({"my_own": 1}, {"step_count": 2})
    state.extra["custom_state"] = "of a foreign writer"
    await state_store.save_state("s", state)
    assert (await state_store.load_state("s")).extra == state.extra


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [0, {"b": object()}]}, "state.customState.x: a[1].b: "),
        ({"a": {"b": "\ud800"}}, "state.customState.x: a.b: "),
        ([{"b": NAN}], "state.customState.x: [0].b: "),
    ],
)
async def test_a_value_that_cannot_be_written_is_named_by_its_path(state_store: Any, value: Any, path: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await state_store.save_state("s", {"agentType": "a", "customState": {"x": value}})
    assert str(caught.value).startswith(path)
