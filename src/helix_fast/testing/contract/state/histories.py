"""State, staging and checkpoints against a plain model, in random order."""

from __future__ import annotations

import asyncio
import copy
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helix_fast.errors import ConcurrentUpdateError, PatchError
from helix_fast.state.json_patch import apply_patch
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges

_NAMES = st.sampled_from(["a", "b", "c"])
_VALUES = (
    st.none()
    | st.integers(0, 3)
    | st.lists(st.integers(0, 3), max_size=3)
    | st.dictionaries(_NAMES, st.integers(0, 3), max_size=2)
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=3)
_MESSAGES = st.lists(st.fixed_dictionaries({"n": st.integers(0, 3)}), max_size=4)
_STEPS = st.sampled_from(["x", "y"])
_PATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "test"]),
            "path": st.sampled_from(["/a", "/b", "/a/0", "/a/-"]),
        },
        optional={"value": _VALUES},
    ),
    max_size=2,
)


def merged(custom: dict[str, Any], values: dict[str, Any], replaced: set[str], deleted: set[str]) -> dict[str, Any]:
    result = {name: value for name, value in custom.items() if name not in deleted}
    for name, value in values.items():
        old = result.get(name)
        extends = isinstance(value, list) and isinstance(old, list) and name not in replaced
        result[name] = old + value if extends else value
    return result


class Sessions(RuleBasedStateMachine):
    """Two stores on one session; the model is what it should be."""

    make: Callable[[], Any]
    runner: asyncio.AbstractEventLoop

    @initialize(custom=_OBJECTS)
    def begin(self, custom: dict[str, Any]) -> None:
        self.stores: list[Any] = [self.make(), self.make()]
        self.turn: int = 0
        self.do("delete_session", "s")
        self.state: AgentState = self.do("create_session", "s", agent_type="a", initial_state=custom)
        self.checkpoints: list[tuple[str, AgentState]] = []
        self.staged: dict[str, list[StagedChanges]] = {"x": [], "y": []}

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            self.runner.run_until_complete(store.close())

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        self.turn += 1
        # now this store, now the other: what one believes of the stored conversation is often out of date
        store = self.stores[self.turn * self.turn // 3 % 2]
        return self.runner.run_until_complete(getattr(store, name)(*args, **options))

    @rule(said=_MESSAGES)
    def append(self, said: list[Any]) -> None:
        self.state.messages += said
        self.state.version += 1
        assert self.do("append_messages", "s", said) == len(self.state.messages)

    @rule(count=st.integers(0, 6))
    def truncate(self, count: int) -> None:
        self.do("truncate_messages", "s", count)
        self.state.messages = self.state.messages[:count]
        self.state.version += 1

    @rule(count=st.integers(1, 3))
    def pop(self, count: int) -> None:
        said = self.state.messages
        popped = self.do("pop_messages", "s", count)
        assert popped == said[-count:]
        self.state.messages = said[:-count]
        self.state.version += bool(popped)

    @rule(said=_MESSAGES, keep=st.integers(0, 9), custom=_OBJECTS, stale=st.booleans())
    def save(self, said: list[Any], keep: int, custom: dict[str, Any], stale: bool) -> None:
        new = copy.deepcopy(self.state)
        new.messages, new.custom_state, new.output = self.state.messages[:keep] + said, custom, said
        if stale:
            with pytest.raises(ConcurrentUpdateError):
                self.do("save_state", "s", new, expected_version=self.state.version + 1)
            return
        new.version = self.do("save_state", "s", new, expected_version=self.state.version)
        assert new.version == self.state.version + 1
        self.state = new

    @rule(values=_OBJECTS, replaced=st.sets(_NAMES), deleted=st.sets(_NAMES))
    def merge(self, values: dict[str, Any], replaced: set[str], deleted: set[str]) -> None:
        result = self.do("merge_custom_state", "s", MergeChanges(values, sorted(replaced), sorted(deleted)))
        self.state.custom_state = merged(self.state.custom_state, values, replaced, deleted)
        self.state.version += 1
        assert result.version == self.state.version

    @rule(
        status=st.sampled_from(["active", "running", "done"]),
        expected=st.sets(st.sampled_from(["active", "running"]), min_size=1),
    )
    def set_status(self, status: str, expected: set[str]) -> None:
        won = self.do("compare_and_set_status", "s", expected, status)
        assert won is (self.state.status in expected)
        if won:
            self.state.status = status
            self.state.version += 1

    @rule(by=st.integers(1, 5))
    def count(self, by: int) -> None:
        self.state.step_count += by
        self.state.version += 1
        assert self.do("increment_step_count", "s", by) == self.state.step_count

    @rule()
    def checkpoint(self) -> None:
        made = self.do("create_checkpoint", "s")
        assert made.version == self.state.version
        self.checkpoints.append((made.id, copy.deepcopy(self.state)))

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        checkpoint, was = data.draw(st.sampled_from(self.checkpoints))
        version = self.state.version + 1
        self.state = copy.deepcopy(was)
        self.state.version = version
        restored = self.do("restore_checkpoint", "s", checkpoint)
        restored.updated_at = self.state.updated_at
        assert restored == self.state

    @rule(keep=st.integers(0, 3))
    def drop_checkpoints(self, keep: int) -> None:
        gone = max(0, len(self.checkpoints) - keep)
        assert self.do("delete_checkpoints", "s", keep_last=keep) == gone
        del self.checkpoints[:gone]

    @rule(step=_STEPS, call=_NAMES, at=st.integers(0, 3), values=_OBJECTS, replaced=st.sets(_NAMES))
    def stage_merge(self, step: str, call: str, at: int, values: dict[str, Any], replaced: set[str]) -> None:
        self.stage(step, StagedChanges(call, [], values, at, tuple(sorted(replaced))))

    @rule(step=_STEPS, call=_NAMES, at=st.integers(0, 3), patches=_PATCHES)
    def stage_patches(self, step: str, call: str, at: int, patches: list[dict[str, Any]]) -> None:
        self.stage(step, StagedChanges(call, patches, None, at))

    def stage(self, step: str, changes: StagedChanges) -> None:
        self.do("stage_changes", "s", step, changes)
        staged = self.staged[step]
        calls = [each.tool_call_id for each in staged]
        if changes.tool_call_id in calls:
            staged[calls.index(changes.tool_call_id)] = changes
        else:
            staged.append(changes)

    @rule(step=_STEPS)
    def promote(self, step: str) -> None:
        custom: Any = copy.deepcopy(self.state.custom_state)
        try:
            for each in sorted(self.staged[step], key=operator.attrgetter("timestamp")):
                if each.merge_changes is None:
                    custom = apply_patch(custom, each.patches)
                else:
                    custom = merged(custom, each.merge_changes, set(each.array_replacements), set())
        except PatchError:
            with pytest.raises(PatchError):
                self.do("promote_staging", "s", step)
            return
        result = self.do("promote_staging", "s", step)
        assert result.applied == len(self.staged[step])
        if result.applied:
            self.state.custom_state = custom
            self.state.version += 1
            self.staged[step] = []
        assert result.version == self.state.version

    @rule(step=_STEPS)
    def discard(self, step: str) -> None:
        assert self.do("discard_staging", "s", step) == len(self.staged[step])
        self.staged[step] = []

    @invariant()
    def state_is_what_it_should_be(self) -> None:
        if hasattr(self, "state"):
            found = self.do("load_state", "s")
            found.updated_at = self.state.updated_at
            assert found == self.state

    @invariant()
    def checkpoints_and_staging_are_what_they_should_be(self) -> None:
        if hasattr(self, "state"):
            listed = self.do("list_checkpoints", "s", limit=1000).items
            assert [each.id for each in listed] == [each for each, _ in self.checkpoints][::-1]
            for checkpoint, was in self.checkpoints[-2:] + self.checkpoints[:1]:
                found = self.do("get_checkpoint", "s", checkpoint).state
                found.updated_at = was.updated_at
                assert found == was
            for step, staged in self.staged.items():
                assert self.do("get_staged_changes", "s", step) == staged


def test_random_histories_end_as_the_model_says(new_state_store: Callable[[], Any], thorough: bool) -> None:
    examples = 80 if thorough else 8
    loop = asyncio.new_event_loop()
    try:
        machine = type("Machine", (Sessions,), {"make": staticmethod(new_state_store), "runner": loop})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    finally:
        loop.close()
