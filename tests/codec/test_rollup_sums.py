"""What entries add up to, on each codec."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.usage.rollup_schema import CallTotals, CustomTotals, TokenTotals, UsageRollup, build_rollup
from tests.codec.twins import on_each_twin


def summed(codec: Any, *entries: dict[str, Any] | bytes) -> UsageRollup:
    rollup = codec.Rollup()
    rollup.add([entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries])
    return build_rollup("s", rollup.export())


def tokens(model: str = "m", **counts: Any) -> dict[str, Any]:
    return {"kind": "tokens", "model": model, "tokens": counts}


@on_each_twin
@pytest.mark.parametrize(
    ("counts", "total", "reasoning_inside"),
    [
        ({"prompt": 12, "completion": 300, "cached": 5000}, 5312, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "total": 3800}, 3800, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "reasoning": 100, "total": 3800}, 3800, 100),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "reasoning": 100, "total": 3900}, 3900, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "reasoning": 100, "total": 2400}, 2400, 0),
        ({"prompt": 5, "completion": 5, "cached": 10, "reasoning": 20}, 40, 0),
        ({"prompt": 100, "completion": 50}, 150, 0),
        ({"prompt": 100, "completion": 50, "total": 150}, 150, 0),
        ({"prompt": 100, "completion": 50, "reasoning": 20}, 150, 20),
        ({"prompt": 100, "completion": 50, "reasoning": 60}, 210, 0),
        ({"prompt": 100, "completion": 50, "reasoning": 20, "total": 150}, 150, 20),
        ({"prompt": 100, "completion": 50, "reasoning": 20, "total": 170}, 170, 0),
        ({"prompt": 100, "cached": 80}, 100, 0),
        ({"total": 7}, 7, 0),
        ({}, 0, 0),
        ({"prompt": None, "completion": 3, "total": None}, 3, 0),
    ],
    ids=repr,
)
def test_total_where_it_is_absent(codec: Any, counts: dict[str, Any], total: int, reasoning_inside: int) -> None:
    rollup = summed(codec, tokens(**counts))
    assert rollup.tokens.total == total
    assert rollup.tokens.reasoning_in_completion == reasoning_inside


@on_each_twin
@pytest.mark.parametrize(
    ("counts", "prompt", "cached", "other"),
    [
        ({"prompt": 12, "completion": 300, "cached": 5000}, 5012, 5000, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "total": 3800}, 3500, 1500, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "total": 3799}, 2000, 1500, 1499),
        ({"prompt": 2000, "completion": 300, "cached": 1500}, 2000, 1500, 0),
        ({"prompt": 2000, "completion": 300, "cached": 1500, "total": 2300}, 2000, 1500, 0),
        ({"prompt": 12, "completion": 300, "cached": 5000, "total": 312}, 5012, 5000, -5000),
        ({"cached": 10**18 - 1, "prompt": 10**18 - 2}, 2 * 10**18 - 3, 10**18 - 1, 0),
    ],
    ids=repr,
)
def test_cached_tokens_beside_the_prompt(
    codec: Any, counts: dict[str, int], prompt: int, cached: int, other: int
) -> None:
    """As Anthropic reports them. What cannot be part of the prompt, or has room in the total, stands beside it."""
    found = summed(codec, tokens(**counts)).tokens
    assert (found.prompt, found.cached, found.cached_in_prompt) == (prompt, cached, cached)
    buckets = found.buckets()
    assert (buckets["prompt"], buckets["cached"], buckets["other"]) == (prompt - cached, cached, other)


COUNTS = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 100) for name in ("prompt", "completion", "reasoning", "cached", "total")}
)


@on_each_twin
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), COUNTS), max_size=8))
def test_buckets_never_overlap(codec: Any, calls: list[tuple[str, dict[str, int]]]) -> None:
    rollup = summed(codec, *(tokens(model, **counts) for model, counts in calls))
    assert sum(rollup.tokens.buckets().values()) == rollup.tokens.total
    assert rollup.tokens.calls == len(calls)
    for name in ("completion", "reasoning", "cached"):
        assert getattr(rollup.tokens, name) == sum(counts.get(name, 0) for _model, counts in calls)
    for field in TokenTotals.__struct_fields__:
        parts = [getattr(part, field) for part in rollup.by_model.values()]
        assert sum(parts) == getattr(rollup.tokens, field)


@on_each_twin
@given(COUNTS)
def test_each_part_stands_inside_or_beside_its_whole(codec: Any, counts: dict[str, int]) -> None:
    found = summed(codec, tokens(**counts)).tokens
    prompt, completion, reasoning, cached = (
        counts.get(name, 0) for name in ("prompt", "completion", "reasoning", "cached")
    )
    beside = found.prompt - prompt
    outside = reasoning - found.reasoning_in_completion
    assert beside in {0, cached}
    assert outside in {0, reasoning}
    assert beside == cached or cached <= prompt
    assert outside == reasoning or reasoning <= completion
    assert min(found.buckets()[name] for name in ("prompt", "cached", "completion", "reasoning")) >= 0
    if "total" not in counts:
        assert found.total == prompt + completion + beside + outside
        assert (beside > 0, outside > 0) == (cached > prompt, reasoning > completion)
    elif cached <= prompt and reasoning <= completion:
        # the total explains as much of them as fits
        room = counts["total"] - prompt - completion
        assert beside + outside == max(
            [part for part in (0, reasoning, cached, reasoning + cached) if part <= room], default=0
        )


@on_each_twin
def test_tools_by_name_with_outcomes_and_durations(codec: Any) -> None:
    rollup = summed(
        codec,
        {"kind": "tool", "toolName": "search", "durationMs": 10, "success": True},
        {"kind": "tool", "toolName": "search", "durationMs": 2.5, "success": False, "error": "no"},
        {"kind": "tool", "toolName": "read", "error": "no"},
        {"kind": "tool", "toolName": "read", "durationMs": 5},
    )
    assert rollup.tool_stats.by_tool["search"] == CallTotals(
        calls=2, successes=1, failures=1, total_duration_ms=12.5, min_duration_ms=2.5, max_duration_ms=10
    )
    assert rollup.tool_stats.by_tool["read"] == CallTotals(
        calls=2, successes=1, failures=1, total_duration_ms=5, min_duration_ms=5, max_duration_ms=5
    )
    assert (rollup.tool_stats.total_calls, rollup.tool_stats.successes, rollup.tool_stats.failures) == (4, 2, 2)
    assert rollup.tool_stats.total_duration_ms == 17.5


@on_each_twin
def test_sub_agents_by_type_and_their_sessions_in_order(codec: Any) -> None:
    entries = [
        {"kind": "subagent", "subSessionId": name, "agentType": kind, "durationMs": 1, "success": True}
        for name, kind in [("b", "x"), ("a", "y"), ("b", "x")]
    ]
    rollup = codec.Rollup()
    rollup.add([json.dumps(entry).encode() for entry in entries])
    assert rollup.export()[-1] == ["b", "a"]
    built = build_rollup("s", rollup.export())
    assert built.sub_agent_stats.total_calls == 3
    assert built.sub_agent_stats.by_type["x"].calls == 2


@on_each_twin
def test_custom_by_type_with_count_sum_min_and_max(codec: Any) -> None:
    rollup = summed(
        codec,
        *({"kind": "custom", "type": "cost", "value": value} for value in (3, -1, 0.5)),
        {"kind": "custom", "type": "pages", "value": 7},
    )
    assert rollup.custom == {
        "cost": CustomTotals(count=3, sum=2.5, min=-1, max=3),
        "pages": CustomTotals(count=1, sum=7, min=7, max=7),
    }
    assert isinstance(rollup.custom["pages"].sum, int)


@on_each_twin
def test_costs_add_up_by_model_and_are_counted(codec: Any) -> None:
    rollup = summed(
        codec,
        {**tokens("a", prompt=1), "cost": 0.25},
        {**tokens("a", prompt=1), "cost": 1},
        {**tokens("a", prompt=1), "cost": None},
        b'{"kind":"tokens","model":"b","tokens":{"prompt":1},"cost":1.5e-05}',
        tokens("c", prompt=1),
    )
    found = {name: (part.cost, part.priced_calls) for name, part in rollup.by_model.items()}
    assert found == {"a": (1.25, 2), "b": (0.000015, 1), "c": (0, 0)}
    assert (rollup.tokens.cost, rollup.tokens.priced_calls, rollup.tokens.calls) == (1.250015, 3, 5)


@pytest.mark.slow
@on_each_twin
def test_a_hundred_thousand_small_prices_do_not_drift(codec: Any) -> None:
    rollup = codec.Rollup()
    rollup.add([b'{"kind":"custom","type":"cost","value":0.1}'] * 100_000)
    rollup.add([b'{"kind":"tokens","model":"m","tokens":{},"cost":0.1}'] * 100_000)
    found = build_rollup("s", rollup.export())
    assert (found.custom["cost"].sum, found.tokens.cost) == (10_000, 10_000)


@on_each_twin
def test_integers_beyond_64_bits_add_up_exactly(codec: Any) -> None:
    large = 2**64 + 1
    rollup = summed(
        codec,
        tokens(prompt=large, completion=10**18 - 1),
        tokens(prompt=2**62 - 1, completion=1),
        {"kind": "custom", "type": "c", "value": -(2**70)},
        {"kind": "custom", "type": "c", "value": 5},
        {"kind": "custom", "type": "c", "value": 2**70},
    )
    assert rollup.tokens.prompt == large + 2**62 - 1
    assert rollup.tokens.total == large + 2**62 - 1 + 10**18
    assert rollup.custom["c"] == CustomTotals(count=3, sum=5, min=-(2**70), max=2**70)


@on_each_twin
def test_sums_of_usual_integers_pass_64_bits_exactly(codec: Any) -> None:
    entry = json.dumps(tokens(prompt=10**18 - 1)).encode()
    rollup = codec.Rollup()
    for _ in range(4):
        rollup.add([entry] * 10)
    doubled = rollup.copy()
    doubled.merge(rollup)
    assert build_rollup("s", rollup.export()).tokens.prompt == 40 * (10**18 - 1)
    assert build_rollup("s", doubled.export()).tokens.prompt == 80 * (10**18 - 1)


@on_each_twin
@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"no json",
        b"[]",
        b'{"id":"x"}',
        b'{"kind":5}',
        b'{"kind":"tokens","model":"m"}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":-1}}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1.5}}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":true}}',
        b'{"kind":"tokens","model":5,"tokens":{}}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1},"cost":-0.5}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1},"cost":-1}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1},"cost":"1"}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1},"cost":1e999}',
        b'{"kind":"tokens","model":"m","tokens":{"prompt":1},"cost":true}',
        b'{"kind":"custom","type":"c"}',
        b'{"kind":"custom","type":"c","value":"5"}',
        b'{"kind":"custom","type":"c","value":1e999}',
        b'{"kind":"custom","type":"c","value":NaN}',
        b'{"kind":"tool","toolName":"t","durationMs":-1}',
        b'{"kind":"tool","toolName":"t","success":"yes"}',
        b'{"kind":"x","timestamp":"now"}',
        b'{"kind":"x","timestamp":1000000000000000000000}',
        b'{"kind":"x"} {}',
        b'{"kind":"x","a":"\xff"}',
        b'{"kind":"x","a":"\x01"}',
    ],
    ids=repr,
)
def test_what_cannot_be_counted_is_counted_as_malformed_and_in_no_sum(codec: Any, entry: bytes) -> None:
    rollup = summed(codec, tokens(prompt=1), entry, tokens(prompt=2))
    assert (rollup.entry_count, rollup.malformed_count, rollup.tokens.total) == (2, 1, 3)
    assert (rollup.custom, rollup.other_kinds, rollup.tool_stats.total_calls) == ({}, {}, 0)


@on_each_twin
def test_names_with_escapes_count_as_the_same_name(codec: Any) -> None:
    rollup = summed(
        codec,
        b'{"kind":"tokens","model":"gpt-4o \xc3\xa9","tokens":{"prompt":1}}',
        b'{"kind":"tokens","model":"gpt\\u002d4o \\u00e9","tokens":{"prompt":2}}',
        b'{"kind":"tok\\u0065ns","model":"half \\ud83d","tokens":{"prompt":4}}',
    )
    assert {name: part.prompt for name, part in rollup.by_model.items()} == {"gpt-4o é": 3, "half �": 4}


@on_each_twin
def test_of_a_key_that_comes_twice_the_last_counts(codec: Any) -> None:
    rollup = summed(codec, b'{"kind":"tokens","model":"a","tokens":{"prompt":1,"prompt":5},"model":"b"}')
    assert rollup.by_model["b"].prompt == 5


@on_each_twin
def test_unknown_kinds_are_counted_by_kind(codec: Any) -> None:
    rollup = summed(codec, {"kind": "embedding", "timestamp": 5}, {"kind": "embedding", "tokens": {"prompt": 9}})
    assert (rollup.other_kinds, rollup.entry_count, rollup.tokens.total) == ({"embedding": 2}, 2, 0)


@on_each_twin
def test_first_and_last_time(codec: Any) -> None:
    rollup = summed(codec, *({"kind": "x", "timestamp": time} for time in (5, 3, 9)), {"kind": "x"})
    assert (rollup.first_timestamp, rollup.last_timestamp) == (3, 9)
    assert summed(codec).first_timestamp is None


@on_each_twin
def test_many_names_are_kept_apart_in_the_order_of_their_first_entry(codec: Any) -> None:
    names = [f"model-{n}" for n in range(3000)]
    rollup = summed(codec, *(tokens(name, prompt=1) for name in names + names[::-1]))
    assert list(rollup.by_model) == names
    assert all(part.prompt == 2 for part in rollup.by_model.values())
