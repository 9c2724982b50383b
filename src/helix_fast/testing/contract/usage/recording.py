"""Recording usage: each entry once, all of a call or none, wrong ones refused before anything is sent."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Any

import pytest

from helix_fast.errors import InvalidArgumentError, InvalidIdError, MalformedEntryError
from helix_fast.interfaces import UsageStore
from helix_fast.testing.contract.fixtures import MakeUsageStore
from helix_fast.testing.contract.ids import every_subclass, plain
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.usage.schema import (
    CustomUsage,
    SubAgentUsage,
    TokenCounts,
    TokenUsage,
    ToolUsage,
    UnknownUsage,
    UsageSource,
)


async def test_the_reference_pages_entry_is_recorded_and_read_back(usage_store: UsageStore) -> None:
    assert await usage_store.record_entry(tokens("session-123")) is True
    (entry,) = await usage_store.get_entries("session-123")
    assert isinstance(entry, TokenUsage)
    assert entry.id
    assert (entry.kind, entry.session_id, entry.step_count, entry.model) == ("tokens", "session-123", 1, "gpt-4o")
    assert entry.timestamp == 1_700_000_000_000
    assert entry.source == UsageSource(type="agent", name="my-agent")
    assert entry.tokens == TokenCounts(prompt=100, completion=50, total=150)


@pytest.mark.parametrize(
    "entry",
    [
        TokenUsage(
            id="1", session_id="s", run_id="r", step_count=3, timestamp=5, model="m", tokens=TokenCounts(prompt=1)
        ),
        ToolUsage(id="1", session_id="s", timestamp=5, tool_name="t", tool_call_id="c", duration_ms=1.5, success=True),
        ToolUsage(id="1", session_id="s", timestamp=5, tool_name="t", error="failed"),
        SubAgentUsage(id="1", session_id="s", timestamp=5, sub_session_id="c", agent_type="a", duration_ms=7),
        CustomUsage(id="1", session_id="s", timestamp=5, type="pages", value=-3, unit="p", metadata={"a": [1, None]}),
    ],
    ids=lambda entry: entry.kind,
)
async def test_each_kind_comes_back_as_it_was(usage_store: UsageStore, entry: Any) -> None:
    assert await usage_store.record_entry(entry)
    assert await usage_store.get_entries("s") == [entry]


async def test_unknown_kinds_and_fields_survive_unchanged(usage_store: UsageStore) -> None:
    embedding = {
        "kind": "embedding",
        "id": "1",
        "sessionId": "s",
        "stepCount": 0,
        "timestamp": 7,
        "dims": [1, {"a": None}],
    }
    known = tokens(id="2", tokens={"prompt": 1, "audio": {"x": 2}}, tenant="t", source={"type": "agent", "zone": 3})
    await usage_store.record_entries([embedding, known])
    first, second = await usage_store.get_entries("s")
    assert isinstance(first, UnknownUsage)
    assert first.data == embedding
    assert (first.kind, first.session_id, first.dims) == ("embedding", "s", [1, {"a": None}])
    assert isinstance(second, TokenUsage)
    assert second.extra == {"tenant": "t"}
    assert second.tokens.extra == {"audio": {"x": 2}}
    assert second.source is not None
    assert second.source.extra == {"zone": 3}
    await usage_store.delete("s")
    await usage_store.record_entries([first, second])
    assert await usage_store.get_entries("s") == [first, second]


async def test_an_id_counts_once(usage_store: UsageStore) -> None:
    assert await usage_store.record_entry(tokens(id="a")) is True
    assert await usage_store.record_entry(tokens(id="a")) is False
    assert await usage_store.record_entry(tokens(id="b")) is True
    assert await usage_store.get_entry_count("s") == 2
    assert await total(usage_store) == 300


async def test_the_same_id_in_two_sessions_counts_in_both(usage_store: UsageStore) -> None:
    assert await usage_store.record_entry(tokens("s", id="a"))
    assert await usage_store.record_entry(tokens("t", id="a"))


async def test_a_bulk_call_counts_only_what_is_new(usage_store: UsageStore) -> None:
    await usage_store.record_entry(tokens(id="b"))
    assert await usage_store.record_entries([tokens(id=name) for name in "abcc"]) == 2
    assert [entry.id for entry in await usage_store.get_entries("s")] == ["b", "a", "c"]
    assert await usage_store.record_entries([tokens(id=name) for name in "abc"]) == 0
    assert await usage_store.record_entries([]) == 0


async def test_a_bulk_call_of_thousands_keeps_their_order(usage_store: UsageStore) -> None:
    entries = [tokens(id=str(n), stepCount=n) for n in range(9001)]
    assert await usage_store.record_entries(entries) == 9001
    assert await usage_store.record_entries(iter(entries)) == 0
    assert [entry.step_count for entry in await usage_store.get_entries("s")] == list(range(9001))


async def test_concurrent_calls_with_the_same_ids_count_once(make_usage_store: MakeUsageStore) -> None:
    stores = [make_usage_store() for _ in range(3)]
    recorded = await asyncio.gather(*(store.record_entry(tokens(id=str(n))) for store in stores for n in range(20)))
    assert sum(recorded) == 20
    assert await total(stores[0]) == 20 * 150


async def test_a_missing_time_is_the_time_of_recording_and_the_struct_stays_as_it_is(
    usage_store: UsageStore,
) -> None:
    entry = TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1))
    await usage_store.record_entry(entry)
    (stored,) = await usage_store.get_entries("s")
    assert stored.timestamp is not None
    assert stored.timestamp > 1_700_000_000_000
    assert (entry.id, entry.timestamp) == (None, None)


class Odd:
    pass


MALFORMED: list[Any] = [
    tokens(tokens={"prompt": -1}),
    tokens(tokens={"prompt": 1.5}),
    tokens(tokens={"total": math.nan}),
    tokens(tokens={"prompt": True}),
    tokens(tokens=None),
    tokens(tokens=[]),
    tokens(model=None),
    tokens(model=5),
    tokens(id=""),
    tokens(id=5),
    tokens(id="x" * 513),
    tokens(stepCount=-1),
    tokens(stepCount=1.5),
    tokens(timestamp=-1),
    tokens(timestamp="now"),
    tokens(timestamp=10**18),
    tokens(sessionId=None),
    tokens(source={"name": "no type"}),
    tokens(extra=math.inf),
    tokens(extra={1: 2}),
    tokens(extra=Odd()),
    tokens(extra="\ud800"),
    {"kind": "tokens"},
    {"sessionId": "s"},
    {"kind": 5, "sessionId": "s"},
    {},
    {"kind": "embedding", "sessionId": "s"},
    {"kind": "embedding", "sessionId": "s", "stepCount": 1},
    {"kind": "embedding", "sessionId": "s", "timestamp": 1},
    {"kind": "embedding", "sessionId": "s", "stepCount": 1.5, "timestamp": 1},
    {"kind": "embedding", "stepCount": 1, "timestamp": 1},
    {"kind": "tool", "sessionId": "s", "timestamp": 1},
    {"kind": "tool", "sessionId": "s", "toolName": "t", "durationMs": -1},
    {"kind": "tool", "sessionId": "s", "toolName": "t", "success": "yes"},
    {"kind": "subagent", "sessionId": "s"},
    {"kind": "custom", "sessionId": "s", "type": "t"},
    {"kind": "custom", "sessionId": "s", "type": "t", "value": math.nan},
    {"kind": "custom", "sessionId": "s", "type": "t", "value": -math.inf},
    {"kind": "custom", "sessionId": "s", "type": "t", "value": "5"},
    {"kind": "custom", "sessionId": "s", "type": "t", "value": True},
    TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=-1)),
    TokenUsage(session_id="s", model="m", tokens={"prompt": 1.5}),  # type: ignore[arg-type]
    TokenUsage(session_id="s", model="m", tokens={"prompt": math.nan}),  # type: ignore[arg-type]
    TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1, total=math.nan)),  # type: ignore[arg-type]
    TokenUsage(session_id="s", model="m", timestamp=math.inf, tokens=TokenCounts()),  # type: ignore[arg-type]
    CustomUsage(session_id="s", type="t", value=math.nan),
    CustomUsage(session_id="s", type="t", value=1, metadata={"a": [math.inf]}),
    ToolUsage(session_id="s", tool_name="t", duration_ms=math.nan),
    TokenUsage(id="", session_id="s", model="m", tokens=TokenCounts()),
    TokenUsage(session_id=None, model="m", tokens=TokenCounts()),  # type: ignore[arg-type]
    CustomUsage(session_id="s", type="t", value=Decimal(5)),  # type: ignore[arg-type]
    UnknownUsage({"kind": "x", "sessionId": "s"}),
    "an entry",
    b"{}",
    None,
    5,
]


@pytest.mark.parametrize("entry", MALFORMED, ids=lambda entry: repr(entry)[:60])
async def test_a_malformed_entry_is_refused_and_nothing_is_written(usage_store: UsageStore, entry: Any) -> None:
    with pytest.raises(MalformedEntryError):
        await usage_store.record_entry(entry)
    with pytest.raises(MalformedEntryError):
        await usage_store.record_entries([tokens(), entry])
    assert await usage_store.exists("s") is False


@pytest.mark.parametrize("session", ["", "a{b}", "line\n", "x" * 513])
async def test_ids_that_cannot_be_keys_are_refused(usage_store: UsageStore, session: str) -> None:
    with pytest.raises(InvalidIdError):
        await usage_store.record_entry(tokens(session))
    child = {"kind": "subagent", "sessionId": "s", "subSessionId": session}
    with pytest.raises(InvalidIdError):
        await usage_store.record_entry(child)
    for call in (
        usage_store.get_entries,
        usage_store.get_rollup,
        usage_store.exists,
        usage_store.delete,
        usage_store.get_entry_count,
    ):
        with pytest.raises(InvalidIdError):
            await call(session)


async def test_an_entry_of_another_session_in_a_bulk_call_is_refused(usage_store: UsageStore) -> None:
    with pytest.raises(MalformedEntryError, match="'s' and 't'"):
        await usage_store.record_entries([tokens("s"), tokens("t")])
    assert list(await usage_store.find_session_ids()) == []


@pytest.mark.parametrize("wrong", ["entries", b"entries", None, 5, tokens()], ids=repr)
async def test_a_bulk_call_takes_an_iterable(usage_store: UsageStore, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await usage_store.record_entries(wrong)


async def test_too_many_entries_for_one_call_are_refused(usage_store: UsageStore) -> None:
    entry = TokenUsage(session_id="s", model="m", tokens=TokenCounts())
    with pytest.raises(InvalidArgumentError, match="100000"):
        await usage_store.record_entries([entry] * 100_001)
    assert await usage_store.exists("s") is False


@pytest.mark.parametrize("options", [{"ttl_seconds": -1}, {"ttl_seconds": 1.5}, {"rollup_sessions": -1}], ids=repr)
def test_usage_settings_that_make_no_sense_are_refused(
    make_usage_store: MakeUsageStore, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        make_usage_store(**options)


@every_subclass
async def test_a_str_of_a_subclass_in_an_entry_is_its_text(usage_store: UsageStore, name: str) -> None:
    assert await usage_store.record_entry(tokens(name, id=name, model=name)) is True
    assert await usage_store.record_entry(tokens(plain(name), id=plain(name))) is False
    assert await usage_store.record_tokens(name, name, prompt=1, completion=2, run_id=name) is True
    rollup = await usage_store.get_rollup(name)
    assert rollup is not None
    assert (type(rollup.session_id), rollup.session_id) == (str, plain(name))
    assert (set(rollup.by_model), rollup.tokens.total) == ({plain(name)}, 153)
    found = await usage_store.get_entries(plain(name), kinds=["tokens"])
    assert [entry.run_id for entry in found] == [None, plain(name)]
    assert list(await usage_store.find_session_ids()) == [plain(name)]
    assert await usage_store.delete(name) is True


async def test_tokens_are_recorded_by_their_names(usage_store: UsageStore) -> None:
    source = UsageSource(type="agent", name="a")
    given: dict[str, Any] = {"id": "x", "run_id": "r", "step_count": 3, "timestamp": 5, "source": source}
    counts: dict[str, Any] = {"prompt": 12, "completion": 300, "reasoning": 40, "cached": 5000, "total": 5312}
    assert await usage_store.record_tokens("s", "m", **counts, **given) is True
    assert await usage_store.record_tokens("s", "m", **counts, **given) is False
    assert await usage_store.record_tokens("s", "m", prompt=2, completion=1) is True
    first, second = await usage_store.get_entries("s")
    assert first == TokenUsage(session_id="s", model="m", tokens=TokenCounts(**counts), **given)
    assert isinstance(second, TokenUsage)
    assert second.tokens == TokenCounts(prompt=2, completion=1, reasoning=0, cached=0)
    assert second.id
    assert await total(usage_store) == 5315


@pytest.mark.parametrize("wrong", [{"prompt": -1}, {"completion": 1.5}, {"cached": "5"}, {"id": ""}, {"timestamp": -1}])
async def test_tokens_that_are_none_are_refused(usage_store: UsageStore, wrong: dict[str, Any]) -> None:
    counts: dict[str, Any] = {"prompt": 1, "completion": 1, **wrong}
    with pytest.raises(MalformedEntryError):
        await usage_store.record_tokens("s", "m", **counts)
    assert await usage_store.exists("s") is False


async def test_counts_by_a_providers_names_are_refused_and_read_by_from_response(usage_store: UsageStore) -> None:
    answer: dict[str, Any] = {"id": "msg_1", "model": "m", "usage": {"input_tokens": 12, "output_tokens": 300,
              "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 0}}  # fmt: skip
    with pytest.raises(MalformedEntryError) as caught:
        await usage_store.record_entry(tokens(tokens=answer["usage"]))
    assert "from_response" in caught.value.hint
    assert await usage_store.record_entry(TokenUsage.from_response(answer, session_id="s")) is True
    assert await usage_store.record_entry(TokenUsage.from_response(answer, session_id="s")) is False
    assert await total(usage_store) == 5312


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"kind": "tool", "toolName": "t", "duration_ms": 5}, "'durationMs'"),
        ({"kind": "tool", "tool_name": "t"}, "'toolName'"),
        ({"kind": "subagent", "subSessionId": "q", "step_count": 3}, "'stepCount'"),
        ({"kind": "tokens", "model": "m", "tokens": {"prompt": 1}, "run_id": "r"}, "'runId'"),
    ],
)
async def test_an_entrys_name_in_snake_case_is_refused_with_the_name_that_is_meant(
    usage_store: UsageStore, fields: dict[str, Any], meant: str
) -> None:
    with pytest.raises(MalformedEntryError) as caught:
        await usage_store.record_entry({"sessionId": "s", **fields})
    assert meant in caught.value.hint
    assert not await usage_store.exists("s")


async def test_an_entrys_other_names_in_snake_case_are_data(usage_store: UsageStore) -> None:
    fields = {"kind": "of a later version", "sessionId": "s", "stepCount": 0, "timestamp": 5, "duration_ms": 5}
    assert await usage_store.record_entry(fields)
    assert await usage_store.record_entry({"kind": "tool", "sessionId": "s", "toolName": "t", "my_own": 1})
    first, second = await usage_store.get_entries("s")
    assert first.data["duration_ms"] == 5  # type: ignore[union-attr]
    assert second.extra == {"my_own": 1}
