"""What usage adds up to: never wrong, whoever writes, deletes or reads at the same time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from helix_fast.errors import MalformedEntryError
from helix_fast.interfaces import UsageStore
from helix_fast.testing.contract.fixtures import MakeUsageStore
from helix_fast.testing.contract.usage_helpers import sub_agent, tokens, total
from helix_fast.usage.schema import TokenCounts, TokenUsage


async def test_no_usage_has_no_rollup(usage_store: UsageStore) -> None:
    assert await usage_store.get_rollup("s") is None
    assert await usage_store.get_rollup("s", include_sub_agents=True) is None


async def test_a_rollup_has_every_kind(usage_store: UsageStore) -> None:
    common = {"sessionId": "s", "stepCount": 1}
    await usage_store.record_entries(
        [
            tokens(timestamp=1000),
            tokens(timestamp=3000, model="claude", tokens={"prompt": 10, "completion": 5, "reasoning": 2, "cached": 4}),
            {**common, "kind": "tool", "toolName": "search", "durationMs": 12, "success": True, "timestamp": 2000},
            {**common, "kind": "tool", "toolName": "search", "durationMs": 8, "success": False, "timestamp": 2000},
            {**common, "kind": "custom", "type": "cost", "value": 0.25, "timestamp": 2000},
            {**common, "kind": "embedding", "timestamp": 2000},
            sub_agent("s", "child", timestamp=2000),
        ]
    )
    rollup = await usage_store.get_rollup("s")
    assert rollup is not None
    assert rollup.session_id == "s"
    assert (rollup.tokens.prompt, rollup.tokens.completion, rollup.tokens.reasoning) == (110, 55, 2)
    assert (rollup.tokens.cached, rollup.tokens.total) == (4, 165)
    assert {name: part.total for name, part in rollup.by_model.items()} == {"gpt-4o": 150, "claude": 15}
    tool = rollup.tool_stats.by_tool["search"]
    assert (tool.calls, tool.successes, tool.failures, tool.total_duration_ms) == (2, 1, 1, 20)
    assert rollup.tool_stats.total_calls == 2
    assert rollup.sub_agent_stats.by_type["researcher"].calls == 1
    assert rollup.custom["cost"].sum == 0.25
    assert rollup.other_kinds == {"embedding": 1}
    assert (rollup.entry_count, rollup.first_timestamp, rollup.last_timestamp) == (7, 1000, 3000)
    assert rollup.by_session is None


async def test_costs_are_stored_with_their_entries_and_add_up(usage_store: UsageStore) -> None:
    await usage_store.record_entry(tokens(id="1", cost=0.25))
    await usage_store.record_entry(tokens(id="1", cost=0.25))
    await usage_store.record_tokens("s", "claude", prompt=1, completion=1, cost=2)
    await usage_store.record_entry(tokens(id="3"))
    await usage_store.record_entry(sub_agent("s", "child"))
    await usage_store.record_entry(tokens("child", cost=0.5))
    assert [getattr(entry, "cost", None) for entry in await usage_store.get_entries("s")] == [0.25, 2, None, None]
    rollup = await usage_store.get_rollup("s", include_sub_agents=True)
    assert rollup is not None
    assert (rollup.tokens.cost, rollup.tokens.priced_calls, rollup.tokens.calls) == (2.75, 3, 4)
    assert {name: part.cost for name, part in rollup.by_model.items()} == {"gpt-4o": 0.75, "claude": 2}


@pytest.mark.parametrize("cost", [-1, -0.5, float("nan"), float("inf"), "1", True])
async def test_a_cost_that_is_no_number_from_0_is_refused(usage_store: UsageStore, cost: Any) -> None:
    for entry in (tokens(cost=cost), TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1), cost=cost)):
        with pytest.raises(MalformedEntryError):
            await usage_store.record_entry(entry)
    assert await usage_store.get_entry_count("s") == 0


async def test_a_rollup_is_the_callers_own(usage_store: UsageStore) -> None:
    await usage_store.record_entry(tokens())
    first = await usage_store.get_rollup("s")
    assert first is not None
    first.by_model["gpt-4o"].total = 0
    assert await total(usage_store) == 150


async def test_deletion_and_another_beginning_are_noticed(make_usage_store: MakeUsageStore) -> None:
    store, other = make_usage_store(), make_usage_store()
    await store.record_entries([tokens(id=str(n)) for n in range(5)])
    assert await total(store) == 750
    await other.delete("s")
    assert await total(store) is None
    await other.record_entries([tokens(id=str(n)) for n in range(5)])
    assert await total(store) == 750
    await other.delete("s")
    # The same length and the same last entry, but other entries before it
    entries = [tokens(id=str(n), tokens={"total": 1}) for n in range(4)]
    await other.record_entries([*entries, tokens(id="4")])
    assert await total(store) == 154
    await other.delete("s")
    await other.record_entry(tokens(id="0", tokens={"total": 7}))
    assert await total(store) == 7


async def test_another_beginning_with_the_same_first_and_last_entry_is_noticed(
    make_usage_store: MakeUsageStore,
) -> None:
    store, other = make_usage_store(), make_usage_store()
    await store.record_entries([tokens(id="1"), tokens(id="2"), tokens(id="3")])
    assert await total(store) == 450
    await other.delete("s")
    await other.record_entries([tokens(id="1"), tokens(id="2", tokens={"total": 1}), tokens(id="3")])
    assert await total(store) == 301


async def test_concurrent_rollups_count_nothing_twice(make_usage_store: MakeUsageStore) -> None:
    store, other = make_usage_store(), make_usage_store()
    recorded = 0
    for size in (1, 30, 3, 200):
        await other.record_entries([tokens() for _ in range(size)])
        recorded += size
        assert set(await asyncio.gather(*(total(store) for _ in range(20)))) == {150 * recorded}


async def test_sums_stay_right_while_others_write_delete_and_read(make_usage_store: MakeUsageStore) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    stores = [make_usage_store(rollup_sessions=capacity) for capacity in (10, 1, 0)]
    sums = dict.fromkeys("abc", 0)
    for step in range(300):
        session, store = choose.choice("abc"), choose.choice(stores)
        action = choose.random()
        if action < 0.1:
            await store.delete(session)
            sums[session] = 0
        elif action < 0.6:
            counts = [choose.randrange(1, 100) for _ in range(choose.randrange(1, 5))]
            await store.record_entries([tokens(session, tokens={"total": count}) for count in counts])
            sums[session] += sum(counts)
        else:
            found = await asyncio.gather(*(total(one, session) for one in stores for _ in range(2)))
            assert {value or 0 for value in found} == {sums[session]}, f"seed {seed}, step {step}"


MIXED: list[Any] = [
    tokens(tokens={"prompt": 2**70, "completion": 1, "reasoning": 2, "cached": 3}),
    {"kind": "tool", "sessionId": "s", "stepCount": 1, "toolName": "search", "durationMs": 12.5, "success": False},
    {"kind": "custom", "sessionId": "s", "stepCount": 1, "type": "cost", "value": 0.1},
    {"kind": "custom", "sessionId": "s", "stepCount": 1, "type": "credits", "value": -(2**70)},
    {"kind": "embedding", "sessionId": "s", "stepCount": 1, "timestamp": 5},
    sub_agent("s", "child"),
]


async def test_what_others_have_added_up_is_the_same_to_the_last_digit(make_usage_store: MakeUsageStore) -> None:
    recording, knowing = make_usage_store(), make_usage_store()
    for size in (200, 1, 150, 7):
        await recording.record_entries(MIXED * size)
        known = await knowing.get_rollup("s")
        for reading in (make_usage_store(), make_usage_store()):
            for session_id in ("s", "s"):
                assert await reading.get_rollup(session_id) == known


async def test_what_others_have_added_up_of_what_was_deleted_is_forgotten(make_usage_store: MakeUsageStore) -> None:
    recording = make_usage_store()
    entries = [tokens(id=str(n)) for n in range(1200)]
    for count in (7, 8):
        await recording.record_entries(entries)
        assert await total(make_usage_store()) == 150 * 1200
        await recording.delete("s")
        assert await total(make_usage_store()) is None
        # as many of them, the first and the last as before
        others = [tokens(id=str(n), tokens={"total": count}) for n in range(1, 1199)]
        await recording.record_entries([entries[0], *others, entries[-1]])
        assert await total(make_usage_store()) == 300 + 1198 * count
        await recording.delete("s")


async def test_sums_stay_right_while_long_lists_come_and_go(make_usage_store: MakeUsageStore) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    kept = [make_usage_store(), make_usage_store(rollup_sessions=0)]
    expected = 0
    for step in range(40):
        store = choose.choice(kept)
        if choose.random() < 0.15:
            await store.delete("s")
            expected = 0
        else:
            count, size = choose.randrange(1, 100), choose.choice([1, 40, 499, 500, 501, 1300])
            await store.record_entries([tokens(tokens={"total": count})] * size)
            expected += count * size
        found = await asyncio.gather(*(total(one) for one in (*kept, make_usage_store(), make_usage_store())))
        assert {value or 0 for value in found} == {expected}, f"seed {seed}, step {step}"


async def test_a_list_of_several_pages_adds_up(usage_store: UsageStore) -> None:
    await usage_store.record_entries([tokens(id=str(n)) for n in range(12_000)])
    assert await total(usage_store) == 12_000 * 150
    assert await total(usage_store) == 12_000 * 150


# trees


async def test_a_tree_of_long_lists_is_the_same_for_who_has_read_none(make_usage_store: MakeUsageStore) -> None:
    store = make_usage_store()
    for name, child in (("root", "a"), ("a", "b")):
        await store.record_entries([sub_agent(name, child), *(tokens(name) for _ in range(700))])
    await store.record_entries([tokens("b") for _ in range(1500)])
    known = await store.get_rollup("root", include_sub_agents=True)
    assert known is not None
    assert known.tokens.total == 2900 * 150
    assert await make_usage_store().get_rollup("root", include_sub_agents=True) == known
    await store.record_entries([tokens("b"), sub_agent("b", "c")])
    for reading in (make_usage_store(), store):
        rollup = await reading.get_rollup("root", include_sub_agents=True)
        assert rollup is not None
        assert (rollup.tokens.total, rollup.missing_sessions) == (2901 * 150, ["c"])


async def record_tree(store: UsageStore, edges: list[tuple[str, str]], names: set[str] | None = None) -> None:
    """One entry of 150 tokens in each session of the tree, and the subagent entries that make it one."""
    children: dict[str, list[str]] = {name: [] for edge in edges for name in edge}
    for parent, child in edges:
        children[parent].append(child)
    await asyncio.gather(
        *(
            store.record_entries([tokens(name), *(sub_agent(name, child) for child in children.get(name, ()))])
            for name in sorted(children if names is None else names)
        )
    )


async def test_sub_agents_are_left_out_unless_asked_for(usage_store: UsageStore) -> None:
    await record_tree(usage_store, [("root", "a")])
    assert await total(usage_store, "root") == 150
    assert await total(usage_store, "root", include_sub_agents=True) == 300


async def test_a_tree_of_any_shape_counts_each_session_once(usage_store: UsageStore) -> None:
    edges = [
        ("root", "a"), ("root", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("d", "root"), ("d", "d"), ("a", "c"),
        ("root", "d"),
    ]  # fmt: skip
    await record_tree(usage_store, edges)
    rollup = await usage_store.get_rollup("root", include_sub_agents=True)
    assert rollup is not None
    assert rollup.tokens.total == 5 * 150
    assert rollup.by_session is not None
    assert {name: part.tokens.total for name, part in rollup.by_session.items()} == dict.fromkeys(
        ["root", "a", "b", "d", "c"], 150
    )
    assert next(iter(rollup.by_session)) == "root"
    assert rollup.sub_agent_stats.total_calls == len(edges)
    assert rollup.entry_count == sum(part.entry_count for part in rollup.by_session.values())
    assert rollup.missing_sessions == []


async def test_missing_sessions_are_skipped_and_named(usage_store: UsageStore) -> None:
    await record_tree(usage_store, [("root", "a"), ("root", "gone"), ("a", "lost")], {"root", "a"})
    await usage_store.record_entry(tokens("root", kind="subagent", subSessionId="gone"))
    rollup = await usage_store.get_rollup("root", include_sub_agents=True)
    assert rollup is not None
    assert rollup.tokens.total == 300
    assert rollup.missing_sessions == ["gone", "lost"]
    assert list(rollup.by_session or {}) == ["root", "a"]


async def test_a_chain_is_followed_to_any_depth(usage_store: UsageStore) -> None:
    await record_tree(usage_store, [(f"n{depth}", f"n{depth + 1}") for depth in range(60)])
    assert await total(usage_store, "n0", include_sub_agents=True) == 61 * 150


async def test_a_tree_is_right_after_a_change_below(make_usage_store: MakeUsageStore) -> None:
    store, other = make_usage_store(), make_usage_store()
    await record_tree(store, [("root", "a"), ("a", "b")])
    assert await total(store, "root", include_sub_agents=True) == 450
    await other.record_entry(tokens("b"))
    await other.delete("a")
    await other.record_entry(sub_agent("root", "b"))
    assert await total(store, "root", include_sub_agents=True) == 450
    await other.delete("b")
    assert await total(store, "root", include_sub_agents=True) == 150
