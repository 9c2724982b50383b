"""Sub-agents: their sessions, the traces that they leave above, and that they stop with the run above."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import Helix, ProducerLostError, SubAgentEndChunk, SubAgentStartChunk
from helix_fast.agents import AgentExecutor, Output, RunContext, RunResult
from helix_fast.testing.waiting import until
from tests.support.run_agents import becomes, broken, counted, counter, greeter


async def test_what_a_sub_agent_leaves(helix: Helix, executor: AgentExecutor) -> None:
    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "I ask. "
        result = await context.run_sub_agent(greeter, "who?", tool_call_id="call")
        yield Output(result.output)
        yield {"kind": "tokens", "model": "m", "tokens": {"prompt": 1, "completion": 1}}

    handle = await executor.execute(agent, "hi", session_id="s")
    assert (await handle.result()).output == {"said": "who?"}
    _text, start, end, _output = [stored.chunk async for stored in handle.stream()]
    assert isinstance(start, SubAgentStartChunk)
    assert isinstance(end, SubAgentEndChunk)
    assert start.sub_session_id == end.sub_session_id
    assert (start.sub_agent_type, end.sub_agent_type, start.tool_call_id) == ("greeter", "greeter", "call")
    assert (end.success, end.result, end.error) == (True, {"said": "who?"}, None)
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert (ref.sub_session_id, ref.status, ref.result) == (start.sub_session_id, "completed", {"said": "who?"})
    child = await helix.state.load_state(ref.sub_session_id)
    assert child is not None
    assert (child.parent_session_id, child.status, len(child.messages)) == ("s", "completed", 2)
    alone, together = [await handle.get_usage_rollup(include_sub_agents=below) for below in (False, True)]
    assert alone is not None
    assert together is not None
    assert (alone.tokens.total, together.tokens.total, together.sub_agent_stats.total_calls) == (2, 9, 1)


async def test_sub_agents_side_by_side_and_below_each_other(executor: AgentExecutor) -> None:
    async def agent(depth: Any, context: RunContext) -> AsyncIterator[Any]:
        yield {"kind": "tokens", "model": "m", "tokens": {"prompt": 1, "completion": 0}}
        below = {"role": "user", "depth": depth["depth"] - 1}
        children = [context.run_sub_agent(agent, below) for _ in range(2 if depth["depth"] else 0)]
        results = await asyncio.gather(*children)
        yield Output(1 + sum(result.output for result in results))

    handle = await executor.execute(agent, {"role": "user", "depth": 2})
    assert (await handle.result()).output == 7
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 7


async def test_a_sub_agent_that_fails_does_not_fail_the_run(helix: Helix, executor: AgentExecutor) -> None:
    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        result = await context.run_sub_agent(broken, "no")
        yield Output([result.status, result.error])

    handle = await executor.execute(agent, "hi", session_id="s")
    assert (await handle.result()).output == ["failed", "ValueError: no"]
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert (ref.status, ref.error) == ("failed", "ValueError: no")


@pytest.mark.parametrize("how", ["stop", "drain", "lost lock", "failure"])
async def test_sub_agents_end_with_the_run_above(helix: Helix, executor: AgentExecutor, how: str) -> None:
    fail = asyncio.Event()

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "I ask. "
        below = [asyncio.create_task(context.run_sub_agent(counter, "count")) for _ in range(2)]
        if how != "failure":
            await asyncio.gather(*below)
        await fail.wait()
        for task in below:
            task.cancel()
        raise ValueError("no")

    handle = await executor.execute(agent, "hi", session_id="s")
    await counted(handle)

    async def both_run() -> bool:
        refs = await helix.state.get_sub_agent_refs("s")
        return len(refs) == 2 and all([await helix.state.get_run(ref.sub_session_id) for ref in refs])

    await becomes(both_run)
    if how == "stop":
        await handle.stop("enough")
    elif how == "drain":
        await executor.drain(0)
    elif how == "failure":
        fail.set()
    else:
        (run,) = executor._runs.values()
        assert run._lock is not None
        run._lock._lose()
    outcome: Any = None
    try:
        outcome = await handle.result()
    except Exception as error:
        outcome = error
    if how == "lost lock":
        assert isinstance(outcome, ProducerLostError)
    elif how == "failure":
        assert "ValueError: no" in str(outcome)
    else:
        assert outcome == RunResult("interrupted", None, None, handle.run_id)
    refs = await helix.state.get_sub_agent_refs("s")
    for ref in refs:
        child = await helix.state.load_state(ref.sub_session_id)
        assert child is not None
        assert child.status == "interrupted"
    if how != "lost lock":
        assert [ref.status for ref in refs] == ["interrupted"] * 2
    if how in {"stop", "drain"}:
        kinds = [stored.chunk.type async for stored in handle.stream()]
        assert kinds.count("subagent_end") == 2
    await until(lambda: executor.running == 0)


async def test_a_successor_gives_up_the_sub_agents_of_a_dead_worker(helix: Helix, executor: AgentExecutor) -> None:
    """The worker was killed while a sub-agent ran: what was used below is counted, once."""
    began = await helix.state.begin_run("s", "r", agent_type="a", stream_id="s:r")
    await helix.state.add_sub_agent_refs("s", [{"subSessionId": "below", "agentType": "b"}])
    await helix.usage.record_tokens("below", "m", prompt=5, completion=0)
    await helix.state.stage_changes("s", "r:1", {"toolCallId": "c", "mergeChanges": {"n": 1}})
    handle = await executor.execute(greeter, "hi", session_id="s")
    await handle.result()
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert ref.status == "failed"
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 12
    assert await helix.state.get_staged_changes("s", "r:1") == []
    assert began.state.run is not None
