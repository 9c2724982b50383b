"""A run: what it leaves in stream, state and usage, and how its handle finds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import (
    Helix,
    InvalidArgumentError,
    InvalidIdError,
    SessionRun,
    StreamNotFoundError,
    TextDeltaChunk,
    TokenCounts,
    TokenUsage,
    UsageSource,
)
from helix_fast.agents import AgentExecutor, FunctionAdapter, Messages, Output, RunContext, RunResult
from tests.support.run_agents import counted, counter, greeter, texts

USER = {"role": "user", "content": "hi"}


async def test_what_a_run_leaves(helix: Helix, executor: AgentExecutor) -> None:
    handle = await executor.execute(greeter, "hi", session_id="s")
    assert (handle.session_id, handle.joined) == ("s", False)
    result = await handle.result()
    assert result == RunResult("completed", {"said": "hi"}, None, handle.run_id)
    chunks = [stored async for stored in handle.stream()]
    assert [stored.sequence for stored in chunks] == [1, 2, 3, 4]
    assert [stored.chunk.type for stored in chunks] == ["text_delta", "thinking", "text_delta", "output"]
    assert {(stored.chunk.agent_id, stored.chunk.agent_type) for stored in chunks} == {("s", "greeter")}
    assert all(stored.chunk.timestamp for stored in chunks)
    assert [stored.sequence async for stored in handle.stream(2)] == [3, 4]
    state = await handle.get_state()
    assert state is not None
    assert state.messages == [USER, {"role": "assistant", "content": "Hello world"}]
    assert (state.agent_type, state.status, state.output, state.error) == ("greeter", "completed", {"said": "hi"}, None)
    assert state.run is not None
    assert (state.run.id, state.run.stream_id, state.run.phase) == (handle.run_id, handle.stream_id, "completed")
    info = await helix.streams.get_info(handle.stream_id)
    assert info is not None
    assert (info.status, info.output, info.lease_expires_at) == ("ended", {"said": "hi"}, None)
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 7
    assert not await helix.locks.is_locked("s")


async def test_the_session_names_the_run_before_execute_returns(helix: Helix, executor: AgentExecutor) -> None:
    handle = await executor.execute(counter, "hi", session_id="s", initial_state={"k": 1}, metadata={"m": 1})
    state = await helix.state.load_state("s")
    assert state is not None
    assert (state.status, state.messages, state.custom_state, state.metadata) == ("running", [USER], {"k": 1}, {"m": 1})
    assert state.run == SessionRun(handle.run_id, handle.stream_id, "running")
    assert await helix.locks.is_locked("s")
    info = await helix.streams.get_info(handle.stream_id)
    assert info is not None
    assert info.lease_expires_at is not None


async def test_the_same_result_from_another_process(executor: AgentExecutor, elsewhere: AgentExecutor) -> None:
    handle = await executor.execute(counter, "hi", session_id="s")
    other = await elsewhere.get_handle("s")
    assert other is not None
    assert (other.run_id, other.stream_id, other.joined) == (handle.run_id, handle.stream_id, True)
    waiting = asyncio.create_task(other.result())
    await counted(handle)
    await handle.stop()
    assert await waiting == await handle.result() == RunResult("interrupted", None, None, handle.run_id)
    assert await texts(other) == await texts(handle)
    assert await elsewhere.get_handle("nobody") is None
    last = await elsewhere.get_handle("s")
    assert last is not None
    assert await last.result() == await waiting


async def test_the_result_of_a_run_is_not_that_of_a_later_one(
    helix: Helix, executor: AgentExecutor, elsewhere: AgentExecutor
) -> None:
    await executor.execute(greeter, "first", session_id="s")
    first = await elsewhere.get_handle("s")
    assert first is not None
    await first.result()
    second = await executor.execute(counter, "second", session_id="s")
    assert await first.result() == RunResult("completed", {"said": "first"}, None, first.run_id)
    await second.stop()
    await second.result()
    third = await executor.execute(greeter, "third", session_id="s")
    await third.result()
    gone = await elsewhere.get_handle("s")
    assert gone is not None
    assert (await first.result()).output == {"said": "first"}
    await helix.streams.delete_stream(first.stream_id)
    assert (await first.result()).output == {"said": "first"}, "of the checkpoint of its end"
    await helix.streams.delete_stream(gone.stream_id)
    assert (await gone.result()).output == {"said": "third"}, "of the state"
    await helix.state.delete_session("s")
    with pytest.raises(StreamNotFoundError):
        await gone.result()


async def test_a_run_that_its_caller_names_is_run_once(executor: AgentExecutor, elsewhere: AgentExecutor) -> None:
    handle = await executor.execute(greeter, "hi", session_id="s", run_id="r")
    result = await handle.result()
    assert result.run_id == "r"
    again = await elsewhere.execute(greeter, "hi", session_id="s", run_id="r")
    assert again.joined
    assert await again.result() == result
    await (await executor.execute(greeter, "more", session_id="s")).result()
    again = await elsewhere.execute(greeter, "hi", session_id="s", run_id="r")
    assert await again.result() == result
    assert await texts(again) == ["Hello ", "world"]
    state = await again.get_state()
    assert state is not None
    assert len(state.messages) == 4


async def test_what_an_agent_sees(executor: AgentExecutor) -> None:
    seen: list[Any] = []

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        seen.append((message, context.history, context.messages, context.step, context.resumed, context.agent_type))
        context.send({"type": "custom", "eventName": "from a tool"})
        yield Messages([{"role": "assistant", "content": "done"}])
        yield Output(context.session_id)

    for message in ("hi", {"role": "user", "content": "hi"}, [USER, USER], None):
        handle = await executor.execute(agent, message, session_id="s", agent_type="seer")
        assert (await handle.result()).output == "s"
        assert [stored.chunk.type async for stored in handle.stream()] == ["custom", "output"]
    done = {"role": "assistant", "content": "done"}
    assert seen[0] == ("hi", [], [USER], 1, False, "seer")
    assert seen[1][1:3] == ([USER, done], [USER, done, USER])
    assert seen[2][1:3] == ([USER, done] * 2, [*([USER, done] * 2), USER, USER])
    assert seen[3][1] == seen[3][2] == [*([USER, done] * 2), USER, USER, done]


async def test_everything_that_an_agent_may_yield(helix: Helix, executor: AgentExecutor) -> None:
    entry = TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1, completion=1), id="a")

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield TextDeltaChunk(delta="a")
        yield TextDeltaChunk(delta="b", step=3)
        yield {"type": "text_delta", "delta": "c"}
        yield {"type": "from a later version", "kind": "strange"}
        yield entry
        yield entry
        yield {"kind": "custom", "type": "pages", "value": 2, "id": "b"}
        yield {"type": "output", "output": 1}
        yield Output(2)

    handle = await executor.execute(agent, None, session_id="s")
    assert (await handle.result()).output == 2
    kinds = [stored.chunk.type async for stored in handle.stream()]
    assert kinds == [*["text_delta"] * 3, "from a later version", "output", "output"]
    first, second = await helix.usage.get_entries("s")
    assert (first.id, first.run_id, first.step_count) == ("a", handle.run_id, 1)
    assert first.source == second.source == UsageSource(type="agent", name="agent")
    assert (second.kind, second.run_id, second.session_id) == ("custom", handle.run_id, "s")


async def test_a_step_is_committed_as_a_whole(helix: Helix, executor: AgentExecutor) -> None:
    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        await asyncio.gather(
            context.stage("a", {"notes": ["a"], "n": 1}),
            context.stage("b", [{"op": "add", "path": "/patched", "value": True}]),
        )
        state = await helix.state.load_state("s")
        assert state is not None
        assert state.custom_state == {}
        promoted = await context.commit_step()
        assert (promoted.applied, context.step) == (2, 2)
        await context.stage("a", {"notes": ["c"]})
        await context.commit_step()
        yield Output((await context.load_state()).custom_state)

    handle = await executor.execute(agent, "hi", session_id="s")
    assert (await handle.result()).output == {"notes": ["a", "c"], "n": 1, "patched": True}
    state = await handle.get_state()
    assert state is not None
    assert state.step_count == 2


async def test_the_stores_one_by_one_and_usage_for_one_call(helix: Helix) -> None:
    executor = AgentExecutor(helix.state, helix.streams, FunctionAdapter(greeter), lock_manager=helix.locks)
    handle = await executor.execute(None, "hi", session_id="s", agent_type="a")
    await handle.result()
    assert await handle.get_usage_rollup() is None
    handle = await executor.execute(None, "hi", session_id="s", usage_store=helix.usage)
    await handle.result()
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 7


async def test_wrong_arguments(helix: Helix, executor: AgentExecutor) -> None:
    with pytest.raises(InvalidArgumentError, match="stream manager"):
        AgentExecutor(helix.state, FunctionAdapter())  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="run"):
        AgentExecutor(helix, object())  # type: ignore[call-overload]
    with pytest.raises(InvalidIdError):
        await executor.execute(greeter, "hi", session_id="{")
    with pytest.raises(InvalidArgumentError, match="if_busy"):
        await executor.execute(greeter, "hi", if_busy="queue")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="messages"):
        await executor.execute(greeter, 7, session_id="s")
    assert not await helix.state.session_exists("s")
    assert not await helix.locks.is_locked("s")
    assert executor.running == 0


async def test_the_stream_of_a_run_keeps_its_first_chunk(helix: Helix) -> None:
    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        for number in range(2_000):
            yield str(number)

    streams = type(helix.streams)(topology=helix.streams._requests.topology, max_stream_length=100)
    for options in ({}, {"max_length": 100}):
        executor = AgentExecutor(helix.state, streams, **options)
        handle = await executor.execute(agent, "hi")
        await handle.result()
        info = await streams.get_info(handle.stream_id)
        assert info is not None
        assert (info.first_sequence == 1) == (not options)
    await streams.close()
