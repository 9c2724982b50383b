"""What operations cost: round trips, bytes on the wire, time of the server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef, SubAgentRefUpdate
from helix_fast.state.store import RedisStateStore
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.faults

Operation = Callable[[RedisStateStore], Awaitable[Any]]
PATCHES = [{"op": "add", "path": "/notes/-", "value": 1}]


def messages(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"message {n} " + "x" * 80} for n in range(start, start + count)]


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[RedisStateStore]:
    async with RedisStateStore(server_url) as made:
        yield made


def requests(store: RedisStateStore) -> int:
    return int(store._requests.topology.lane.requests)  # type: ignore[attr-defined]


async def prepared(store: RedisStateStore, session_id: str = "s") -> str:
    """A session with something of everything; returns the id of its checkpoint."""
    state = AgentState(session_id, "a", custom_state={"notes": []}, messages=messages(3))
    state.sub_agent_refs = [SubAgentRef("q", "w")]
    await store.save_state(session_id, state)
    for step in ("step", "other"):
        await store.stage_changes(session_id, step, StagedChanges("t", [], {"notes": [1]}, 1))
    await store.stage_changes(session_id, "patches", StagedChanges("t", PATCHES, None, 1))
    made = await store.create_checkpoint(session_id)
    await store.append_messages(session_id, messages(1, 3))
    return made.id


OPERATIONS: dict[str, tuple[int, Callable[[RedisStateStore, str, str], Awaitable[Any]]]] = {
    "create": (1, lambda s, n, c: s.create_session(f"new {n}", agent_type="a", initial_state={"a": 1})),
    "save of a new session": (1, lambda s, n, c: s.save(AgentState(f"new {n}", "a", messages=messages(9)))),
    "save of the same": (1, lambda s, n, c: s.save_state(n, AgentState(n, "a", messages=messages(4)))),
    "extending save": (1, lambda s, n, c: s.save_state(n, AgentState(n, "a", messages=messages(9)))),
    "diverging save": (1, lambda s, n, c: s.save_state(n, AgentState(n, "a", messages=messages(9, 5)))),
    "load": (1, lambda s, n, c: s.load_state(n)),
    "exists": (1, lambda s, n, c: s.session_exists(n)),
    "delete": (1, lambda s, n, c: s.delete_session(n)),
    "status": (1, lambda s, n, c: s.update_status(n, "x")),
    "cas": (1, lambda s, n, c: s.compare_and_set_status(n, ["active"], "x")),
    "steps": (1, lambda s, n, c: s.increment_step_count(n)),
    "resumes": (1, lambda s, n, c: s.increment_resume_count(n)),
    "append": (1, lambda s, n, c: s.append_messages(n, messages(2))),
    "messages": (1, lambda s, n, c: s.get_messages(n)),
    "count": (1, lambda s, n, c: s.get_message_count(n)),
    "truncate": (1, lambda s, n, c: s.truncate_messages(n, 2)),
    "pop": (1, lambda s, n, c: s.pop_messages(n, 2)),
    "touch": (1, lambda s, n, c: s.touch(n)),
    "merge": (1, lambda s, n, c: s.merge_custom_state(n, MergeChanges({"notes": [1], "x": 1}))),
    "add refs": (1, lambda s, n, c: s.add_sub_agent_refs(n, [SubAgentRef("p", "w")])),
    "update ref": (2, lambda s, n, c: s.update_sub_agent_ref(n, SubAgentRefUpdate("q", status="x"))),
    "refs": (1, lambda s, n, c: s.get_sub_agent_refs(n)),
    "checkpoint": (1, lambda s, n, c: s.create_checkpoint(n)),
    "get checkpoint": (1, lambda s, n, c: s.get_checkpoint(n, c)),
    "latest": (1, lambda s, n, c: s.get_latest_checkpoint(n)),
    "list": (1, lambda s, n, c: s.list_checkpoints(n)),
    "restore": (1, lambda s, n, c: s.restore_checkpoint(n, c)),
    "drop checkpoints": (1, lambda s, n, c: s.delete_checkpoints(n)),
    "stage": (1, lambda s, n, c: s.stage_changes(n, "new", StagedChanges("t", [], {"a": 1}, 1))),
    "staged": (1, lambda s, n, c: s.get_staged_changes(n, "step")),
    "promote": (1, lambda s, n, c: s.promote_staging(n, "step")),
    "promote patches": (2, lambda s, n, c: s.promote_staging(n, "patches")),
    "promote nothing": (1, lambda s, n, c: s.promote_staging(n, "no such")),
    "discard": (1, lambda s, n, c: s.discard_staging(n, "step")),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
async def test_operation_takes_its_round_trips_and_no_more(store: RedisStateStore, name: str) -> None:
    expected, operation = OPERATIONS[name]
    ids = {session: await prepared(store, session) for session in ("warm", "s")}
    await operation(store, "warm", ids["warm"])  # teaches the server the script
    before = requests(store)
    await operation(store, "s", ids["s"])
    assert requests(store) - before == expected


async def test_a_save_takes_a_second_round_trip_only_where_the_store_believed_wrong(server_url: str) -> None:
    async with RedisStateStore(server_url) as first, RedisStateStore(server_url) as second:
        await first.save_state("s", AgentState("s", "a", messages=messages(4)))
        await second.load_state("s")
        await first.append_messages("s", messages(2, 4))
        before = requests(second)
        await second.save_state("s", AgentState("s", "a", messages=messages(7)))
        assert requests(second) - before == 2
        await second.save_state("s", AgentState("s", "a", messages=messages(8)))
        assert requests(second) - before == 3
        await second.delete_session("s")
        before = requests(second)
        await second.save_state("s", AgentState("s", "a", messages=messages(8)))
        assert requests(second) - before == 1
        await first.save_state("s", AgentState("s", "a", messages=[{"n": 1}]))
        before = requests(second)
        await second.save_state("s", AgentState("s", "a", messages=messages(9)))
        assert requests(second) - before == 2


@pytest.mark.parametrize("knows", ["saved it", "loaded it", "appended to it", "knows nothing", "knows an old state"])
async def test_an_extending_save_sends_only_the_new_messages(fault_proxy: FaultProxy, knows: str) -> None:
    async with RedisStateStore(fault_proxy.url) as first, RedisStateStore(fault_proxy.url) as second:
        store = first if knows in {"saved it", "appended to it"} else second
        if knows == "knows an old state":
            await second.save_state("s", AgentState("s", "a", messages=messages(20)))
        await first.save_state("s", AgentState("s", "a", messages=messages(9_999)))
        await first.append_messages("s", messages(1, 9_999))
        if knows == "loaded it":
            await second.load_state("s")
        await second.save_state("warm", AgentState("warm", "a"))
        before = fault_proxy.request_bytes
        await store.save_state("s", AgentState("s", "a", messages=messages(10_001)))
        assert fault_proxy.request_bytes - before <= 4096
        assert await first.get_message_count("s") == 10_001
        assert (await second.get_messages("s", limit=10_000, offset=1)).messages == messages(10_000, 1)


async def server_microseconds(store: RedisStateStore, operation: Operation, times: int = 40) -> float:
    await operation(store)
    await store._requests.command("s", "CONFIG", "RESETSTAT")
    for _ in range(times):
        await operation(store)
    stats = (await store._requests.command("s", "INFO", "commandstats")).decode()
    found = re.search(r"cmdstat_evalsha:calls=\d+,usec=\d+,usec_per_call=([\d.]+)", stats)
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    "operation",
    [
        lambda s: s.append_messages("s", messages(1)),
        lambda s: s.increment_step_count("s"),
        lambda s: s.increment_resume_count("s"),
        lambda s: s.update_status("s", "x"),
        lambda s: s.compare_and_set_status("s", ["x", "active"], "x"),
        lambda s: s.create_checkpoint("s"),
        lambda s: s.merge_custom_state("s", MergeChanges({"a": 1})),
        lambda s: s.get_messages("s", limit=5, newest_first=True),
    ],
    ids=["append", "steps", "resumes", "status", "cas", "checkpoint", "merge", "page"],
)
async def test_cost_does_not_grow_with_the_conversation(store: RedisStateStore, operation: Operation) -> None:
    await store.create_session("s", agent_type="a")
    empty = await server_microseconds(store, operation)
    await store.delete_session("s")
    await store.save_state("s", AgentState("s", "a", messages=messages(100_000)))
    full = await server_microseconds(store, operation)
    # what looks at every message takes some hundred times as long; the rest is left to the noise of the machine
    assert full < 5 * empty, f"{empty} µs in an empty session, {full} µs in a long one"


async def test_a_checkpoint_is_as_large_after_a_long_conversation_as_before_it(store: RedisStateStore) -> None:
    await store.create_session("s", agent_type="a", initial_state={"k": "v" * 1000})
    sizes = []
    for said in (0, 20_000):
        await store.append_messages("s", messages(said))
        made = await store.create_checkpoint("s")
        fields = [made.id, f"{made.id}:state"]
        stored = await store._requests.command("s", "HMGET", "helix:session:{s}:checkpoint-data", *fields)
        sizes.append(sum(map(len, stored)))
    assert sizes[0] > 1000
    assert abs(sizes[1] - sizes[0]) < 60  # digits of numbers, and a digest
