"""Stored bytes that are no valid state: an error that names the key and the field, never a half-read object."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast.errors import MalformedStateError
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef
from helix_fast.state.store import RedisStateStore

pytestmark = pytest.mark.faults

KEY = "helix:session:{s}"


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[RedisStateStore]:
    async with RedisStateStore(server_url) as made:
        state = AgentState("s", "a", custom_state={"k": [1]}, messages=[{"n": 0}, {"n": 1}], output=1)
        state.metadata, state.extra, state.sub_agent_refs = {"m": 1}, {"x": 1}, [SubAgentRef("q", "w")]
        await made.save_state("s", state)
        yield made


RUBBISH: list[tuple[tuple[Any, ...], str, str]] = [
    (("HDEL", KEY, "sessionId"), KEY, "sessionId"),
    (("HSET", KEY, "sessionId", "other"), KEY, "sessionId"),
    (("HSET", KEY, "sessionId", b"\xff"), KEY, "sessionId"),
    (("HDEL", KEY, "agentType"), KEY, "agentType"),
    (("HSET", KEY, "agentType", b"\xff\xfe"), KEY, "agentType"),
    (("HDEL", KEY, "status"), KEY, "status"),
    (("HSET", KEY, "status", ""), KEY, "status"),
    (("HDEL", KEY, "stepCount"), KEY, "stepCount"),
    (("HSET", KEY, "stepCount", "many"), KEY, "stepCount"),
    (("HSET", KEY, "stepCount", "-1"), KEY, "stepCount"),
    (("HSET", KEY, "stepCount", "1.5"), KEY, "stepCount"),
    (("HSET", KEY, "stepCount", "9" * 30), KEY, "stepCount"),
    (("HSET", KEY, "resumeCount", ""), KEY, "resumeCount"),
    (("HDEL", KEY, "version"), KEY, "version"),
    (("HSET", KEY, "version", "x"), KEY, "version"),
    (("HSET", KEY, "createdAt", "2024-01-01"), KEY, "createdAt"),
    (("HDEL", KEY, "updatedAt"), KEY, "updatedAt"),
    (("HSET", KEY, "messageCount", "?"), KEY, "messageCount"),
    (("HSET", KEY, "messageCount", "3"), f"{KEY}:messages", "messages"),
    (("HSET", KEY, "output", "{"), KEY, "output"),
    (("HSET", KEY, "output", b"\xff"), KEY, "output"),
    (("HSET", KEY, "output", ""), KEY, "output"),
    (("HSET", KEY, "error", b"\xff"), KEY, "error"),
    (("HSET", KEY, "parentSessionId", b"\xff"), KEY, "parentSessionId"),
    (("HSET", KEY, "metadata", "[1]"), KEY, "metadata"),
    (("HSET", KEY, "metadata", "x"), KEY, "metadata"),
    (("HSET", KEY, "extra", "1"), KEY, "extra"),
    (("DEL", f"{KEY}:messages:1"), f"{KEY}:messages", "messages"),
    (("RPUSH", f"{KEY}:messages:1", '{"n":2}'), f"{KEY}:messages", "messages"),
    (("LSET", f"{KEY}:messages:1", 1, "not json"), f"{KEY}:messages", "messages[1]"),
    (("LSET", f"{KEY}:messages:1", 1, '{"a":1},{"b":2}'), f"{KEY}:messages", "messages[1]"),
    (("LSET", f"{KEY}:messages:1", 0, ""), f"{KEY}:messages", "messages[0]"),
    (("LSET", f"{KEY}:messages:1", 1, "[1]"), f"{KEY}:messages", "messages[1]"),
    (("LSET", f"{KEY}:messages:1", 1, b'{"a":"\xff"}'), f"{KEY}:messages", "messages[1]"),
    (("HSET", f"{KEY}:custom", "k", "[1"), f"{KEY}:custom", "k"),
    (("HSET", f"{KEY}:custom", b"\xff", "1"), f"{KEY}:custom", "b'\\xff'"),
    (("HSET", f"{KEY}:subagents", "q", "x"), f"{KEY}:subagents", "subagents"),
    (("HSET", f"{KEY}:subagents", "q", "[]"), f"{KEY}:subagents", "$"),
    (("HSET", f"{KEY}:subagents", "q", '{"subSessionId":"q"}'), f"{KEY}:subagents", "agentType"),
    (("HSET", f"{KEY}:subagents", "q", '{"subSessionId":"q","agentType":5}'), f"{KEY}:subagents", "agentType"),
]


@pytest.mark.parametrize(("command", "key", "field"), RUBBISH, ids=[repr(each[0][1:])[15:75] for each in RUBBISH])
async def test_a_state_that_is_none_is_refused_whole(
    store: RedisStateStore, command: tuple[Any, ...], key: str, field: str
) -> None:
    await store._requests.command("s", *command)
    with pytest.raises(MalformedStateError) as caught:
        await store.load_state("s")
    assert (caught.value.key, caught.value.field) == (key, field)


READS = {
    "messages": lambda s: s.get_messages("s"),
    "count": lambda s: s.get_message_count("s"),
    "checkpoints": lambda s: s.list_checkpoints("s"),
    "refs": lambda s: s.get_sub_agent_refs("s"),
    "staged": lambda s: s.get_staged_changes("s", "step"),
}
HALVES: list[tuple[tuple[Any, ...], str]] = [
    (("DEL", f"{KEY}:messages:1"), "messages"),
    (("LPOP", f"{KEY}:messages:1"), "messages"),
    (("HDEL", KEY, "sessionId"), "sessionId"),
    (("HSET", KEY, "sessionId", "other"), "sessionId"),
    (("HDEL", KEY, "version"), "version"),
    (("HSET", KEY, "version", "x"), "version"),
    (("HDEL", KEY, "generation"), "generation"),
    (("HSET", KEY, "generation", "2"), "messages"),
    (("HDEL", KEY, "messageCount"), "messageCount"),
    (("HSET", KEY, "messageCount", "-2"), "messageCount"),
]


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(("command", "field"), HALVES, ids=[repr(each[0][1:])[15:75] for each in HALVES])
async def test_nothing_is_answered_from_half_a_session(
    store: RedisStateStore, name: str, command: tuple[Any, ...], field: str
) -> None:
    await store._requests.command("s", *command)
    with pytest.raises(MalformedStateError) as caught:
        await READS[name](store)
    assert (caught.value.key, caught.value.field) == (KEY, field)
    with pytest.raises(MalformedStateError):
        await store.load_state("s")


@pytest.mark.parametrize("name", ["append", "truncate", "pop", "checkpoint"])
async def test_a_lost_conversation_is_not_written_on(store: RedisStateStore, name: str) -> None:
    await store._requests.command("s", "DEL", f"{KEY}:messages:1")
    before = await store._requests.command("s", "HGETALL", KEY)
    with pytest.raises(MalformedStateError) as caught:
        await WRITES[name](store)
    assert caught.value.field == "messages"
    assert await store._requests.command("s", "HGETALL", KEY) == before
    assert not await store._requests.command("s", "EXISTS", f"{KEY}:messages:1")


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_a_whole_save_mends_a_lost_conversation(store: RedisStateStore, count: int) -> None:
    for lost in (("DEL", f"{KEY}:messages:1"), ("HSET", KEY, "messageCount", "1")):
        await store._requests.command("s", *lost)
        said = [{"n": n} for n in range(count)]
        await store.save_state("s", AgentState("s", "a", messages=list(said)))
        state = await store.load_state("s")
        assert state is not None
        assert state.messages == said
        assert (await store.get_messages("s")).messages == said


async def test_a_foreign_writer_may_write_json_in_its_own_way(store: RedisStateStore) -> None:
    await store._requests.command("s", "LSET", f"{KEY}:messages:1", 1, ' { "n" : 1.0 , "u" : "\\u00e9" } ')
    await store._requests.command("s", "HSET", f"{KEY}:custom", "k", " [ 1 , 2 ] ", "e", "[ ]", "o", ' {"a" : [ ]} ')
    await store.merge_custom_state("s", MergeChanges({"k": [3], "e": [1]}))
    state = await store.load_state("s")
    assert state is not None
    assert state.messages[1] == {"n": 1.0, "u": "é"}
    assert state.custom_state == {"k": [1, 2, 3], "e": [1], "o": {"a": []}}
    state.messages.append({"n": 2})
    await store.save_state("s", state)
    assert (await store.load_state("s")).messages == state.messages  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["", ":custom", ":subagents", ":messages:1"])
async def test_a_key_of_another_type_is_named_by_reads(store: RedisStateStore, suffix: str) -> None:
    await store._requests.command("s", "SET", KEY + suffix, "text")
    with pytest.raises(MalformedStateError) as caught:
        await store.load_state("s")
    assert caught.value.key == KEY


async def test_a_key_of_another_type_is_named_by_commands_that_read_it(store: RedisStateStore) -> None:
    reads = {
        f"{KEY}:staging:step": lambda: store.get_staged_changes("s", "step"),
        f"{KEY}:subagents": lambda: store.update_sub_agent_ref("s", {"subSessionId": "q", "status": "x"}),
        KEY: lambda: store.get_message_count("s"),
    }
    for key, read in reads.items():
        await store._requests.command("s", "SET", key, "text")
        with pytest.raises(MalformedStateError) as caught:
            await read()
        assert caught.value.key == key


WRITES = {
    "save": lambda s: s.save_state("s", AgentState("s", "a", messages=[{"n": 0}, {"n": 1}, {"n": 2}])),
    "status": lambda s: s.update_status("s", "x"),
    "steps": lambda s: s.increment_step_count("s"),
    "append": lambda s: s.append_messages("s", [{"n": 2}]),
    "truncate": lambda s: s.truncate_messages("s", 1),
    "pop": lambda s: s.pop_messages("s"),
    "touch": lambda s: s.touch("s"),
    "merge": lambda s: s.merge_custom_state("s", MergeChanges({"k": [1]})),
    "refs": lambda s: s.add_sub_agent_refs("s", [SubAgentRef("p", "w")]),
    "checkpoint": lambda s: s.create_checkpoint("s"),
    "stage": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"k": [1]}, 1)),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_session_that_is_another_thing_is_not_written_to(store: RedisStateStore, name: str) -> None:
    await store._requests.command("s", "SET", KEY, "text")
    with pytest.raises(MalformedStateError):
        await WRITES[name](store)
    assert await store._requests.command("s", "GET", KEY) == b"text"
    await store._requests.command("s", "DEL", KEY)
    await store._requests.command("s", "HSET", KEY, "someone", "else's")
    with pytest.raises(MalformedStateError):
        await WRITES[name](store)
    assert await store._requests.command("s", "HGETALL", KEY) == [b"someone", b"else's"]


@pytest.mark.parametrize("field", ["version", "generation", "messageCount", "messageDigest", "fence"])
async def test_a_write_that_needs_a_broken_field_changes_nothing(store: RedisStateStore, field: str) -> None:
    for name, write in WRITES.items():
        await store._requests.command("s", "HSET", KEY, field, "x1")
        before = await store._requests.command("s", "HGETALL", KEY)
        with pytest.raises(MalformedStateError) as caught:
            await write(store)
        assert (caught.value.key, caught.value.field) == (KEY, field), name
        assert await store._requests.command("s", "HGETALL", KEY) == before


async def test_a_conversation_whose_digest_is_gone_goes_on(store: RedisStateStore) -> None:
    await store._requests.command("s", "HDEL", KEY, "messageDigest")
    assert await store.append_messages("s", [{"n": 2}]) == 3
    await store.create_checkpoint("s")
    state = await store.load_state("s")
    assert state is not None
    state.messages.append({"n": 3})
    await store.save_state("s", state)
    assert (await store.load_state("s")).messages == [{"n": n} for n in range(4)]  # type: ignore[union-attr]


async def test_a_broken_fence_does_not_keep_a_session_from_being_deleted(store: RedisStateStore) -> None:
    await store._requests.command("s", "HSET", KEY, "fence", "x")
    assert await store.delete_session("s", fencing_token=5)
    assert not await store.session_exists("s")


async def test_a_broken_counter_is_not_counted_on(store: RedisStateStore) -> None:
    await store._requests.command("s", "HSET", KEY, "stepCount", "x")
    for write in (lambda: store.increment_step_count("s"), lambda: store.create_checkpoint("s")):
        with pytest.raises(MalformedStateError) as caught:
            await write()
        assert caught.value.field == "stepCount"


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "x",
        "{}",
        "[]",
        '{"session":1}',
        '{"session":["a"],"custom":{},"subagents":{}}',
        '{"session":[5,5],"custom":[],"subagents":[]}',
    ],
)
async def test_a_checkpoint_whose_record_is_none(store: RedisStateStore, rubbish: str) -> None:
    made = await store.create_checkpoint("s")
    await store._requests.command("s", "HSET", f"{KEY}:checkpoint-data", f"{made.id}:state", rubbish)
    before = await store.load_state("s")
    for read in (
        lambda: store.get_checkpoint("s", made.id),
        lambda: store.get_latest_checkpoint("s"),
        lambda: store.restore_checkpoint("s", made.id),
    ):
        with pytest.raises(MalformedStateError):
            await read()  # type: ignore[operator]
    assert await store.load_state("s") == before
    assert (await store.list_checkpoints("s")).total == 1


@pytest.mark.parametrize("rubbish", ["", "x", "{}", "[]", '{"generation":"1"}'])
async def test_a_checkpoint_whose_header_is_none(store: RedisStateStore, rubbish: str) -> None:
    made = await store.create_checkpoint("s")
    await store._requests.command("s", "HSET", f"{KEY}:checkpoint-data", made.id, rubbish)
    before = await store.load_state("s")
    for read in (
        lambda: store.get_checkpoint("s", made.id),
        lambda: store.list_checkpoints("s"),
        lambda: store.restore_checkpoint("s", made.id),
    ):
        with pytest.raises(MalformedStateError):
            await read()  # type: ignore[operator]
    assert await store.load_state("s") == before


async def test_a_checkpoint_whose_messages_are_gone(store: RedisStateStore) -> None:
    made = await store.create_checkpoint("s")
    await store.save_state("s", AgentState("s", "b"))
    await store._requests.command("s", "DEL", f"{KEY}:messages:1")
    before = await store.load_state("s")
    for read in (lambda: store.get_checkpoint("s", made.id), lambda: store.restore_checkpoint("s", made.id)):
        with pytest.raises(MalformedStateError) as caught:
            await read()  # type: ignore[operator]
        assert caught.value.field == "messages"
    assert await store.load_state("s") == before


@pytest.mark.parametrize(
    "rubbish", ["", "x", "5", "[]", "{}", '{"toolCallId":"t"}', '{"toolCallId":"t","timestamp":"x","merge":["set"]}']
)
async def test_staged_changes_that_are_none(store: RedisStateStore, rubbish: str) -> None:
    await store.stage_changes("s", "step", StagedChanges("t", [], {"k": [2]}, 1))
    await store._requests.command("s", "RPUSH", f"{KEY}:staging:step", rubbish)
    before = await store.load_state("s")
    with pytest.raises(MalformedStateError) as caught:
        await store.get_staged_changes("s", "step")
    assert caught.value.key == f"{KEY}:staging:step"
    with pytest.raises(MalformedStateError):
        await store.promote_staging("s", "step")
    assert await store.load_state("s") == before


LONE = '{"text":"cut \\ud83d","\\uDE00":["\\ud83d\\ude00","\\\\ud83d","\\ud83d\\ud83d\\ude00"]}'
READ = {"text": "cut \ufffd", "\ufffd": ["😀", "\\ud83d", "\ufffd😀"]}


async def test_lone_surrogates_of_a_foreign_writer_are_read_as_the_replacement_character(
    store: RedisStateStore,
) -> None:
    await store._requests.command("s", "LSET", f"{KEY}:messages:1", 1, LONE)
    await store._requests.command("s", "HSET", KEY, "output", LONE, "metadata", LONE, "extra", LONE)
    await store._requests.command("s", "HSET", f"{KEY}:custom", "k", LONE, "list", f"[{LONE}]")
    ref = f'{{"subSessionId":"q","agentType":"w","result":{LONE}}}'
    await store._requests.command("s", "HSET", f"{KEY}:subagents", "q", ref)
    made = await store.create_checkpoint("s", metadata={})
    await store.merge_custom_state("s", MergeChanges({"list": [1]}))
    checkpoint = await store.get_checkpoint("s", made.id)
    assert checkpoint is not None
    for state in (await store.load_state("s"), checkpoint.state):
        assert state is not None
        assert [state.messages[1], state.output, state.metadata, state.extra, state.custom_state["k"]] == [READ] * 5
        assert state.sub_agent_refs[0].result == READ
    assert (await store.get_messages("s")).messages == [{"n": 0}, READ]
    patches = [{"op": "test", "path": "/list", "value": [READ, 1]}, {"op": "add", "path": "/list/-", "value": 2}]
    await store.stage_changes("s", "step", StagedChanges("t", patches, None, 1))
    await store.promote_staging("s", "step")
    state = await store.load_state("s")
    assert state is not None
    assert state.custom_state["list"] == [READ, 1, 2]
    await store.save_state("s", state)
    assert await store.pop_messages("s") == [READ]
