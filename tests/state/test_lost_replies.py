"""An operation whose reply was lost is done once and answers what it would have answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.errors import SessionExistsError
from helix_fast.state.requests import MAX_RETRY_SECONDS
from helix_fast.state.schema import AgentState, BegunRun, MergeChanges, StagedChanges, SubAgentRef, SubAgentRefUpdate
from helix_fast.state.store import RedisStateStore
from helix_fast.testing.waiting import until
from helix_fast.transport.resolve import topology_for
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.faults

PATCH = [{"op": "add", "path": "/notes/-", "value": "patched"}]


@pytest.fixture
async def direct(server_url: str) -> AsyncIterator[RedisStateStore]:
    async with RedisStateStore(server_url) as store:
        yield store


@pytest.fixture
async def store(fault_proxy: FaultProxy, direct: RedisStateStore) -> AsyncIterator[RedisStateStore]:
    """A store behind the proxy, with a session that has something of everything."""
    async with RedisStateStore(fault_proxy.url) as made:
        state = AgentState("s", "a", custom_state={"notes": ["a"]}, messages=[{"n": 0}, {"n": 1}])
        state.sub_agent_refs = [SubAgentRef("q", "w")]
        await made.save_state("s", state)
        await made.create_checkpoint("s")
        await made.append_messages("s", [{"n": 2}])
        await made.stage_changes("s", "step", StagedChanges("t", [], {"notes": ["x"], "n": [1]}, 1))
        await made.stage_changes("s", "patches", StagedChanges("t", PATCH, None, 1))
        yield made


async def checkpoint_id(store: RedisStateStore) -> str:
    return (await store.list_checkpoints("s")).items[-1].id


Operation = Callable[[RedisStateStore], Awaitable[Any]]


async def restore(store: RedisStateStore) -> Any:
    state = await store.restore_checkpoint("s", await checkpoint_id(store))
    state.updated_at = None
    return state


async def create_checkpoint(store: RedisStateStore) -> Any:
    made = await store.create_checkpoint("s", metadata={"m": 1})
    return made.ordinal, made.version, made.message_count


async def finish_run(store: RedisStateStore) -> Any:
    made = await store.finish_run("s", "r", messages=[{"n": 3}], output={"o": []}, status="completed")
    return made.ordinal, made.version, made.message_count, made.run_id


OPERATIONS: dict[str, Operation] = {
    "save": lambda s: s.save_state("s", AgentState("s", "b", messages=[{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}])),
    "save at version": lambda s: s.save_state("s", AgentState("s", "b", messages=[{"m": 9}]), expected_version=2),
    "status": lambda s: s.update_status("s", "x"),
    "cas": lambda s: s.compare_and_set_status("s", ["active"], "won"),
    "steps": lambda s: s.increment_step_count("s", 3),
    "resumes": lambda s: s.increment_resume_count("s"),
    "append": lambda s: s.append_messages("s", [{"n": 3}, {"n": 4}]),
    "truncate": lambda s: s.truncate_messages("s", 1),
    "pop": lambda s: s.pop_messages("s", 2),
    "touch": lambda s: s.touch("s", ttl=1000),
    "stage again": lambda s: s.stage_changes("s", "step", StagedChanges("t", [], {"z": 1}, 1)),
    "merge": lambda s: s.merge_custom_state("s", MergeChanges({"notes": ["b"], "new": 1})),
    "merge with warning": lambda s: s.merge_custom_state("s", MergeChanges({"sess": [1]})),
    "add refs": lambda s: s.add_sub_agent_refs("s", [SubAgentRef("p", "w")]),
    "update ref": lambda s: s.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="done")),
    "checkpoint": create_checkpoint,
    "restore": restore,
    "drop checkpoints": lambda s: s.delete_checkpoints("s"),
    "stage": lambda s: s.stage_changes("s", "step", StagedChanges("u", [], {"z": 1}, 1)),
    "promote": lambda s: s.promote_staging("s", "step"),
    "promote patches": lambda s: s.promote_staging("s", "patches"),
    "discard": lambda s: s.discard_staging("s", "step"),
    "begin": lambda s: s.begin_run("s", "r", agent_type="a", stream_id="t", messages=[{"n": 3}], resumes=True),
    "finish": finish_run,
    "delete": lambda s: s.delete_session("s"),
}


async def picture(store: RedisStateStore) -> Any:
    """All that can be seen of the session, but for times and random ids."""
    state = await store.load_state("s")
    if state is not None:
        state.created_at = state.updated_at = None
        if state.run is not None:
            state.run.checkpoint_id = None
    staged = [await store.get_staged_changes("s", step) for step in ("step", "patches")]
    checkpoints = await store.list_checkpoints("s")
    return state, staged, [(each.ordinal, each.message_count) for each in checkpoints.items], checkpoints.total


def without_times(value: Any) -> Any:
    if isinstance(value, AgentState):
        value.created_at = value.updated_at = None
    if isinstance(value, BegunRun):
        without_times(value.state)
    return value


@pytest.mark.parametrize("when", ["the server has answered", "nothing has arrived", "half has arrived"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_lost_reply_is_asked_for_again_and_has_its_effect_once(
    store: RedisStateStore, direct: RedisStateStore, fault_proxy: FaultProxy, name: str, when: str
) -> None:
    operation = OPERATIONS[name]
    # what happens without any fault, on a session just the same
    expected = without_times(await operation(store))
    expected_picture = await picture(direct)
    await direct._requests.command("s", "FLUSHALL")
    state = AgentState("s", "a", custom_state={"notes": ["a"]}, messages=[{"n": 0}, {"n": 1}])
    state.sub_agent_refs = [SubAgentRef("q", "w")]
    await store.save_state("s", state)
    await store.create_checkpoint("s")
    await store.append_messages("s", [{"n": 2}])
    await store.stage_changes("s", "step", StagedChanges("t", [], {"notes": ["x"], "n": [1]}, 1))
    await store.stage_changes("s", "patches", StagedChanges("t", PATCH, None, 1))
    accepted = fault_proxy.accepted
    if when == "the server has answered":
        fault_proxy.cut_after_reply_bytes(0)
    else:
        fault_proxy.cut_after_request_bytes(0 if when == "nothing has arrived" else 150)
    assert without_times(await operation(store)) == expected
    assert fault_proxy.accepted == accepted + 1
    assert await picture(direct) == expected_picture


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_promote_of_patches_whose_second_reply_is_lost_is_applied_once(
    store: RedisStateStore, direct: RedisStateStore, fault_proxy: FaultProxy, lost: int
) -> None:
    found = (await store.load_state("s")).version  # type: ignore[union-attr]
    task = asyncio.ensure_future(store.promote_staging("s", "patches"))
    if lost == 1:
        fault_proxy.cut_after_reply_bytes(0)
    else:
        before = fault_proxy.reply_bytes
        await until(lambda: fault_proxy.reply_bytes > before)
        fault_proxy.cut_after_reply_bytes(0)
    result = await task
    assert (result.applied, result.version) == (1, found + 1)
    assert (await direct.load_state("s")).custom_state == {"notes": ["a", "patched"]}  # type: ignore[union-attr]


async def test_create_whose_reply_was_lost_does_not_find_itself_there(
    fault_proxy: FaultProxy, direct: RedisStateStore
) -> None:
    async with RedisStateStore(fault_proxy.url) as store:
        await store.session_exists("s")
        fault_proxy.cut_after_reply_bytes(0)
        made = await store.create_session("s", agent_type="a")
        assert made == await direct.load_state("s")
        with pytest.raises(SessionExistsError):
            await store.create_session("s", agent_type="a")


async def test_what_others_wrote_between_an_operation_and_its_repetition_stays(
    store: RedisStateStore, direct: RedisStateStore, fault_proxy: FaultProxy
) -> None:
    version = (await store.load_state("s")).version  # type: ignore[union-attr]
    accepted = fault_proxy.accepted
    fault_proxy.refuse()
    fault_proxy.cut_after_reply_bytes(0)
    task = asyncio.ensure_future(store.update_status("s", "mine"))
    saved = asyncio.ensure_future(store.save_state("s", AgentState("s", "b", "saved"), expected_version=version + 1))
    while (await direct.load_state("s")).status not in {"mine", "saved"}:  # type: ignore[union-attr]
        pass
    await direct.update_status("s", "theirs")
    await direct.increment_step_count("s")
    await fault_proxy.start()
    await task
    assert await saved == version + 2
    assert fault_proxy.accepted > accepted
    state = await direct.load_state("s")
    assert state is not None
    assert (state.status, state.step_count, state.version) == ("theirs", 1, version + 4)


async def test_a_repeated_delete_does_not_delete_the_successor(
    store: RedisStateStore, direct: RedisStateStore, fault_proxy: FaultProxy
) -> None:
    fault_proxy.refuse()
    fault_proxy.cut_after_reply_bytes(0)
    task = asyncio.ensure_future(store.delete_session("s"))
    while await direct.session_exists("s"):
        pass
    successor = await direct.create_session("s", agent_type="successor")
    await fault_proxy.start()
    assert await task is True
    assert await direct.load_state("s") == successor


async def test_a_repeated_delete_of_nothing_does_not_delete_what_came_after(
    store: RedisStateStore, direct: RedisStateStore, fault_proxy: FaultProxy
) -> None:
    await direct.delete_session("s")
    before = await direct._requests.command("s", "INFO", "commandstats")
    fault_proxy.refuse()
    fault_proxy.cut_after_reply_bytes(0)
    task = asyncio.ensure_future(store.delete_session("s"))
    while unlinks(await direct._requests.command("s", "INFO", "commandstats")) == unlinks(before):
        pass
    successor = await direct.create_session("s", agent_type="successor")
    await fault_proxy.start()
    assert await task is False
    assert await direct.load_state("s") == successor


@pytest.mark.parametrize("name", ["save", "create"])
async def test_a_session_that_another_deleted_does_not_come_back_with_a_repeated_write(
    fault_proxy: FaultProxy, direct: RedisStateStore, name: str
) -> None:
    async with RedisStateStore(fault_proxy.url) as store:
        await store.create_session("another", agent_type="a")  # it is connected now
        fault_proxy.refuse()
        fault_proxy.cut_after_reply_bytes(0)
        write = store.save(AgentState("s", "a")) if name == "save" else store.create_session("s", agent_type="a")
        task = asyncio.ensure_future(write)
        while not await direct.session_exists("s"):
            pass
        assert await direct.delete_session("s") is True
        await fault_proxy.start()
        made = await task
        assert (made if isinstance(made, int) else made.version) == 1
        assert not await direct.session_exists("s")


def unlinks(info: bytes) -> bytes:
    """What the server tells of UNLINK."""
    return b"".join(line for line in info.splitlines() if line.startswith(b"cmdstat_unlink"))


async def test_a_server_that_forgot_the_scripts_is_taught_again(
    store: RedisStateStore, direct: RedisStateStore
) -> None:
    await direct._requests.command("s", "SCRIPT", "FLUSH")
    before = (await direct.load_state("s")).version  # type: ignore[union-attr]
    await direct._requests.command("s", "SCRIPT", "FLUSH")
    assert await store.increment_step_count("s") == 1
    await direct._requests.command("s", "SCRIPT", "FLUSH")
    assert await store.delete_session("s") is True
    assert before == 2


async def test_nothing_is_repeated_when_its_reply_may_be_forgotten(server_url: str) -> None:
    topology = topology_for(server_url, retry_timeout=3_600)
    async with RedisStateStore(topology=topology) as store:
        assert store._requests.retry_timeout == MAX_RETRY_SECONDS < 60
    await topology.close()
