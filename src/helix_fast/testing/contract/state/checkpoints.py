"""Checkpoints hold the state as it was, whatever happens to it afterwards."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import CheckpointNotFoundError, CheckpointStateError, InvalidArgumentError
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef


def messages(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"message {n}"} for n in range(start, start + count)]


def state(said: int = 4) -> AgentState:
    made = AgentState("s", "a", "running", 7, 2, {"notes": ["n"], "k": {"x": []}}, messages(said))
    made.output, made.error, made.parent_session_id = [1], "e", "p"
    made.sub_agent_refs, made.metadata, made.extra = [SubAgentRef("q", "w")], {"m": 1}, {"new": 1}
    return made


async def diverge(store: Any) -> None:
    await store.save_state("s", AgentState("s", "b", messages=[{"other": 1}, *messages(9)]))


async def merge_by_step(store: Any) -> None:
    await store.stage_changes("s", "step", StagedChanges("t", [], {"notes": ["staged"], "k": 2}, 1))
    assert (await store.promote_staging("s", "step")).applied == 1


async def restore_oldest(store: Any) -> None:
    oldest = (await store.list_checkpoints("s", limit=100)).items[-1]
    await store.restore_checkpoint("s", oldest.id)


EVENTS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda store: asyncio.sleep(0),
    "more messages": lambda store: store.append_messages("s", messages(3, 50)),
    "truncation": lambda store: store.truncate_messages("s", 1),
    "truncation to nothing": lambda store: store.truncate_messages("s", 0),
    "divergent save": diverge,
    "save of nothing": lambda store: store.save_state("s", AgentState("s", "b")),
    "merge": lambda store: store.merge_custom_state("s", MergeChanges({"notes": [1], "k": 1}, deletes=["zz"])),
    "promote": merge_by_step,
    "status": lambda store: store.update_status("s", "failed"),
    "step": lambda store: store.increment_step_count("s"),
    "sub-agent": lambda store: store.update_sub_agent_ref("s", {"subSessionId": "q", "status": "x"}),
    "checkpoint": lambda store: store.create_checkpoint("s"),
    "restore": restore_oldest,
}


# each with itself and with two others; all pairs would take minutes, and the model tries them, too
PAIRS = [(first, list(EVENTS)[(n + shift) % len(EVENTS)]) for n, first in enumerate(EVENTS) for shift in (0, 1, 5)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_a_checkpoint_is_the_state_as_it_was_whatever_happened_since(
    state_store: Any, first: str, second: str
) -> None:
    await state_store.save_state("s", state())
    kept = []
    for event in (first, second, "more messages", "truncation", "divergent save"):
        before = await state_store.load_state("s")
        kept.append((await state_store.create_checkpoint("s"), copy.deepcopy(before)))
        assert await state_store.load_state("s") == before
        if event != "sub-agent" or before.sub_agent_refs:
            await EVENTS[event](state_store)
    for checkpoint, before in kept:
        assert (await state_store.get_checkpoint("s", checkpoint.id)).state == before
    for checkpoint, before in reversed(kept):
        version = (await state_store.load_state("s")).version
        restored = await state_store.restore_checkpoint("s", checkpoint.id)
        assert restored == await state_store.load_state("s")
        assert restored.version == version + 1
        before.version, before.updated_at = restored.version, restored.updated_at
        assert restored == before


async def test_later_checkpoints_stay_readable_after_going_back_and_on(state_store: Any) -> None:
    await state_store.save_state("s", state(2))
    early = await state_store.create_checkpoint("s")
    await state_store.append_messages("s", messages(3, 2))
    late = await state_store.create_checkpoint("s")
    restored = await state_store.restore_checkpoint("s", early.id)
    assert restored.messages == messages(2)
    assert await state_store.append_messages("s", [{"another": "way"}]) == 3
    assert (await state_store.load_state("s")).messages == [*messages(2), {"another": "way"}]
    assert (await state_store.get_checkpoint("s", late.id)).state.messages == messages(5)
    assert (await state_store.restore_checkpoint("s", late.id)).messages == messages(5)
    assert await state_store.append_messages("s", messages(1, 5)) == 6
    assert (await state_store.load_state("s")).messages == messages(6)


async def test_a_restored_state_can_be_saved_with_more_messages(state_store: Any) -> None:
    await state_store.save_state("s", state(2))
    early = await state_store.create_checkpoint("s")
    await state_store.append_messages("s", messages(3, 2))
    restored = await state_store.restore_checkpoint("s", early.id)
    restored.messages.append({"new": 1})
    await state_store.save_state("s", restored, expected_version=restored.version)
    assert (await state_store.load_state("s")).messages == [*messages(2), {"new": 1}]


async def test_id_has_the_documented_form(state_store: Any) -> None:
    await state_store.save_state("s", state())
    made = await state_store.create_checkpoint("s", metadata={"why": "test"})
    assert re.fullmatch(r"cpv1-s-s7-t\d{13}-[0-9a-f]{6}", made.id)
    assert f"-t{made.created_at}-" in made.id
    assert (made.session_id, made.step_count, made.status, made.message_count) == ("s", 7, "running", 4)
    assert (made.metadata, made.version) == ({"why": "test"}, 1)
    loaded = await state_store.get_checkpoint("s", made.id)
    assert loaded.state == await state_store.load_state("s")
    loaded.loaded_state = None
    assert loaded == made


async def test_a_checkpoint_that_was_not_loaded_says_so_when_its_state_is_asked_for(state_store: Any) -> None:
    await state_store.save_state("s", state())
    with pytest.raises(CheckpointStateError, match="not loaded"):
        _ = (await state_store.create_checkpoint("s")).state


async def test_latest_is_the_newest(state_store: Any) -> None:
    await state_store.save_state("s", state())
    assert await state_store.get_latest_checkpoint("s") is None
    first = await state_store.create_checkpoint("s")
    assert (await state_store.get_latest_checkpoint("s")).id == first.id
    await state_store.update_status("s", "paused")
    second = await state_store.create_checkpoint("s")
    latest = await state_store.get_latest_checkpoint("s")
    assert latest.id == second.id
    assert latest.state.status == "paused"


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_pages_are_newest_first_and_the_cursor_survives_insertions(state_store: Any, limit: int) -> None:
    await state_store.save_state("s", state())
    made = [(await state_store.create_checkpoint("s")).id for _ in range(7)]
    found: list[str] = []
    cursor, added = None, 0
    while True:
        page = await state_store.list_checkpoints("s", limit=limit, cursor=cursor)
        assert page.total == 7 + added
        assert len(page.items) <= limit
        found += [item.id for item in page.items]
        assert page.has_more is (page.cursor is not None)
        cursor = page.cursor
        if cursor is None:
            break
        await state_store.create_checkpoint("s")
        added += 1
    assert found == made[::-1]


async def test_a_cursor_survives_the_deletion_of_what_it_pointed_at(state_store: Any) -> None:
    await state_store.save_state("s", state())
    made = [(await state_store.create_checkpoint("s")).id for _ in range(4)]
    page = await state_store.list_checkpoints("s", limit=2)
    await state_store.delete_checkpoints("s", keep_last=1)
    assert await state_store.list_checkpoints("s", cursor=page.cursor) == ([], None, False, 1)
    assert [item.id for item in page.items] == made[:1:-1]


async def test_cursor_of_another_session_or_none_at_all_is_refused(state_store: Any) -> None:
    for session in ("s", "t"):
        await state_store.create_session(session, agent_type="a")
        for _ in range(3):
            await state_store.create_checkpoint(session)
    cursor = (await state_store.list_checkpoints("t", limit=1)).cursor
    for bad in (cursor, "", "x", "日本", "!!!!", 5, b"abc", "MTIz", "LTE6cw"):
        with pytest.raises(InvalidArgumentError):
            await state_store.list_checkpoints("s", cursor=bad)
    assert len((await state_store.list_checkpoints("t", cursor=cursor)).items) == 2


async def test_checkpoints_of_one_session_are_not_those_of_another(state_store: Any) -> None:
    for session in ("s", "t"):
        await state_store.create_session(session, agent_type="a")
    made = await state_store.create_checkpoint("s")
    assert await state_store.get_checkpoint("t", made.id) is None
    with pytest.raises(CheckpointNotFoundError):
        await state_store.restore_checkpoint("t", made.id)
    assert (await state_store.list_checkpoints("t")).total == 0
    assert await state_store.get_checkpoint("s", f"{made.id}:state") is None


async def test_only_the_newest_are_kept_where_there_is_a_maximum(state_stores: Callable[..., Any]) -> None:
    store = state_stores(max_checkpoints=3)
    await store.save_state("s", state())
    made = []
    for n in range(6):
        made.append((await store.create_checkpoint("s")).id)
        await store.append_messages("s", [{"n": n}])
    page = await store.list_checkpoints("s")
    assert [item.id for item in page.items] == made[:2:-1]
    assert page.total == 3
    assert await store.get_checkpoint("s", made[2]) is None
    assert (await store.get_checkpoint("s", made[3])).state.messages == [*messages(4), {"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("keep", [0, 1, 2, 5, 9])
async def test_deletion_keeps_the_newest(state_store: Any, keep: int) -> None:
    await state_store.save_state("s", state())
    made = []
    for n in range(5):
        made.append((await state_store.create_checkpoint("s")).id)
        await state_store.save_state("s", AgentState("s", "a", messages=[{"n": n}]))
    assert await state_store.delete_checkpoints("s", keep_last=keep) == max(0, 5 - keep)
    left = (await state_store.list_checkpoints("s")).items
    assert [item.id for item in left] == made[::-1][:keep]
    for item in left:
        n = made.index(item.id)
        expected = messages(4) if n == 0 else [{"n": n - 1}]
        assert (await state_store.get_checkpoint("s", item.id)).state.messages == expected
    assert (await state_store.load_state("s")).messages == [{"n": 4}]


async def test_restoring_what_is_not_there_changes_nothing(state_store: Any) -> None:
    await state_store.save_state("s", state())
    before = await state_store.load_state("s")
    with pytest.raises(CheckpointNotFoundError):
        await state_store.restore_checkpoint("s", "cpv1-s-s0-t0-abcdef")
    assert await state_store.load_state("s") == before


async def test_checkpoints_made_at_once_are_all_there(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].save_state("s", state())
    made = await asyncio.gather(*(stores[n % 3].create_checkpoint("s") for n in range(60)))
    assert len({each.id for each in made}) == 60
    listed = (await stores[0].list_checkpoints("s", limit=100)).items
    assert [each.ordinal for each in listed] == list(range(60, 0, -1))
    assert {each.id for each in listed} == {each.id for each in made}


async def test_a_checkpoint_made_while_others_write_is_one_moment(state_stores: Callable[..., Any]) -> None:
    writer, other = state_stores(), state_stores()
    await writer.create_session("s", agent_type="a", initial_state={"n": 0})

    async def write() -> None:
        for n in range(1, 60):
            await writer.save_state(
                "s", AgentState("s", "a", step_count=n, custom_state={"n": n}, messages=messages(n % 7))
            )

    async def look() -> None:
        for _ in range(40):
            made = await other.create_checkpoint("s")
            seen = (await other.get_checkpoint("s", made.id)).state
            assert (seen.custom_state["n"], seen.messages) == (seen.step_count, messages(seen.step_count % 7))
            assert seen.version == made.version

    await asyncio.gather(write(), look())
