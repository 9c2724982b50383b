"""Merging into the custom state, at once or staged by the tool calls of a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import PatchError, StaleFencingTokenError
from helix_fast.state.schema import MergeChanges, StagedChanges


async def custom(store: Any) -> Any:
    return (await store.load_state("s")).custom_state


def staged(call: str, at: int, values: dict[str, Any] | None, patches: Any = (), **more: Any) -> StagedChanges:
    return StagedChanges(call, list(patches), values, at, **more)


# --- merging at once


async def test_arrays_are_extended_and_everything_else_is_set(state_store: Any) -> None:
    start = {"notes": ["a"], "empty": [], "n": 1, "o": {"x": 1}, "kept": True}
    await state_store.create_session("s", agent_type="a", initial_state=start)
    changes = MergeChanges({"notes": ["b", ["c"]], "empty": [{}], "n": 2, "o": {"y": 2}, "new": ["d"], "nil": None})
    result = await state_store.merge_custom_state("s", changes)
    assert result == (2, [])
    expected = {"notes": ["a", "b", ["c"]], "empty": [{}], "n": 2, "o": {"y": 2}, "new": ["d"], "nil": None}
    assert await custom(state_store) == {**expected, "kept": True}


async def test_extending_by_nothing_changes_nothing_and_makes_an_array_where_there_is_none(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"notes": [1]})
    await state_store.merge_custom_state("s", MergeChanges({"notes": [], "new": []}))
    assert await custom(state_store) == {"notes": [1], "new": []}


async def test_named_arrays_are_replaced(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": [1], "b": [1], "c": 1})
    changes = MergeChanges({"a": [2], "b": [2], "c": [2]}, array_replacements=["a", "c", "not there"])
    assert (await state_store.merge_custom_state("s", changes)).warnings == []
    assert await custom(state_store) == {"a": [2], "b": [1, 2], "c": [2]}


async def test_deletes_come_first(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": [1], "b": 1, "c": 1})
    await state_store.merge_custom_state("s", MergeChanges({"a": [2]}, deletes=("a", "b", "not there")))
    assert await custom(state_store) == {"a": [2], "c": 1}


@pytest.mark.parametrize("old", [1, "[x]", "[", {"x": []}, None, True])
async def test_an_array_replaces_what_is_none_with_a_warning(state_store: Any, old: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": old})
    result = await state_store.merge_custom_state("s", MergeChanges({"a": [1]}))
    assert await custom(state_store) == {"a": [1]}
    (warning,) = result.warnings
    assert warning.startswith("a: ")


async def test_a_dict_in_wire_form_is_changes(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": [1], "b": 2})
    await state_store.merge_custom_state("s", {"values": {"a": [2]}, "arrayReplacements": ["a"], "deletes": ["b"]})
    assert await custom(state_store) == {"a": [2]}


async def test_merges_of_many_tasks_are_all_there(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].create_session("s", agent_type="a")
    merges = [MergeChanges({"all": [n], f"k{n}": n}) for n in range(60)]
    results = await asyncio.gather(*(stores[n % 3].merge_custom_state("s", merge) for n, merge in enumerate(merges)))
    assert sorted(result.version for result in results) == list(range(2, 62))
    found = await custom(stores[0])
    assert sorted(found.pop("all")) == list(range(60))
    assert found == {f"k{n}": n for n in range(60)}


# --- staging


async def test_what_is_staged_changes_nothing_until_it_is_promoted(state_store: Any) -> None:
    made = await state_store.create_session("s", agent_type="a", initial_state={"notes": []})
    changes = [staged("t1", 5, {"notes": ["x"]}), staged("t2", 4, None, [{"op": "remove", "path": "/notes"}])]
    for each in changes:
        await state_store.stage_changes("s", "step", each)
    assert await state_store.load_state("s") == made
    assert await state_store.get_staged_changes("s", "step") == changes
    assert await state_store.get_staged_changes("s", "another") == []


async def test_parallel_tool_calls_are_applied_in_the_order_of_their_timestamps(
    state_stores: Callable[..., Any],
) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].create_session("s", agent_type="a", initial_state={"notes": ["first"]})
    times = [30, 10, 20]
    await asyncio.gather(
        *(
            store.stage_changes("s", "step", staged(f"t{at}", at, {"notes": [at], f"by{at}": True}))
            for store, at in zip(stores, times, strict=True)
        )
    )
    result = await stores[0].promote_staging("s", "step")
    assert result == (3, 2, [])
    expected = {"notes": ["first", 10, 20, 30], "by10": True, "by20": True, "by30": True}
    assert await custom(stores[1]) == expected


async def test_equal_timestamps_keep_the_order_of_staging(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    for n in range(20):
        await state_store.stage_changes("s", "step", staged(f"t{n}", 7, {"notes": [n]}))
    await state_store.promote_staging("s", "step")
    assert await custom(state_store) == {"notes": list(range(20))}


@pytest.mark.parametrize("patches", [False, True])
async def test_a_tool_call_that_stages_again_replaces_what_it_staged(
    state_stores: Callable[..., Any], patches: bool
) -> None:
    first, retried = state_stores(), state_stores()
    await first.create_session("s", agent_type="a", initial_state={"notes": []})

    def change(call: str, at: int, note: str) -> StagedChanges:
        if patches:
            return staged(call, at, None, [{"op": "add", "path": "/notes/-", "value": note}])
        return staged(call, at, {"notes": [note]})

    calls = ["t", 't"', 't","timestamp":"', "T", "tt", "é"]
    for call in calls:
        await first.stage_changes("s", "step", change(call, 7, "lost"))
    for call in reversed(calls):
        await retried.stage_changes("s", "step", change(call, 7, call))
    assert [each.tool_call_id for each in await first.get_staged_changes("s", "step")] == calls
    assert (await first.promote_staging("s", "step")).applied == len(calls)
    assert await custom(first) == {"notes": calls}
    await first.stage_changes("s", "step", change("t", 8, "in the step's next life"))
    assert (await first.promote_staging("s", "step")).applied == 1


async def test_a_second_promote_does_nothing_and_says_so(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    await state_store.stage_changes("s", "step", staged("t", 1, {"notes": [1]}))
    first = await state_store.promote_staging("s", "step")
    second = await state_store.promote_staging("s", "step")
    assert (first.applied, second.applied) == (1, 0)
    assert second.version == first.version
    assert "nothing is staged" in second.warnings[0]
    assert await custom(state_store) == {"notes": [1]}
    assert await state_store.get_staged_changes("s", "step") == []


@pytest.mark.parametrize("patches", [False, True])
async def test_of_many_promotes_at_once_one_applies(state_stores: Callable[..., Any], patches: bool) -> None:
    stores = [state_stores() for _ in range(4)]
    await stores[0].create_session("s", agent_type="a", initial_state={"notes": []})
    change = (
        staged("t", 1, None, [{"op": "add", "path": "/notes/-", "value": 1}])
        if patches
        else staged("t", 1, {"notes": [1]})
    )
    await stores[0].stage_changes("s", "step", change)
    results = await asyncio.gather(*(stores[n % 4].promote_staging("s", "step") for n in range(20)))
    assert sorted(result.applied for result in results) == [0] * 19 + [1]
    assert await custom(stores[0]) == {"notes": [1]}


async def test_discard_leaves_nothing(state_store: Any) -> None:
    made = await state_store.create_session("s", agent_type="a")
    await state_store.stage_changes("s", "one", staged("t", 1, {"a": 1}))
    await state_store.stage_changes("s", "one", staged("u", 2, {"a": 2}))
    await state_store.stage_changes("s", "two", staged("t", 1, {"b": 1}))
    assert await state_store.discard_staging("s", "one") == 2
    assert await state_store.discard_staging("s", "one") == 0
    assert await state_store.get_staged_changes("s", "one") == []
    assert (await state_store.promote_staging("s", "one")).applied == 0
    assert await state_store.load_state("s") == made
    assert (await state_store.promote_staging("s", "two")).applied == 1


async def test_two_tool_calls_that_set_the_same_to_different_values(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    for call, at, value in (("late", 9, "L"), ("early", 1, "E")):
        await state_store.stage_changes("s", "step", staged(call, at, {"answer": value, "same": 1, "list": [value]}))
    result = await state_store.promote_staging("s", "step")
    assert await custom(state_store) == {"answer": "L", "same": 1, "list": ["E", "L"]}
    (warning,) = result.warnings
    assert "answer" in warning
    assert "'early'" in warning
    assert "'late'" in warning


async def test_two_tool_calls_that_patch_the_same_to_different_values(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"o": {"answer": 0}, "list": []})
    for call, at in (("late", 9), ("early", 1)):
        patches = [
            {"op": "replace", "path": "/o/answer", "value": call},
            {"op": "add", "path": "/same", "value": 1},
            {"op": "add", "path": "/list/-", "value": call},
            {"op": "add", "path": "/list/0", "value": call},
        ]
        await state_store.stage_changes("s", "step", staged(call, at, None, patches))
    result = await state_store.promote_staging("s", "step")
    found = await custom(state_store)
    assert found == {"o": {"answer": "late"}, "same": 1, "list": ["late", "early", "early", "late"]}
    (warning,) = result.warnings
    assert "o/answer" in warning


async def test_merge_changes_are_authoritative_and_patches_apply_only_without_them(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"notes": ["a"]})
    patches = [{"op": "add", "path": "/notes/-", "value": "patched"}]
    await state_store.stage_changes("s", "one", staged("both", 1, {"notes": ["merged"]}, patches))
    await state_store.stage_changes("s", "one", staged("empty", 2, {}, patches))
    await state_store.promote_staging("s", "one")
    assert await custom(state_store) == {"notes": ["a", "merged"]}
    await state_store.stage_changes("s", "two", staged("merges", 1, {"notes": ["m"]}))
    await state_store.stage_changes("s", "two", staged("patches", 2, None, patches))
    await state_store.stage_changes("s", "two", staged("replaces", 3, {"l": [1]}, array_replacements=["l"]))
    assert (await state_store.promote_staging("s", "two")).applied == 3
    assert await custom(state_store) == {"notes": ["a", "merged", "m", "patched"], "l": [1]}


@pytest.mark.parametrize("with_patches", [False, True])
async def test_replacements_and_deletes_of_a_step(state_store: Any, with_patches: bool) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": [1], "b": 1, "c": 1})
    change = StagedChanges("t", [], MergeChanges({"a": [2], "c": [3]}, ["a"], ["b"]), 1)  # type: ignore[arg-type]
    await state_store.stage_changes("s", "step", change)
    if with_patches:
        await state_store.stage_changes("s", "step", staged("p", 2, None, [{"op": "test", "path": "/a", "value": [2]}]))
    (stored, *_) = await state_store.get_staged_changes("s", "step")
    assert stored == StagedChanges("t", [], {"a": [2], "c": [3]}, 1, ("a",), ("b",))
    result = await state_store.promote_staging("s", "step")
    assert await custom(state_store) == {"a": [2], "c": [3]}
    assert result.warnings == ["c: an array was to extend what is no array; it replaced it"]


async def test_a_patch_that_does_not_apply_leaves_everything_as_it_was(state_store: Any) -> None:
    made = await state_store.create_session("s", agent_type="a", initial_state={"a": 1})
    await state_store.stage_changes("s", "step", staged("good", 1, {"b": 1}))
    patches = [{"op": "add", "path": "/c", "value": 1}, {"op": "remove", "path": "/not there"}]
    await state_store.stage_changes("s", "step", staged("bad", 2, None, patches))
    for _ in range(2):
        with pytest.raises(PatchError, match="operation 1"):
            await state_store.promote_staging("s", "step")
    assert await state_store.load_state("s") == made
    assert len(await state_store.get_staged_changes("s", "step")) == 2


@pytest.mark.parametrize("value", [[], 1, None])
async def test_a_patch_that_leaves_no_object_is_refused(state_store: Any, value: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": 1})
    await state_store.stage_changes("s", "step", staged("t", 1, None, [{"op": "replace", "path": "", "value": value}]))
    with pytest.raises(PatchError):
        await state_store.promote_staging("s", "step")
    assert await custom(state_store) == {"a": 1}


async def test_a_patch_of_the_whole_document_replaces_it(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"a": 1, "b": 2})
    patches = [{"op": "replace", "path": "", "value": {"b": 3, "c": {}}}]
    await state_store.stage_changes("s", "step", staged("t", 1, None, patches))
    await state_store.promote_staging("s", "step")
    assert await custom(state_store) == {"b": 3, "c": {}}


@pytest.mark.parametrize("patches", [False, True])
async def test_promotes_while_others_merge_lose_neither(state_stores: Callable[..., Any], patches: bool) -> None:
    promoter, merger = state_stores(), state_stores()
    await promoter.create_session("s", agent_type="a", initial_state={"promoted": [], "merged": []})

    async def promote() -> None:
        for n in range(60):
            change = staged("t", n, {"promoted": [n]})
            if patches:
                change = staged("t", n, None, [{"op": "add", "path": "/promoted/-", "value": n}])
            await promoter.stage_changes("s", f"step {n}", change)
            assert (await promoter.promote_staging("s", f"step {n}")).applied == 1

    async def merge() -> None:
        for n in range(60):
            await merger.merge_custom_state("s", MergeChanges({"merged": [n], f"k{n}": n}))

    await asyncio.gather(promote(), merge(), *(merger.increment_step_count("s") for _ in range(50)))
    found = await custom(promoter)
    assert found.pop("promoted") == found.pop("merged") == list(range(60))
    assert found == {f"k{n}": n for n in range(60)}


async def test_patches_of_what_others_merge_at_the_same_time_lose_neither(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].create_session("s", agent_type="a", initial_state={"all": []})

    async def promote(n: int) -> None:
        patches = [{"op": "add", "path": "/all/-", "value": n}]
        await stores[n % 3].stage_changes("s", f"step {n}", staged("t", n, None, patches))
        assert (await stores[n % 3].promote_staging("s", f"step {n}")).applied == 1

    merges = [stores[n % 3].merge_custom_state("s", MergeChanges({"all": [n]})) for n in range(100, 130)]
    await asyncio.gather(*(promote(n) for n in range(15)), *merges)
    found = await custom(stores[0])
    assert sorted(found["all"]) == [*range(15), *range(100, 130)]


async def test_what_is_staged_while_a_step_is_promoted_is_not_lost(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].create_session("s", agent_type="a", initial_state={"all": []})

    async def stage(n: int) -> int:
        await stores[n % 3].stage_changes(
            "s", "step", staged(f"t{n}", n, None, [{"op": "add", "path": "/all/-", "value": n}])
        )
        return int((await stores[(n + 1) % 3].promote_staging("s", "step")).applied)

    applied = await asyncio.gather(*(stage(n) for n in range(40)))
    last = (await stores[0].promote_staging("s", "step")).applied
    assert sum(applied) + last == 40
    assert sorted((await custom(stores[0]))["all"]) == list(range(40))


async def test_a_stale_holder_cannot_promote(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", fencing_token=5)
    await state_store.stage_changes("s", "step", staged("t", 1, None, [{"op": "add", "path": "/x", "value": 1}]))
    with pytest.raises(StaleFencingTokenError):
        await state_store.promote_staging("s", "step", fencing_token=4)
    assert (await state_store.promote_staging("s", "step", fencing_token=6)).applied == 1


def nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


@pytest.mark.parametrize("depth", [300, 400, 450, 500, 510])
async def test_a_deep_state_is_patched_as_any_other(state_store: Any, depth: int) -> None:
    deep = nested(depth)
    await state_store.create_session("s", agent_type="a", initial_state={"deep": deep})
    patches = [
        {"op": "test", "path": "/deep", "value": nested(depth)},
        {"op": "copy", "from": "/deep", "path": "/copied"},
        {"op": "add", "path": "/added", "value": nested(depth - 3)},
    ]
    if depth > 508:  # the patches are an array of objects
        del patches[0]
    await state_store.stage_changes("s", "step", staged("t", 1, None, patches))
    assert (await state_store.promote_staging("s", "step")).applied == 1
    found = await custom(state_store)
    assert found.keys() == {"deep", "copied", "added"}
    for name, levels in (("deep", depth), ("copied", depth), ("added", depth - 3)):
        assert depth_of(found[name]) == levels


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, (dict, list)):
        depth += 1
        value = value["in"] if isinstance(value, dict) else value[0]
    assert value == "deep"
    return depth


async def test_a_patch_that_makes_a_state_too_deep_is_refused(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"deep": nested(400)})
    patches = [{"op": "replace", "path": "/deep" + "/0/in" * 200, "value": nested(400)}]
    await state_store.stage_changes("s", "step", staged("t", 1, None, patches))
    with pytest.raises(PatchError):
        await state_store.promote_staging("s", "step")
    assert depth_of((await custom(state_store))["deep"]) == 400
    assert await state_store.discard_staging("s", "step") == 1
