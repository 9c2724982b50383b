"""What a session promises where the server's history forks: whole or absent; versions go back, and that is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helix_fast import InMemoryStateStore, StagedChanges
from helix_fast.errors import AcknowledgedDataLostError, ConcurrentUpdateError, HelixError, StoreConnectionError
from helix_fast.memory import MemoryServer
from helix_fast.state.versions import KnownVersions
from helix_fast.testing.waiting import until


class World:
    """A server in memory, a store on it, and what that store has reported."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = MemoryServer(lambda: self.now)
        self.errors: list[HelixError] = []
        self.store = self.another()
        self.store.on("error", self.errors.append)

    def another(self) -> InMemoryStateStore:
        return InMemoryStateStore(server=self.server)

    def lost(self) -> list[tuple[str, int, int]]:
        assert all(isinstance(error, AcknowledgedDataLostError) for error in self.errors)
        return [(error.session_id, error.first, error.last) for error in self.errors]  # type: ignore[attr-defined]


async def test_versions_go_back_and_a_write_against_a_lost_one_is_refused() -> None:
    world = World()
    async with world.store as store:
        await store.create_session("s", agent_type="tester", initial_state={"n": 0})
        saved = world.server.snapshot()
        kept = await store.load_state("s")
        assert kept is not None
        for n in range(1, 4):
            await store.merge_custom_state("s", {"n": n})
        lost = await store.load_state("s")
        assert lost is not None
        assert lost.version > kept.version
        world.server.restore(saved, new_history=True)
        assert await store.load_state("s") == kept
        assert world.lost() == [("s", 2, 4)]
        with pytest.raises(ConcurrentUpdateError):
            await store.save_state("s", lost, expected_version=lost.version)
        await store.merge_custom_state("s", {"n": "anew"})
        again = await store.load_state("s")
        assert again is not None
        assert (again.version, again.custom_state) == (kept.version + 1, {"n": "anew"})
        assert world.lost() == [("s", 2, 4)]


STAGED = StagedChanges("call", [], {"n": 5}, 1)
CHANGES: dict[str, Callable[[Any], Awaitable[object]]] = {
    "merge": lambda store: store.merge_custom_state("s", {"n": 1}),
    "append": lambda store: store.append_messages("s", [{"role": "user"}]),
    "truncate": lambda store: store.truncate_messages("s", 0),
    "pop": lambda store: store.pop_messages("s", 1),
    "status": lambda store: store.update_status("s", "paused"),
    "compare": lambda store: store.compare_and_set_status("s", ["active", "paused"], "paused"),
    "count": lambda store: store.increment_step_count("s"),
    "refs": lambda store: store.add_sub_agent_refs("s", [{"subSessionId": "c", "agentType": "a"}]),
    "ref": lambda store: store.update_sub_agent_ref("s", {"subSessionId": "r", "status": "completed"}),
    "promote": lambda store: store.promote_staging("s", "step"),
    "restore": lambda store: store.restore_checkpoint("s", CHECKPOINTS[0]),
    "begin": lambda store: store.begin_run("s", "run", agent_type="a"),
    "finish": lambda store: store.finish_run("s", "run", messages=[], output=1, status="completed"),
}
LOOKS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "load": lambda store: store.load_state("s"),
    "messages": lambda store: store.get_messages("s"),
    "length": lambda store: store.get_message_count("s"),
    "references": lambda store: store.get_sub_agent_refs("s"),
    "staged": lambda store: store.get_staged_changes("s", "step"),
    "checkpoints": lambda store: store.list_checkpoints("s"),
    "run": lambda store: store.get_run("s"),
    "touch": lambda store: store.touch("s"),
    "stage": lambda store: store.stage_changes("s", "step", STAGED),
    "discard": lambda store: store.discard_staging("s", "step"),
    "checkpoint": lambda store: store.create_checkpoint("s"),
    "no checkpoints": lambda store: store.delete_checkpoints("s"),
    "not expected": lambda store: store.compare_and_set_status("s", ["other"], "paused"),
}
CHECKPOINTS: list[str] = []


async def prepare(world: World) -> None:
    store = world.store
    await store.create_session("s", agent_type="tester")
    await store.append_messages("s", [{"role": "user"}])
    await store.add_sub_agent_refs("s", [{"subSessionId": "r", "agentType": "a"}])
    await store.stage_changes("s", "step", STAGED)
    CHECKPOINTS[:] = [(await store.create_checkpoint("s")).id]


@pytest.mark.parametrize("name", [*CHANGES, *LOOKS])
async def test_whatever_asks_first_finds_the_loss_once(name: str) -> None:
    world = World()
    async with world.store as store, world.another() as other:
        await prepare(world)
        saved = world.server.snapshot()
        for _ in range(2):
            await store.increment_step_count("s")
        world.server.restore(saved)
        if name in CHANGES:
            await other.increment_step_count("s")  # so that the next write makes the very version that was seen
        await (CHANGES.get(name) or LOOKS[name])(store)
        assert world.lost() == [("s", 4 + (name in CHANGES), 5)]
        for ask in LOOKS.values():
            await ask(store)
        assert len(world.errors) == 1


@pytest.mark.parametrize("name", CHANGES)
async def test_every_write_is_remembered(name: str) -> None:
    world = World()
    async with world.store as store:
        await prepare(world)
        saved = world.server.snapshot()
        await CHANGES[name](store)
        world.server.restore(saved)
        await store.load_state("s")
        assert world.lost() == [("s", 4, 4)]


async def test_a_save_finds_the_loss_and_is_remembered() -> None:
    world = World()
    async with world.store as store:
        await prepare(world)
        saved = world.server.snapshot()
        state = await store.load_state("s")
        assert state is not None
        assert await store.save_state("s", state) == 4
        world.server.restore(saved)
        assert await store.save_state("s", state) == 4
        assert world.lost() == [("s", 4, 4)]
        world.server.restore(saved)
        with pytest.raises(ConcurrentUpdateError):
            await store.save_state("s", state, expected_version=4)
        assert world.lost() == [("s", 4, 4)] * 2


async def test_a_session_made_anew_is_no_loss() -> None:
    """Also one that another process has made from the same state, with its time of creation."""
    world = World()
    async with world.store as store, world.another() as other:
        await prepare(world)
        state = await store.load_state("s")
        assert state is not None
        await other.delete_session("s")
        await other.create_session("s", agent_type="tester")
        await store.load_state("s")
        for _ in range(5):
            await store.increment_step_count("s")
        await other.delete_session("s")
        assert await other.save_state("s", state) == 1
        loaded = await store.load_state("s")
        assert loaded is not None
        assert (loaded.version, loaded.created_at) == (1, state.created_at)
        await store.delete_session("s")
        assert await store.save_state("s", state) == 1
        await store.load_state("s")
    assert world.errors == []


async def test_a_session_that_an_earlier_version_has_stored_is_told_by_its_time_of_creation() -> None:
    world = World()
    async with world.store as store:
        await prepare(world)
        assert world.server.execute("HDEL", "helix:session:{s}", "born") == 1
        saved = world.server.snapshot()
        await store.increment_step_count("s")
        world.server.restore(saved)
        await store.load_state("s")
        assert world.lost() == [("s", 4, 4)]


async def test_a_loss_is_found_where_nobody_asks_for_the_session_again() -> None:
    world = World()
    async with world.store as store:
        await prepare(world)
        saved = world.server.snapshot()
        await store.increment_step_count("s")
        await store.create_session("other", agent_type="tester")
        world.server.restore(saved, new_history=True)
        await store.session_exists("other")
        await until(lambda: bool(world.errors))
        assert world.lost() == [("s", 4, 4)]


async def test_a_retry_whose_reply_was_lost_is_no_loss() -> None:
    """Its reply is that of its first attempt, after which other writes were acknowledged."""
    errors: list[HelixError] = []

    async def read(session_id: str) -> None:
        raise StoreConnectionError(session_id)

    versions = KnownVersions(errors.append, read, lambda _: 1)
    retried = versions.before("s")
    versions.note("s", versions.before("s"), 5, 4, b"1")
    versions.note("s", retried, 4, 3, b"1")
    versions.note("s", versions.before("s"), 6, 5, b"1")
    assert errors == []
    late = versions.before("s")
    versions.note("s", versions.before("s"), 4, 3, b"1")
    versions.note("s", late, 5, 4, b"1")
    versions.note("s", versions.before("s"), 6, 5, b"1")
    assert [(type(error), error.first, error.last) for error in errors] == [(AcknowledgedDataLostError, 4, 6)]  # type: ignore[attr-defined]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    versions = KnownVersions(lambda _: None, lambda _: asyncio.sleep(0), lambda _: 1)
    for number in range(5000):
        versions.note(f"s{number}", versions.before(f"s{number}"), 1, 0, b"1")
    assert versions.before("s903")[0].version == 0
    assert versions.before("s904")[0].version == 1
    now = 4000.0
    versions.note("s", versions.before("s"), 1, 0, b"1")
    assert versions.before("s4999")[0].version == 0
