"""The keys of a session: what is in them, how long they live, and that none is left behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast.errors import MalformedStateError
from helix_fast.keys import index_shard, session_index
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef, SubAgentRefUpdate
from helix_fast.state.store import RedisStateStore

pytestmark = pytest.mark.faults

KEY = "helix:session:{s}"


def messages(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": n} for n in range(start, start + count)]


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[RedisStateStore]:
    async with RedisStateStore(server_url, ttl=1000) as made:
        yield made


async def keys(store: RedisStateStore, pattern: str = "helix:session:*") -> set[str]:
    return {key.decode() for key in await store._requests.command("s", "KEYS", pattern)}


async def logs(store: RedisStateStore) -> set[str]:
    return {key.rpartition(":")[2] for key in await keys(store) if ":messages:" in key}


async def full(store: RedisStateStore) -> str:
    """A session that has every kind of key, two generations of messages among them."""
    await store.save_state("s", AgentState("s", "a", custom_state={"k": []}, messages=messages(3)))
    made = await store.create_checkpoint("s")
    await store.save_state("s", AgentState("s", "a", custom_state={"k": []}, messages=messages(3, 5)))
    await store.add_sub_agent_refs("s", [SubAgentRef("q", "w")])
    for step in ("one", "two"):
        await store.stage_changes("s", step, StagedChanges("t", [], {"k": [1]}, 1))
    return made.id


async def test_a_session_is_stored_in_the_documented_keys(store: RedisStateStore) -> None:
    state = AgentState("s", "researcher", "running", 2, 1, {"notes": ["é"], "n": 2**70}, messages(2))
    state.output, state.error, state.metadata, state.parent_session_id = {"a": []}, "e", {"m": 1}, "p"
    state.sub_agent_refs = [SubAgentRef("q", "w", "c", "done", {"r": 1})]
    await store.save_state("s", state, fencing_token=2**60)
    flat = await store._requests.command("s", "HGETALL", KEY)
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    expected = {
        "sessionId": "s", "agentType": "researcher", "status": "running", "stepCount": "2", "resumeCount": "1",
        "output": '{"a":[]}', "error": "e", "metadata": '{"m":1}', "parentSessionId": "p", "version": "1",
        "fence": str(2**60), "generation": "1", "messageCount": "2",
    }  # fmt: skip
    assert {name: found[name.encode()].decode() for name in expected} == expected
    assert found[b"createdAt"] == found[b"updatedAt"]
    assert await store._requests.command("s", "LRANGE", f"{KEY}:messages:1", 0, -1) == [b'{"n":0}', b'{"n":1}']
    assert await store._requests.command("s", "HGET", f"{KEY}:custom", "notes") == '["é"]'.encode()
    assert await store._requests.command("s", "HGET", f"{KEY}:custom", "n") == str(2**70).encode()
    ref = json.loads(await store._requests.command("s", "HGET", f"{KEY}:subagents", "q"))
    assert ref.pop("ordinal") == 0
    assert ref["subSessionId"] == "q"
    made = await store.create_checkpoint("s", metadata={"why": 1})
    assert await store._requests.command("s", "ZRANGE", f"{KEY}:checkpoints", 0, -1) == [made.id.encode()]
    header = json.loads(await store._requests.command("s", "HGET", f"{KEY}:checkpoint-data", made.id))
    assert (header["id"], header["generation"], header["messageCount"], header["metadata"]) == (
        made.id,
        1,
        2,
        {"why": 1},
    )
    await store.stage_changes("s", "step", StagedChanges("t", [], {"k": [1]}, 7))
    staged = json.loads(await store._requests.command("s", "LINDEX", f"{KEY}:staging:step", 0))
    assert staged == {"toolCallId": "t", "timestamp": "7", "merge": ["extend", "k", "[1]"]}


WRITES = {
    "save": lambda s, c: s.save_state("s", AgentState("s", "a", custom_state={"k": 1}, messages=messages(4, 5))),
    "diverging save": lambda s, c: s.save_state("s", AgentState("s", "a", messages=[{"x": 1}])),
    "status": lambda s, c: s.update_status("s", "x"),
    "cas": lambda s, c: s.compare_and_set_status("s", ["active"], "x"),
    "steps": lambda s, c: s.increment_step_count("s"),
    "resumes": lambda s, c: s.increment_resume_count("s"),
    "append": lambda s, c: s.append_messages("s", messages(1)),
    "truncate": lambda s, c: s.truncate_messages("s", 1),
    "merge": lambda s, c: s.merge_custom_state("s", MergeChanges({"k": [1]})),
    "add refs": lambda s, c: s.add_sub_agent_refs("s", [SubAgentRef("p", "w")]),
    "update ref": lambda s, c: s.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="x")),
    "checkpoint": lambda s, c: s.create_checkpoint("s"),
    "pop": lambda s, c: s.pop_messages("s"),
    "touch": lambda s, c: s.touch("s"),
    "restore": lambda s, c: s.restore_checkpoint("s", c),
    "drop checkpoints": lambda s, c: s.delete_checkpoints("s"),
    "stage": lambda s, c: s.stage_changes("s", "three", StagedChanges("t", [], {"k": [1]}, 1)),
    "promote": lambda s, c: s.promote_staging("s", "one"),
    "discard": lambda s, c: s.discard_staging("s", "one"),
}


async def lives(store: RedisStateStore) -> dict[str, int]:
    return {key: await store._requests.command("s", "PTTL", key) for key in await keys(store)}


@pytest.mark.parametrize("name", WRITES)
async def test_every_write_renews_all_keys_of_the_session_together(store: RedisStateStore, name: str) -> None:
    checkpoint = await full(store)
    assert await logs(store) == {"1", "2"}
    for key in await keys(store):
        await store._requests.command("s", "EXPIRE", key, 100)
    await WRITES[name](store, checkpoint)
    found = await lives(store)
    memory = {key: ttl for key, ttl in found.items() if ":operations:" in key}
    rest = [ttl for key, ttl in found.items() if key not in memory]
    assert min(rest) > 990_000, found
    assert max(rest) - min(rest) < 500  # they are read one after the other
    assert all(0 < ttl <= 120_000 for ttl in memory.values())


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("ttl", [None, 0])
async def test_a_store_without_ttl_keeps_all_keys(server_url: str, store: RedisStateStore, name: str, ttl: Any) -> None:
    checkpoint = await full(store)  # with a TTL
    async with RedisStateStore(server_url, ttl=ttl) as keeper:
        await WRITES[name](keeper, checkpoint)
        found = await lives(keeper)
        assert {ttl for key, ttl in found.items() if ":operations:" not in key} == {-1}


async def test_reading_renews_nothing(store: RedisStateStore) -> None:
    checkpoint = await full(store)
    for key in await keys(store):
        await store._requests.command("s", "EXPIRE", key, 100)
    await store.load_state("s")
    await store.get_messages("s")
    await store.get_checkpoint("s", checkpoint)
    await store.list_checkpoints("s")
    await store.get_staged_changes("s", "one")
    await store.get_sub_agent_refs("s")
    assert max((await lives(store)).values()) <= 100_000


async def ttls(store: RedisStateStore) -> set[int]:
    """The TTLs of the session's keys, in whole thousands of seconds."""
    return {round(ttl / 1e6) for key, ttl in (await lives(store)).items() if ":operations:" not in key}


async def test_a_session_keeps_the_ttl_that_it_was_given(server_url: str, store: RedisStateStore) -> None:
    checkpoint = await full(store)
    async with RedisStateStore(server_url, ttl=None) as other:
        assert await other.touch("s", ttl=50_000)
        for each in (store, other):
            await each.restore_checkpoint("s", checkpoint)
            await each.save_state("s", AgentState("s", "a", messages=messages(3, 7)))
            assert await ttls(each) == {50}
        assert await store.touch("s", ttl=9_000)
        assert await store.touch("s")
        assert await ttls(store) == {9}
        assert await store.touch("s", ttl=0)
        await store.update_status("s", "x")
        assert set((await lives(store)).values()) & {-1}
        assert await other.delete_session("s")
        await store.create_session("s", agent_type="a")
        assert await ttls(store) == {1}


async def test_a_deleted_session_leaves_its_fencing_token_for_a_day(store: RedisStateStore) -> None:
    await store.create_session("s", agent_type="a", fencing_token=2**62)
    await store.delete_session("s")
    assert await store._requests.command("s", "GET", f"{KEY}:fence") == str(2**62).encode()
    assert 86_000 < await store._requests.command("s", "TTL", f"{KEY}:fence") <= 86_400


async def test_what_is_gone_is_taken_out_of_the_index(store: RedisStateStore) -> None:
    index = session_index("helix:", index_shard("s"))

    async def in_index() -> list[bytes]:
        found: list[bytes] = await store._requests.command("s", "ZRANGE", index, 0, -1)
        return found

    await store.create_session("s", agent_type="a")
    assert await in_index() == [b"s"]
    assert 0 < await store._requests.command("s", "TTL", index) <= 1101
    await store._requests.command("s", "DEL", KEY)  # evicted
    assert await store.list_sessions() == []
    assert await in_index() == []
    await store.create_session("s", agent_type="a")
    assert await store.list_sessions() == ["s"]
    await store._requests.command("s", "DEL", index)  # evicted
    await store.save_state("s", AgentState("s", "a"))
    assert await store.list_sessions() == ["s"]
    await store.delete_session("s")
    assert await in_index() == []


async def test_an_index_that_is_another_thing_stops_writes_before_they_write(store: RedisStateStore) -> None:
    await store._requests.command("s", "SET", session_index("helix:", index_shard("s")), "text")
    with pytest.raises(MalformedStateError):
        await store.create_session("s", agent_type="a")
    assert await keys(store) == set()


async def test_an_expired_session_is_gone_whole(server_url: str) -> None:
    async with RedisStateStore(server_url, ttl=1) as store:
        await full(store)
        while await store.session_exists("s"):
            pass
        left = {key for key in await keys(store) if ":operations:" not in key}
        assert left == set()
        assert await store.load_state("s") is None
        assert (await store.list_checkpoints("s")).total == 0


async def test_delete_leaves_no_key_but_what_is_known_of_calls_for_two_minutes(store: RedisStateStore) -> None:
    await store.create_session("s2", agent_type="a")
    others = await keys(store)
    await full(store)
    assert len(await keys(store, f"{KEY}*")) >= 9
    assert await store.delete_session("s") is True
    left = {key for key in await keys(store) if key not in others}
    assert left <= {f"{KEY}:operations:0", f"{KEY}:operations:1"}
    for key in left:
        assert 0 < await store._requests.command("s", "TTL", key) <= 120


async def test_a_generation_lives_as_long_as_a_checkpoint_points_into_it(store: RedisStateStore) -> None:
    async def save(n: int) -> None:
        await store.save_state("s", AgentState("s", "a", messages=[{"generation": n}]))

    await save(1)
    await save(2)
    assert await logs(store) == {"2"}
    await store.create_checkpoint("s")
    await store.create_checkpoint("s")
    await save(3)
    await save(4)
    assert await logs(store) == {"2", "4"}
    await store.delete_checkpoints("s", keep_last=1)
    assert await logs(store) == {"2", "4"}
    await store.delete_checkpoints("s")
    assert await logs(store) == {"4"}


async def test_max_checkpoints_lets_the_generations_go_too(server_url: str) -> None:
    async with RedisStateStore(server_url, max_checkpoints=2) as store:
        for n in range(6):
            await store.save_state("s", AgentState("s", "a", messages=[{"generation": n}]))
            await store.create_checkpoint("s")
        assert await logs(store) == {"5", "6"}
        assert await store._requests.command("s", "HLEN", f"{KEY}:checkpoint-data") == 4


async def test_truncation_and_restore_keep_no_more_logs_than_are_needed(store: RedisStateStore) -> None:
    await store.save_state("s", AgentState("s", "a", messages=messages(5)))
    await store.truncate_messages("s", 4)
    assert await logs(store) == {"1"}
    made = await store.create_checkpoint("s")
    await store.append_messages("s", messages(2))
    await store.restore_checkpoint("s", made.id)
    assert await logs(store) == {"1", "2"}
    await store.restore_checkpoint("s", made.id)
    assert await logs(store) == {"1", "3"}
    await store.delete_checkpoints("s")
    assert await logs(store) == {"3"}
    assert (await store.load_state("s")).messages == messages(4)  # type: ignore[union-attr]


async def test_saves_of_the_same_conversation_start_no_generation(store: RedisStateStore) -> None:
    for count in (2, 2, 4, 4, 9):
        await store.save_state("s", AgentState("s", "a", messages=messages(count)))
    assert await logs(store) == {"1"}


async def test_a_conversation_sent_in_vain_starts_no_generation(server_url: str, store: RedisStateStore) -> None:
    async with RedisStateStore(server_url) as other:
        await other.save_state("s", AgentState("s", "a", messages=[{"other": 1}]))
        await store.save_state("s", AgentState("s", "a", messages=messages(3)))
        before = await logs(store)
        await other.save_state("s", AgentState("s", "a", messages=messages(3)))
        assert await logs(store) == before


async def test_steps_that_are_over_leave_no_key(store: RedisStateStore) -> None:
    async def of_steps() -> set[str]:
        return {key for key in await keys(store) if ":staging:" in key or key.endswith(":steps")}

    await store.create_session("s", agent_type="a")
    for end in (store.promote_staging, store.discard_staging):
        await store.stage_changes("s", "step", StagedChanges("t", [], {}, 1))
        assert await of_steps() == {f"{KEY}:steps", f"{KEY}:staging:step"}
        await end("s", "step")
        assert await of_steps() == set()


async def test_remembered_operations_do_not_outlive_two_minutes(store: RedisStateStore) -> None:
    await store.create_session("s", agent_type="a")
    for _ in range(300):
        await store.increment_step_count("s")
    buckets = [key for key in await keys(store) if ":operations:" in key]
    assert buckets
    for bucket in buckets:
        assert 0 < await store._requests.command("s", "TTL", bucket) <= 120


async def test_what_an_evicted_session_left_behind_is_not_taken_for_a_new_one(store: RedisStateStore) -> None:
    await full(store)
    await store._requests.command("s", "DEL", KEY)
    assert await store.load_state("s") is None
    assert (await store.list_checkpoints("s")).total == 0
    assert await store.get_latest_checkpoint("s") is None
    assert await store.get_staged_changes("s", "one") == []
    await store.create_session("s", agent_type="new")
    state = await store.load_state("s")
    assert state is not None
    assert (state.messages, state.custom_state, state.sub_agent_refs) == ([], {}, [])
    assert (await store.list_checkpoints("s")).total == 0
    await store.append_messages("s", messages(1))
    assert (await store.load_state("s")).messages == messages(1)  # type: ignore[union-attr]
