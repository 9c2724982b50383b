"""The conversation: appended, paged, truncated, saved whole; and references to sub-agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from helix_fast.errors import ConcurrentUpdateError, SubAgentRefNotFoundError
from helix_fast.state.schema import AgentState, SubAgentRef, SubAgentRefUpdate


def message(n: int) -> dict[str, Any]:
    return {"role": "user", "content": f"message {n}"}


def messages(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [message(n) for n in range(start, start + count)]


async def stored(store: Any) -> list[Any]:
    state = await store.load_state("s")
    assert len(state.messages) == await store.get_message_count("s")
    return list(state.messages)


async def test_appended_messages_follow_those_stored(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    assert await state_store.append_messages("s", messages(2)) == 2
    assert await state_store.append_messages("s", []) == 2
    assert await state_store.append_messages("s", messages(3, 2)) == 5
    assert await stored(state_store) == messages(5)


async def test_appends_of_many_tasks_are_all_there_and_each_in_one_piece(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(3)]
    await stores[0].create_session("s", agent_type="a")
    await asyncio.gather(*(stores[n % 3].append_messages("s", messages(3, n * 3)) for n in range(60)))
    found = await stored(stores[0])
    assert sorted(found[i]["content"] for i in range(0, 180, 3)) == sorted(message(n * 3)["content"] for n in range(60))
    for i in range(0, 180, 3):
        first = int(found[i]["content"].split()[1])
        assert found[i : i + 3] == messages(3, first)


async def test_a_message_may_be_a_struct(state_store: Any) -> None:
    class Note(msgspec.Struct, rename="camel"):
        tool_name: str

    await state_store.create_session("s", agent_type="a")
    await state_store.append_messages("s", [Note("t")])
    assert await stored(state_store) == [{"toolName": "t"}]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("total", [0, 1, 2, 5, 7])
async def test_pages_are_slices_of_the_conversation(state_store: Any, total: int, newest_first: bool) -> None:
    await state_store.save_state("s", AgentState("s", "a", messages=messages(total)))
    expected = messages(total)[::-1] if newest_first else messages(total)
    for offset in range(total + 2):
        for limit in range(1, total + 3):
            page = await state_store.get_messages("s", offset=offset, limit=limit, newest_first=newest_first)
            assert page.messages == expected[offset : offset + limit]
            assert page.total == total
            assert page.has_more is (offset + limit < total)


async def test_a_page_has_50_messages_and_at_most_10_000(state_store: Any) -> None:
    await state_store.save_state("s", AgentState("s", "a", messages=messages(10_005)))
    assert (await state_store.get_messages("s")).messages == messages(50)
    page = await state_store.get_messages("s", limit=10_000)
    assert (page.messages, page.has_more) == (messages(10_000), True)


async def test_thinking_is_left_out_where_it_is_not_wanted(state_store: Any) -> None:
    full = [
        {"role": "assistant", "content": "x", "thinking": {"content": "hm"}},
        {"role": "assistant", "content": [{"type": "thinking", "t": 1}, {"type": "text", "text": "x"}, "plain"]},
        {"role": "user", "content": "thinking"},
    ]
    await state_store.save_state("s", AgentState("s", "a", messages=full))
    assert (await state_store.get_messages("s")).messages == full
    page = await state_store.get_messages("s", include_thinking=False)
    assert page.messages == [
        {"role": "assistant", "content": "x"},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}, "plain"]},
        {"role": "user", "content": "thinking"},
    ]
    assert page.total == 3


@pytest.mark.parametrize("with_checkpoint", [False, True])
async def test_truncation_keeps_the_oldest(state_store: Any, with_checkpoint: bool) -> None:
    await state_store.save_state("s", AgentState("s", "a", messages=messages(6)))
    checkpoint = await state_store.create_checkpoint("s") if with_checkpoint else None
    await state_store.truncate_messages("s", 9)
    assert await stored(state_store) == messages(6)
    await state_store.truncate_messages("s", 4)
    assert await stored(state_store) == messages(4)
    assert await state_store.append_messages("s", [message(9)]) == 5
    assert await stored(state_store) == [*messages(4), message(9)]
    await state_store.truncate_messages("s", 0)
    assert await stored(state_store) == []
    assert await state_store.append_messages("s", messages(2)) == 2
    assert await stored(state_store) == messages(2)
    if checkpoint:
        assert (await state_store.get_checkpoint("s", checkpoint.id)).state.messages == messages(6)


@pytest.mark.parametrize("keep", [0, 1, 1999, 2000, 2001, 2500])
@pytest.mark.parametrize("same_store", [True, False])
async def test_a_truncated_conversation_is_saved_like_any_other(
    state_stores: Callable[..., Any], keep: int, same_store: bool
) -> None:
    store = state_stores()
    await store.save_state("s", AgentState("s", "a", messages=messages(2600)))
    await store.truncate_messages("s", keep)
    if not same_store:
        store = state_stores()
    for new in (messages(keep), [*messages(keep), message(-1)], [*messages(keep), message(-1), message(-2)]):
        await store.save_state("s", AgentState("s", "a", messages=new))
        assert await stored(store) == new


SAVES: list[tuple[str, list[dict[str, Any]]]] = [
    ("the same", messages(4)),
    ("one more", messages(5)),
    ("many more", messages(3000)),
    ("fewer", messages(3)),
    ("none", []),
    ("the last changed", [*messages(3), message(99)]),
    ("the first changed", [message(99), *messages(3, 1)]),
    ("changed and more", [message(99), *messages(5, 1)]),
    ("keys in another order", [*messages(3), {"content": "message 3", "role": "user"}]),
]


@pytest.mark.parametrize(("name", "after"), SAVES, ids=[name for name, _ in SAVES])
@pytest.mark.parametrize("knows", ["saved it", "loaded it", "knows nothing", "knows an old state"])
async def test_what_is_saved_is_what_is_stored(
    state_stores: Callable[..., Any], name: str, after: list[Any], knows: str
) -> None:
    first, second = state_stores(), state_stores()
    if knows == "knows an old state":
        await second.save_state("s", AgentState("s", "a", messages=messages(2)))
        await second.create_checkpoint("s")
    await first.save_state("s", AgentState("s", "a", messages=messages(4)))
    store = first if knows == "saved it" else second
    if knows == "loaded it":
        await second.load_state("s")
    await store.save_state("s", AgentState("s", "a", messages=after))
    assert await stored(first) == after
    assert await stored(state_stores()) == after


async def test_a_large_conversation_is_saved_by_a_store_that_has_not_seen_it(state_stores: Callable[..., Any]) -> None:
    long = [{"content": "x" * 1000, "n": n} for n in range(200)]
    for after in (long, [*long, {"n": 200}], long[:150], [{"n": -1}, *long]):
        await state_stores().save_state("s", AgentState("s", "a", messages=after))
        assert await stored(state_stores()) == after


async def test_other_messages_of_the_same_number_are_not_taken_for_those_last_seen(
    state_stores: Callable[..., Any],
) -> None:
    first, second = state_stores(), state_stores()
    await second.save_state("s", AgentState("s", "a", messages=messages(4)))
    await first.save_state("s", AgentState("s", "a", messages=messages(4, 10)))
    await second.save_state("s", AgentState("s", "a", messages=messages(5)))
    assert await stored(first) == messages(5)


async def test_messages_changed_in_place_are_saved(state_store: Any) -> None:
    await state_store.save_state("s", AgentState("s", "a", messages=messages(3)))
    state = await state_store.load_state("s")
    state.messages[0]["content"] = "changed"
    await state_store.save_state("s", state)
    assert await stored(state_store) == [{"role": "user", "content": "changed"}, *messages(2, 1)]


async def test_save_after_another_store_deleted_the_session(state_stores: Callable[..., Any]) -> None:
    first, second = state_stores(), state_stores()
    await first.save_state("s", AgentState("s", "a", messages=messages(3)))
    await second.delete_session("s")
    assert await first.save_state("s", AgentState("s", "a", messages=messages(4))) == 1
    assert await stored(second) == messages(4)


async def test_saves_that_race_with_appends_lose_nothing_of_their_own(state_stores: Callable[..., Any]) -> None:
    saver, appender = state_stores(), state_stores()
    await saver.create_session("s", agent_type="a")

    async def append() -> None:
        for n in range(100):
            await appender.append_messages("s", [{"appended": n}])

    async def save() -> None:
        for n in range(100):
            mine = messages(n + 1)
            await saver.save_state("s", AgentState("s", "a", messages=mine))
            found = (await saver.load_state("s")).messages
            assert found[: n + 1] == mine  # what was appended after it may follow
            assert all("appended" in each for each in found[n + 1 :])

    await asyncio.gather(append(), save())


# --- sub-agents


async def test_refs_keep_their_order_and_are_replaced_in_their_place(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    refs = [SubAgentRef(f"sub {n}", "w", tool_call_id=f"c{n}") for n in range(200)]
    await state_store.add_sub_agent_refs("s", refs[:120])
    await state_store.add_sub_agent_refs("s", refs[120:])
    assert await state_store.get_sub_agent_refs("s") == refs
    refs[5] = SubAgentRef("sub 5", "other", status="completed", result=[1], extra={"k": {}})
    await state_store.add_sub_agent_refs("s", [refs[5]])
    assert await state_store.get_sub_agent_refs("s") == refs
    state = await state_store.load_state("s")
    assert state.sub_agent_refs == refs
    state.sub_agent_refs.reverse()
    await state_store.save_state("s", state)
    assert await state_store.get_sub_agent_refs("s") == refs[::-1]


async def test_an_update_changes_only_what_it_names(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    await state_store.add_sub_agent_refs("s", [{"subSessionId": "q", "agentType": "w", "toolCallId": "c", "future": 1}])
    await state_store.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="failed", error="boom"))
    await state_store.update_sub_agent_ref("s", {"subSessionId": "q", "result": None, "error": None, "more": []})
    expected = SubAgentRef("q", "w", "c", "failed", None, None, {"future": 1, "more": []})
    assert await state_store.get_sub_agent_refs("s") == [expected]


async def test_updates_of_different_fields_at_once_are_both_there(
    state_stores: Callable[..., Any], thorough: bool
) -> None:
    count = 100 if thorough else 30  # each waits for its turn: what that costs grows with the square
    stores = [state_stores() for _ in range(4)]
    await stores[0].create_session("s", agent_type="a")
    await stores[0].add_sub_agent_refs("s", [SubAgentRef("q", "w")])
    updates = [{"subSessionId": "q", f"field{n}": n} for n in range(count)]
    await asyncio.gather(*(stores[n % 4].update_sub_agent_ref("s", update) for n, update in enumerate(updates)))
    (ref,) = await stores[0].get_sub_agent_refs("s")
    assert ref.extra == {f"field{n}": n for n in range(count)}


async def test_an_update_of_a_ref_that_is_not_there(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    with pytest.raises(SubAgentRefNotFoundError):
        await state_store.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="x"))
    assert await state_store.get_sub_agent_refs("s") == []


async def test_popped_messages_are_the_newest_and_gone(state_stores: Callable[..., Any]) -> None:
    store, other = state_stores(), state_stores()
    await store.create_session("s", agent_type="a")
    assert await store.pop_messages("s") == []
    assert (await store.load_state("s")).version == 1
    await store.append_messages("s", [{"n": n} for n in range(6)])
    checkpoint = await store.create_checkpoint("s")
    assert await other.pop_messages("s") == [{"n": 5}]
    assert await store.pop_messages("s", 2) == [{"n": 3}, {"n": 4}]
    assert await store.get_message_count("s") == 3
    assert await other.append_messages("s", [{"n": 9}]) == 4
    assert await store.pop_messages("s", 100) == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 9}]
    assert (await other.load_state("s")).messages == []
    assert len((await store.get_checkpoint("s", checkpoint.id)).state.messages) == 6


async def test_a_message_is_popped_once_by_many(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores() for _ in range(4)]
    await stores[0].save_state("s", {"agentType": "a", "messages": [{"n": n} for n in range(30)]})
    popped = await asyncio.gather(*(stores[n % 4].pop_messages("s") for n in range(40)))
    assert sorted(message["n"] for page in popped for message in page) == list(range(30))


async def test_a_pop_at_another_version_takes_nothing(state_store: Any) -> None:
    await state_store.save_state("s", {"agentType": "a", "messages": [{"n": 0}]})
    with pytest.raises(ConcurrentUpdateError) as caught:
        await state_store.pop_messages("s", expected_version=4)
    assert (caught.value.expected, caught.value.actual) == (4, 1)
    assert await state_store.pop_messages("s", expected_version=1) == [{"n": 0}]
