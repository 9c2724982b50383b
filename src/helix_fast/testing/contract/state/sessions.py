"""Sessions as a whole: create, save, load, delete, status, counters, fencing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import (
    ConcurrentUpdateError,
    InvalidArgumentError,
    SessionExistsError,
    SessionNotFoundError,
    StaleFencingTokenError,
)
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef, SubAgentRefUpdate

BIG_TOKEN = 2**63 - 12345


def message(n: int) -> dict[str, Any]:
    return {"role": "user", "content": f"message {n}"}


def full_state(session_id: str = "s") -> AgentState:
    state = AgentState(session_id, "researcher", "running", 3, 1)
    state.custom_state = {"notes": ["a"], "deep": {"x": [{}]}}
    state.messages = [message(0), message(1)]
    state.output = {"answer": 42}
    state.error = "none yet"
    state.parent_session_id = "parent"
    state.sub_agent_refs = [SubAgentRef("sub", "helper", "call-1", "completed", {"r": []})]
    state.metadata = {"user": "u"}
    state.extra = {"futureField": [1, None]}
    return state


async def test_created_session_is_what_is_loaded(state_store: Any) -> None:
    made = await state_store.create_session("s", agent_type="a", initial_state={"k": [1]}, metadata={"m": 1})
    assert made == await state_store.load_state("s")
    assert (made.status, made.custom_state, made.metadata, made.version) == ("active", {"k": [1]}, {"m": 1}, 1)
    assert made.created_at == made.updated_at > 1_600_000_000_000


async def test_creating_a_session_twice_is_refused_and_changes_nothing(state_store: Any) -> None:
    made = await state_store.create_session("s", agent_type="a", initial_state={"k": 1})
    with pytest.raises(SessionExistsError):
        await state_store.create_session("s", agent_type="b", initial_state={"k": 2})
    assert await state_store.load_state("s") == made


async def test_saved_state_is_what_another_store_loads(state_store: Any, state_stores: Callable[..., Any]) -> None:
    state = full_state()
    assert await state_store.save_state("s", state) == 1
    loaded = await state_stores().load_state("s")
    assert loaded.created_at == loaded.updated_at
    state.version, state.created_at, state.updated_at = 1, loaded.created_at, loaded.updated_at
    assert loaded == state


async def test_save_puts_the_whole_state_in_place_of_the_stored_one(state_store: Any) -> None:
    await state_store.save_state("s", full_state())
    created = (await state_store.load_state("s")).created_at
    assert await state_store.save_state("s", AgentState("s", "b")) == 2
    loaded = await state_store.load_state("s")
    assert loaded.created_at == created
    assert loaded == AgentState("s", "b", version=2, created_at=created, updated_at=loaded.updated_at)


async def test_a_dict_in_wire_form_is_a_state(state_store: Any) -> None:
    wire = {"agentType": "a", "stepCount": 2, "customState": {"x": 1}, "messages": [message(0)], "newField": True}
    wire["subAgentRefs"] = [{"subSessionId": "q", "agentType": "w", "newer": 1}]
    await state_store.save_state("s", wire)
    loaded = await state_store.load_state("s")
    assert (loaded.agent_type, loaded.step_count, loaded.custom_state) == ("a", 2, {"x": 1})
    assert loaded.extra == {"newField": True}
    assert loaded.sub_agent_refs == [SubAgentRef("q", "w", extra={"newer": 1})]


async def test_what_is_not_there_is_none_or_false(state_store: Any) -> None:
    assert await state_store.load_state("s") is None
    assert await state_store.session_exists("s") is False
    assert await state_store.delete_session("s") is False
    assert await state_store.get_checkpoint("s", "x") is None
    assert await state_store.get_latest_checkpoint("s") is None
    assert await state_store.list_checkpoints("s") == ([], None, False, 0)
    assert await state_store.get_staged_changes("s", "step") == []
    assert await state_store.discard_staging("s", "step") == 0


async def test_deleted_session_is_gone_and_can_be_made_anew(state_store: Any) -> None:
    await state_store.save_state("s", full_state())
    await state_store.create_checkpoint("s")
    await state_store.stage_changes("s", "step", StagedChanges("t", [], {"a": 1}, 1))
    assert await state_store.delete_session("s") is True
    assert await state_store.session_exists("s") is False
    made = await state_store.create_session("s", agent_type="a")
    assert made == await state_store.load_state("s")
    assert made.version == 1
    assert (await state_store.list_checkpoints("s")).total == 0
    assert await state_store.get_staged_changes("s", "step") == []


async def test_short_names_do_the_same(state_store: Any) -> None:
    state = full_state()
    assert await state_store.save(state) == 1
    assert await state_store.save({"sessionId": "s", "agentType": "z"}, expected_version=1) == 2
    assert (await state_store.load("s")).agent_type == "z"
    assert await state_store.exists("s") is True
    assert await state_store.delete("s") is True
    assert await state_store.exists("s") is False


async def test_version_grows_with_every_write(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    write: Any
    seen = 1
    for write in (
        lambda: state_store.update_status("s", "running"),
        lambda: state_store.compare_and_set_status("s", ["running"], "paused"),
        lambda: state_store.increment_step_count("s"),
        lambda: state_store.increment_resume_count("s"),
        lambda: state_store.append_messages("s", [message(0), message(1)]),
        lambda: state_store.pop_messages("s"),
        lambda: state_store.truncate_messages("s", 0),
        lambda: state_store.merge_custom_state("s", MergeChanges({"a": 1})),
        lambda: state_store.add_sub_agent_refs("s", [SubAgentRef("q", "w")]),
        lambda: state_store.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="x")),
        lambda: state_store.save_state("s", AgentState("s", "a")),
    ):
        await write()
        version = (await state_store.load_state("s")).version
        assert version == seen + 1
        seen = version


async def test_unexpected_version_is_refused_and_changes_nothing(state_store: Any) -> None:
    await state_store.save_state("s", full_state())
    before = await state_store.load_state("s")
    for expected in (0, 2):
        with pytest.raises(ConcurrentUpdateError) as caught:
            await state_store.save_state("s", AgentState("s", "other"), expected_version=expected)
        assert (caught.value.expected, caught.value.actual) == (expected, 1)
    assert await state_store.load_state("s") == before
    assert await state_store.save_state("s", before, expected_version=1) == 2


async def test_expected_version_of_a_session_that_is_not_there(state_store: Any) -> None:
    with pytest.raises(ConcurrentUpdateError) as caught:
        await state_store.save_state("s", AgentState("s", "a"), expected_version=4)
    assert (caught.value.expected, caught.value.actual) == (4, 0)
    assert not await state_store.session_exists("s")
    assert await state_store.save_state("s", AgentState("s", "a"), expected_version=0) == 1


async def test_compare_and_set_sets_only_what_was_expected(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    assert await state_store.compare_and_set_status("s", ["running", "paused"], "failed") is False
    assert (await state_store.load_state("s")).version == 1
    assert await state_store.compare_and_set_status("s", {"running", "active"}, "failed") is True
    assert (await state_store.load_state("s")).status == "failed"
    assert await state_store.compare_and_set_status("s", ["failed"], "x", expected_version=1) is False
    assert await state_store.compare_and_set_status("s", ["failed"], "my own status", expected_version=2) is True
    assert (await state_store.load_state("s")).status == "my own status"


async def test_of_many_racing_callers_exactly_one_wins(state_stores: Callable[..., Any], thorough: bool) -> None:
    stores = [state_stores() for _ in range(4)]
    await stores[0].create_session("s", agent_type="a")
    # One server on its own shows what there is to see; the others shall do the same, and not take as long.
    rounds = 1000 if thorough else 20
    for number in range(rounds):
        before, after = ("active" if number == 0 else f"round {number - 1}"), f"round {number}"
        outcomes = await asyncio.gather(
            *(stores[caller % 4].compare_and_set_status("s", [before], after) for caller in range(200))
        )
        assert outcomes.count(True) == 1, f"round {number}"
    assert (await stores[0].load_state("s")).version == rounds + 1


async def test_counters_count(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    steps = await asyncio.gather(*(state_store.increment_step_count("s") for _ in range(50)))
    assert sorted(steps) == list(range(1, 51))
    assert await state_store.increment_step_count("s", 5) == 55
    assert await state_store.increment_resume_count("s") == 1
    state = await state_store.load_state("s")
    assert (state.step_count, state.resume_count) == (55, 1)


async def test_a_counter_stops_where_it_would_lose_precision(state_store: Any) -> None:
    await state_store.save_state("s", AgentState("s", "a", step_count=2**53 - 2))
    assert await state_store.increment_step_count("s") == 2**53 - 1
    with pytest.raises(InvalidArgumentError):
        await state_store.increment_step_count("s")
    assert (await state_store.load_state("s")).step_count == 2**53 - 1


def writes(store: Any, token: int | None) -> dict[str, Callable[[], Any]]:
    """Every write of session "s", which exists; the checkpoint id is made by the caller."""
    with_token = {"fencing_token": token}
    return {
        "save": lambda: store.save_state("s", AgentState("s", "a"), **with_token),
        "status": lambda: store.update_status("s", "x", **with_token),
        "cas": lambda: store.compare_and_set_status("s", ["x", "active"], "x", **with_token),
        "steps": lambda: store.increment_step_count("s", **with_token),
        "resumes": lambda: store.increment_resume_count("s", **with_token),
        "append": lambda: store.append_messages("s", [message(0)], **with_token),
        "truncate": lambda: store.truncate_messages("s", 0, **with_token),
        "merge": lambda: store.merge_custom_state("s", MergeChanges({"a": 1}), **with_token),
        "add refs": lambda: store.add_sub_agent_refs("s", [SubAgentRef("q", "w")], **with_token),
        "update ref": lambda: store.update_sub_agent_ref("s", SubAgentRefUpdate("q", status="x"), **with_token),
        "checkpoint": lambda: store.create_checkpoint("s", **with_token),
        "restore": lambda: store.restore_checkpoint("s", "no such", **with_token),
        "drop checkpoints": lambda: store.delete_checkpoints("s", **with_token),
        "stage": lambda: store.stage_changes("s", "step", StagedChanges("t", [], {"b": 1}, 1), **with_token),
        "promote": lambda: store.promote_staging("s", "step", **with_token),
        "discard": lambda: store.discard_staging("s", "step", **with_token),
        "pop": lambda: store.pop_messages("s", **with_token),
        "delete": lambda: store.delete_session("s", **with_token),
    }


@pytest.mark.parametrize("name", list(writes(None, None)))
async def test_a_stale_token_is_refused_by_every_write_and_changes_nothing(state_store: Any, name: str) -> None:
    await state_store.save_state("s", full_state(), fencing_token=BIG_TOKEN)
    await state_store.add_sub_agent_refs("s", [SubAgentRef("q", "w")])
    await state_store.create_checkpoint("s")
    await state_store.stage_changes("s", "step", StagedChanges("t", [], {"b": 1}, 1))
    before = await state_store.load_state("s")
    for stale in (BIG_TOKEN - 1, 99, 0):
        with pytest.raises(StaleFencingTokenError) as caught:
            await writes(state_store, stale)[name]()
        assert (caught.value.token, caught.value.current) == (stale, BIG_TOKEN)
    assert await state_store.load_state("s") == before
    assert (await state_store.list_checkpoints("s")).total == 1
    assert len(await state_store.get_staged_changes("s", "step")) == 1


@pytest.mark.parametrize("name", [name for name in writes(None, None) if name not in {"restore", "delete"}])
async def test_every_write_that_passes_makes_its_token_the_largest_seen(state_store: Any, name: str) -> None:
    await state_store.create_session("s", agent_type="a", fencing_token=9)
    await state_store.add_sub_agent_refs("s", [SubAgentRef("q", "w")], fencing_token=9)
    await writes(state_store, BIG_TOKEN)[name]()
    with pytest.raises(StaleFencingTokenError):
        await state_store.update_status("s", "x", fencing_token=10)
    await state_store.update_status("s", "x", fencing_token=BIG_TOKEN)
    await state_store.update_status("s", "x")


@pytest.mark.parametrize("name", [name for name in writes(None, None) if name not in {"save", "discard", "delete"}])
async def test_a_write_that_needs_a_session_says_so_and_makes_none(state_store: Any, name: str) -> None:
    with pytest.raises(SessionNotFoundError):
        await writes(state_store, 5)[name]()
    assert not await state_store.session_exists("s")


@pytest.mark.parametrize("read", ["get_messages", "get_message_count", "get_sub_agent_refs"])
async def test_a_read_that_needs_a_session_says_so(state_store: Any, read: str) -> None:
    with pytest.raises(SessionNotFoundError):
        await getattr(state_store, read)("s")


async def test_prefixes_that_begin_with_each_other_stay_apart(state_stores: Callable[..., Any]) -> None:
    stores = [state_stores(key_prefix=prefix) for prefix in ("", "app", "app:", "app:session:", "app2:", "app:x")]
    for number, store in enumerate(stores):
        await store.create_session("s", agent_type=f"a{number}")
        await store.append_messages("s", [message(number)])
        await store.create_checkpoint("s")
    for number, store in enumerate(stores):
        assert (await store.load_state("s")).agent_type == f"a{number}"
        assert (await store.get_messages("s")).messages == [message(number)]
        assert await store.delete_session("s") is True
        assert [await each.session_exists("s") for each in stores].count(True) == len(stores) - number - 1
        assert not await store.session_exists("s:custom")


async def test_ids_that_look_like_parts_of_others_stay_apart(state_store: Any) -> None:
    ids = ["a", "a:custom", "a:messages:1", "a b", "日本", "x" * 512]
    for one in ids:
        await state_store.create_session(one, agent_type="t", initial_state={"id": one})
        await state_store.append_messages(one, [{"id": one}])
    for one in ids:
        state = await state_store.load_state(one)
        assert (state.session_id, state.custom_state, state.messages) == (one, {"id": one}, [{"id": one}])


async def test_step_ids_may_be_any_id(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="t")
    for step in ("1", "a:b", "日本", "x y"):
        await state_store.stage_changes("s", step, StagedChanges("t", [], {"last": step}, 1))
        assert (await state_store.promote_staging("s", step)).applied == 1
        assert (await state_store.load_state("s")).custom_state == {"last": step}


@pytest.mark.parametrize("token", [7, None])
async def test_a_stale_holder_cannot_bring_back_a_deleted_session(state_stores: Callable[..., Any], token: Any) -> None:
    stale, newer = state_stores(), state_stores()
    await stale.create_session("s", agent_type="a", fencing_token=5)
    state = await stale.load_state("s")
    await newer.update_status("s", "taken over", fencing_token=7)
    assert await newer.delete_session("s", fencing_token=token) is True
    writes_of_the_stale: list[Callable[[], Any]] = [
        lambda: stale.save_state("s", state, fencing_token=5),
        lambda: stale.create_session("s", agent_type="a", fencing_token=6),
        lambda: stale.update_status("s", "x", fencing_token=5),
        lambda: stale.delete_session("s", fencing_token=5),
    ]
    for write in writes_of_the_stale:
        with pytest.raises(StaleFencingTokenError) as caught:
            await write()
        assert caught.value.current == 7
    assert not await newer.session_exists("s")
    await newer.create_session("s", agent_type="made anew")
    for write in writes_of_the_stale:
        with pytest.raises(StaleFencingTokenError):
            await write()
    assert (await newer.load_state("s")).agent_type == "made anew"
    await newer.update_status("s", "x", fencing_token=7)


async def test_deleting_what_is_not_there_leaves_the_token_too(state_store: Any) -> None:
    assert await state_store.delete_session("s", fencing_token=9) is False
    with pytest.raises(StaleFencingTokenError):
        await state_store.create_session("s", agent_type="a", fencing_token=8)
    await state_store.create_session("s", agent_type="a", fencing_token=9)


async def test_touch_says_whether_there_is_a_session_and_leaves_its_version(state_store: Any) -> None:
    assert await state_store.touch("s") is False
    assert await state_store.touch("s", ttl=100) is False
    made = await state_store.create_session("s", agent_type="a", fencing_token=3)
    for ttl in (None, 1000, 0):
        assert await state_store.touch("s", ttl=ttl) is True
    with pytest.raises(StaleFencingTokenError):
        await state_store.touch("s", fencing_token=2)
    assert await state_store.load_state("s") == made


async def listed(store: Any, **options: Any) -> list[str]:
    """All ids, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.list_sessions(cursor=cursor, **options)
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


async def test_sessions_are_listed_while_they_exist(state_stores: Callable[..., Any]) -> None:
    first, second, other = state_stores(), state_stores(), state_stores(key_prefix="other:")
    assert await first.list_sessions() == []
    ids = [f"session {n}" for n in range(30)] + ["日本", "07"]
    for one in ids[::2]:
        await first.create_session(one, agent_type="a")
    for one in ids[1::2]:
        await second.save_state(one, {"agentType": "a"})
    await other.create_session("elsewhere", agent_type="a")
    for limit in (None, 1, 7, 100):
        assert sorted(await listed(second, limit=limit)) == sorted(ids)
    page = await first.list_sessions(limit=5)
    assert len(page) == 5
    for one in ids[:20]:
        await second.delete_session(one)
    assert sorted(await listed(first, limit=3)) == sorted(ids[20:])
    await first.create_session(ids[0], agent_type="made anew")
    await second.save_state(ids[1], {"agentType": "made anew"})
    assert sorted(await listed(second)) == sorted([*ids[:2], *ids[20:]])
    assert await other.list_sessions() == ["elsewhere"]


async def test_sessions_of_stores_that_keep_them_are_listed_too(state_stores: Callable[..., Any]) -> None:
    keeping, brief = state_stores(ttl=None), state_stores(ttl=1000)
    await keeping.create_session("kept", agent_type="a")
    await brief.create_session("brief", agent_type="a")
    await brief.touch("brief", ttl=0)
    await brief.update_status("kept", "x")
    assert sorted(await listed(keeping, limit=1)) == ["brief", "kept"]
