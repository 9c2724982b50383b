"""Runs begin and end once, whoever repeats it, and each in one step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast.errors import (
    CheckpointNotFoundError,
    InvalidArgumentError,
    InvalidIdError,
    RunConflictError,
    SessionNotFoundError,
    StaleFencingTokenError,
)
from helix_fast.state.schema import AgentState, SessionRun

HELLO = {"role": "user", "content": "hello"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "hi", "deep": {"empty": [], "big": 2**70}}


async def test_a_run_that_begins_creates_its_session(state_store: Any) -> None:
    begun = await state_store.begin_run(
        "s", "r", agent_type="a", stream_id="s:r", messages=[HELLO], initial_state={"k": [1]}, metadata={"m": 1},
        parent_session_id="p",
    )  # fmt: skip
    assert begun.begun is True
    assert begun.state == await state_store.load_state("s")
    state = begun.state
    assert (state.agent_type, state.status, state.messages, state.custom_state) == ("a", "running", [HELLO], {"k": [1]})
    assert (state.metadata, state.parent_session_id, state.version) == ({"m": 1}, "p", 1)
    assert state.run == SessionRun("r", "s:r", "running") == await state_store.get_run("s")
    assert await state_store.list_sessions() == ["s"]


async def test_a_run_goes_on_in_a_session_that_exists(state_store: Any) -> None:
    await state_store.save_state("s", AgentState("s", "a", "failed", 3, 1, {"k": 1}, [HELLO], {"old": 1}, "broken"))
    begun = await state_store.begin_run("s", "r", agent_type="other", messages=[ANSWER], resumes=True)
    state = begun.state
    assert (state.agent_type, state.status, state.step_count, state.resume_count) == ("a", "running", 3, 2)
    assert (state.messages, state.custom_state, state.output, state.error) == ([HELLO, ANSWER], {"k": 1}, None, None)
    assert state.run == SessionRun("r", None, "running")
    assert begun.state == await state_store.load_state("s")


async def test_what_a_run_leaves(state_store: Any) -> None:
    await state_store.begin_run("s", "r", agent_type="a", stream_id="s:r", messages=[HELLO])
    checkpoint = await state_store.finish_run(
        "s", "r", messages=[ANSWER], output={"n": 2**70, "l": []}, status="completed", metadata={"m": 1}
    )
    state = await state_store.load_state("s")
    assert (state.status, state.messages, state.output) == ("completed", [HELLO, ANSWER], {"n": 2**70, "l": []})
    assert state.run == SessionRun("r", "s:r", "completed", checkpoint.id) == await state_store.get_run("s")
    assert (checkpoint.run_id, checkpoint.status, checkpoint.message_count) == ("r", "completed", 2)
    assert (checkpoint.metadata, checkpoint.version) == ({"m": 1}, state.version)
    assert (await state_store.get_checkpoint("s", checkpoint.id)).state == state
    assert [each.run_id for each in (await state_store.list_checkpoints("s")).items] == ["r"]


async def test_a_failed_run_leaves_its_error_until_the_next_one(state_store: Any) -> None:
    await state_store.begin_run("s", "r", agent_type="a")
    await state_store.finish_run("s", "r", messages=[], output=None, status="failed", error="ValueError: no")
    state = await state_store.load_state("s")
    assert (state.status, state.error, state.output, state.run.phase) == ("failed", "ValueError: no", None, "failed")
    assert (await state_store.begin_run("s", "q", agent_type="a")).state.error is None


async def test_a_repeated_end_returns_the_same_checkpoint_and_adds_nothing(state_store: Any) -> None:
    await state_store.begin_run("s", "r", agent_type="a", messages=[HELLO])
    first = await state_store.finish_run("s", "r", messages=[ANSWER], output=1, status="completed")
    left = await state_store.load_state("s")
    assert await state_store.finish_run("s", "r", messages=[ANSWER], output=2, status="failed") == first
    assert await state_store.load_state("s") == left
    await state_store.begin_run("s", "q", agent_type="a", messages=[HELLO])
    later = await state_store.load_state("s")
    assert await state_store.finish_run("s", "r", messages=[ANSWER], output=1, status="completed") == first
    assert await state_store.load_state("s") == later
    assert (await state_store.list_checkpoints("s")).total == 1


async def test_ends_at_the_same_time_make_one(state_store: Any, state_stores: Any) -> None:
    await state_store.begin_run("s", "r", agent_type="a")
    stores = [state_stores() for _ in range(4)]
    ends = await asyncio.gather(
        *(store.finish_run("s", "r", messages=[ANSWER], output=n, status="completed") for n, store in enumerate(stores))
    )
    assert len({checkpoint.id for checkpoint in ends}) == 1
    state = await state_store.load_state("s")
    assert (len(state.messages), state.output in range(4)) == (1, True)


async def test_a_run_that_is_begun_again_has_its_messages_once(state_store: Any) -> None:
    options: Any = {"agent_type": "a", "messages": [HELLO]}
    first = await state_store.begin_run("s", "r", stream_id="s:r", **options)
    assert await state_store.begin_run("s", "r", stream_id="s:r", **options) == first
    run = first.state.run
    again = await state_store.begin_run("s", "r", stream_id="s:r:2", takes_over=run, **options)
    assert (again.begun, again.state.messages, again.state.run.stream_id) == (True, [HELLO], "s:r:2")
    with pytest.raises(RunConflictError):  # the first attempt has been taken over
        await state_store.begin_run("s", "r", stream_id="s:r:3", takes_over=run, **options)
    await state_store.finish_run("s", "r", messages=[ANSWER], output=1, status="completed")
    ended = await state_store.begin_run("s", "r", stream_id="s:r:4", **options)
    assert (ended.begun, ended.state) == (False, await state_store.load_state("s"))
    await state_store.begin_run("s", "q", **options)
    assert (await state_store.begin_run("s", "r", stream_id="s:r:4", **options)).begun is False


async def test_a_session_is_in_one_run_at_a_time(state_store: Any, state_stores: Any) -> None:
    stores = [state_stores() for _ in range(6)]
    tried = await asyncio.gather(
        *(store.begin_run("s", f"r{n}", agent_type="a", messages=[{"n": n}]) for n, store in enumerate(stores)),
        return_exceptions=True,
    )
    (begun,) = [each for each in tried if not isinstance(each, BaseException)]
    refused = [each for each in tried if isinstance(each, RunConflictError)]
    assert len(refused) == 5
    assert {error.current for error in refused} == {begun.state.run.id}
    assert await state_store.load_state("s") == begun.state


async def test_a_run_whose_worker_is_gone_is_taken_over(state_store: Any) -> None:
    first = await state_store.begin_run("s", "r", agent_type="a", stream_id="s:r", messages=[HELLO], fencing_token=1)
    second = await state_store.begin_run(
        "s", "q", agent_type="a", stream_id="s:q", messages=[ANSWER], takes_over=first.state.run, fencing_token=2
    )
    assert (second.state.messages, second.state.run) == ([HELLO, ANSWER], SessionRun("q", "s:q"))
    with pytest.raises(StaleFencingTokenError):
        await state_store.finish_run("s", "r", messages=[ANSWER], output=1, status="completed", fencing_token=1)
    with pytest.raises(RunConflictError) as conflict:
        await state_store.finish_run("s", "r", messages=[ANSWER], output=1, status="completed")
    assert (conflict.value.session_id, conflict.value.run_id, conflict.value.current) == ("s", "r", "q")
    assert await state_store.load_state("s") == second.state


async def test_a_run_may_end_that_was_never_begun(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    first = await state_store.finish_run("s", "r", messages=[ANSWER], output="o", status="completed")
    second = await state_store.finish_run("s", "q", messages=[ANSWER], output="p", status="completed")
    assert await state_store.finish_run("s", "r", messages=[ANSWER], output="o", status="completed") == first
    state = await state_store.load_state("s")
    assert (len(state.messages), state.output, state.run) == (2, "p", SessionRun("q", None, "completed", second.id))


async def test_only_runs_change_the_run_of_a_session(state_store: Any) -> None:
    begun = await state_store.begin_run("s", "r", agent_type="a", stream_id="s:r")
    checkpoint = await state_store.create_checkpoint("s")
    await state_store.finish_run("s", "r", messages=[HELLO], output=1, status="completed")
    ended = await state_store.get_run("s")
    await state_store.save_state("s", begun.state)
    assert await state_store.get_run("s") == ended
    restored = await state_store.restore_checkpoint("s", checkpoint.id)
    assert restored.run == ended == await state_store.get_run("s")
    assert restored == await state_store.load_state("s")
    assert (await state_store.get_checkpoint("s", checkpoint.id)).state.run == begun.state.run


async def test_an_end_whose_checkpoint_is_gone_is_not_repeated(state_store: Any) -> None:
    await state_store.begin_run("s", "r", agent_type="a")
    await state_store.finish_run("s", "r", messages=[HELLO], output=1, status="completed")
    assert await state_store.delete_checkpoints("s") == 1
    with pytest.raises(CheckpointNotFoundError):
        await state_store.finish_run("s", "r", messages=[HELLO], output=1, status="completed")
    assert (await state_store.begin_run("s", "r", agent_type="a", messages=[HELLO])).begun is False
    assert len((await state_store.load_state("s")).messages) == 1


async def test_bad_runs_are_refused(state_store: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        await state_store.finish_run("s", "r", messages=[], output=1, status="completed")
    assert await state_store.get_run("s") is None
    for run_id in ("", "{", "x" * 513, 7):
        with pytest.raises(InvalidIdError):
            await state_store.begin_run("s", run_id, agent_type="a")
    with pytest.raises(InvalidIdError):
        await state_store.begin_run("s", "r", agent_type="a", stream_id="")
    wrong: dict[str, Any]
    for wrong in ({"agent_type": ""}, {"agent_type": "a", "messages": ["text"]}, {"agent_type": "a", "metadata": 1}):
        with pytest.raises(InvalidArgumentError):
            await state_store.begin_run("s", "r", **wrong)
    assert not await state_store.session_exists("s")
    await state_store.begin_run("s", "r", agent_type="a")
    for wrong in ({"status": "running"}, {"status": ""}, {"output": float("nan")}, {"error": ""}, {"messages": [1]}):
        with pytest.raises(InvalidArgumentError):
            await state_store.finish_run("s", "r", **{"messages": [], "output": 1, "status": "completed", **wrong})
    assert (await state_store.get_run("s")).phase == "running"
