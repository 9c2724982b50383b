"""How runs end before their agent does: stopped, failed, drained, or with their caller gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import (
    ExecutorClosedError,
    Helix,
    LockNotAcquiredError,
    ProducerLostError,
    RunFailedError,
    RunResumedChunk,
    StreamFailedError,
)
from helix_fast.agents import AgentExecutor, Messages, Output, RunContext, RunResult
from helix_fast.testing.waiting import until
from tests.support.run_agents import becomes, broken, counted, counter, greeter, texts


async def test_a_stopped_run_keeps_what_it_has_said(executor: AgentExecutor, elsewhere: AgentExecutor) -> None:
    handle = await executor.execute(counter, "count", session_id="s")
    await counted(handle)
    other = await elsewhere.get_handle("s")
    assert other is not None
    await other.stop("enough")
    assert await other.result() == await handle.result() == RunResult("interrupted", None, None, handle.run_id)
    chunks = [stored.chunk async for stored in handle.stream()]
    assert (chunks[-1].type, chunks[-1].reason) == ("run_interrupted", "enough")  # type: ignore[union-attr]
    said = await texts(handle)
    assert said == [f"{n + 1} " for n in range(len(said))]
    state = await handle.get_state()
    assert state is not None
    assert (state.status, state.messages[-1]) == ("interrupted", {"role": "assistant", "content": "".join(said)})
    await other.stop("again, which changes nothing")


async def test_a_stop_reaches_an_agent_wherever_it_is(executor: AgentExecutor) -> None:
    closed: list[str] = []

    async def waiting(message: Any, context: RunContext) -> AsyncIterator[Any]:
        try:
            yield "asked"
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert context.stop_requested
            yield Messages([{"role": "assistant", "content": context.stop_reason}])
        finally:
            closed.append("waiting")

    async def busy(message: Any, context: RunContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.append("busy")

    for agent, said in ((waiting, "because"), (busy, "x")):
        handle = await executor.execute(agent, "hi", session_id=agent.__name__)
        await counted(handle)
        await handle.stop("because")
        assert (await handle.result()).status == "interrupted"
        state = await handle.get_state()
        assert state is not None
        assert state.messages[1]["content"].startswith(said)
    assert closed == ["waiting", "busy"]


async def test_an_agent_that_does_not_want_to_stop_is_asked_again(helix: Helix) -> None:
    asked = 0

    async def stubborn(message: Any, context: RunContext) -> AsyncIterator[Any]:
        nonlocal asked
        yield "asked"
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:  # noqa: PERF203
                asked += 1
                if asked == 3:
                    raise

    executor = AgentExecutor(helix, stop_grace_s=0.05)
    handle = await executor.execute(stubborn, "hi")
    await counted(handle)
    await handle.stop()
    assert (await handle.result()).status == "interrupted"
    assert asked == 3


async def test_stops_and_ends_at_the_same_time_are_decided_once(executor: AgentExecutor) -> None:
    async def short(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "a"
        await asyncio.sleep(0)
        yield Output(1)

    for number in range(20):
        handle = await executor.execute(short, "hi", session_id="s")
        for _ in range(number % 5):
            await asyncio.sleep(0)
        await handle.stop()
        result = await handle.result()
        state = await handle.get_state()
        assert state is not None
        assert state.run is not None
        assert result.status == state.status == state.run.phase
        kinds = [stored.chunk.type async for stored in handle.stream()]
        assert ("run_interrupted" in kinds) == (result.status == "interrupted")


async def test_a_stopped_run_is_resumed(executor: AgentExecutor, elsewhere: AgentExecutor) -> None:
    handle = await executor.execute(counter, "count", session_id="s")
    await counted(handle)
    await handle.stop()
    await handle.result()
    stopped = await handle.get_state()
    resumed = await handle.resume("go on", agent=greeter)
    assert await resumed.result() == RunResult("completed", {"said": "go on"}, None, resumed.run_id)
    assert resumed.run_id != handle.run_id
    state = await resumed.get_state()
    assert stopped is not None
    assert state is not None
    assert (state.resume_count, state.messages[:3]) == (1, [*stopped.messages, {"role": "user", "content": "go on"}])
    assert state.agent_type == "counter"
    first, *_ = [stored.chunk async for stored in resumed.stream()]
    assert isinstance(first, RunResumedChunk)
    assert stopped.run is not None
    assert first.checkpoint_id == stopped.run.checkpoint_id
    again = await resumed.resume(agent=greeter)
    assert (await again.result()).output == {"said": None}
    assert (await (await executor.execute(counter, None, session_id="t")).stop()) is None
    unknown = await elsewhere.get_handle("s")
    assert unknown is not None
    with pytest.raises(Exception, match="agent"):
        await unknown.resume()


async def test_a_failed_run_says_why_and_keeps_no_secret(executor: AgentExecutor, elsewhere: AgentExecutor) -> None:
    cause = "Incorrect API key provided: sk-proj-abcdefghijklmnop. See redis://bob:hunter22@host, password=hunter22"
    handle = await executor.execute(broken, cause, session_id="s", run_id="r")
    other = await elsewhere.get_handle("s")
    assert other is not None
    for each in (handle, other):
        with pytest.raises(RunFailedError) as failure:
            await each.result()
        assert (failure.value.run_id, failure.value.error_type) == ("r", "ValueError")
        assert failure.value.error.startswith("ValueError: Incorrect API key provided: ***")
        assert "abcdef" not in str(failure.value)
        assert "hunter" not in repr(failure.value)
        with pytest.raises(StreamFailedError, match="ValueError"):
            await texts(each)
    state = await handle.get_state()
    assert state is not None
    assert (state.status, state.error) == ("failed", failure.value.error)
    assert state.messages[1:] == [{"role": "assistant", "content": "Well, "}]
    await (await executor.execute(greeter, "hi", session_id="s")).result()
    with pytest.raises(RunFailedError, match="ValueError"):
        await other.result()


@pytest.mark.parametrize("wrong", [object(), {"no": "type"}, {"type": "tool_start"}, {"kind": "tokens"}, {"type": 7}])
async def test_an_agent_that_yields_nonsense_fails(executor: AgentExecutor, wrong: Any) -> None:
    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "before"
        yield wrong

    handle = await executor.execute(agent, "hi")
    with pytest.raises(RunFailedError):
        await handle.result()
    with pytest.raises(StreamFailedError):
        await texts(handle)


async def test_an_agent_that_is_no_agent_or_cancels_itself_fails(executor: AgentExecutor) -> None:
    async def suicide(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "bye"
        raise asyncio.CancelledError

    for agent in (7, suicide):
        handle = await executor.execute(agent, "hi")
        with pytest.raises(RunFailedError):
            await handle.result()


async def test_a_run_outlives_its_caller(executor: AgentExecutor) -> None:
    release = asyncio.Event()

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "begun"
        await release.wait()
        yield Output("done")

    async def request() -> None:
        handle = await executor.execute(agent, "hi", session_id="s")
        await handle.result()

    caller = asyncio.create_task(request())
    await until(lambda: executor.running == 1)
    await becomes(lambda: executor.get_handle("s"))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    handle = await executor.get_handle("s")
    assert handle is not None
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    waiting.cancel()
    release.set()
    assert (await handle.result()).output == "done"


async def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing(helix: Helix, executor: AgentExecutor) -> None:
    lock = await helix.locks.acquire("s")
    assert lock is not None
    waiting = asyncio.create_task(executor.execute(greeter, "hi", session_id="s", if_busy="wait", wait_ms=None))
    await until(lambda: executor.running == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: executor.running == 0)
    await lock.release()
    assert not await helix.state.session_exists("s")


async def test_drain_waits_and_then_interrupts(helix: Helix) -> None:
    release = asyncio.Event()

    async def nearly_done(message: Any, context: RunContext) -> AsyncIterator[Any]:
        await release.wait()
        yield Output("done")

    async with AgentExecutor(helix) as executor:
        quick = await executor.execute(nearly_done, "hi")
        endless = await executor.execute(counter, "hi", session_id="s")
        lock = await helix.locks.acquire("busy")
        waiting = asyncio.create_task(executor.execute(greeter, "hi", session_id="busy", wait_ms=None))
        await until(lambda: executor.running == 3)
        draining = asyncio.create_task(executor.drain(0.3))
        with pytest.raises(ExecutorClosedError):
            await waiting
        with pytest.raises(ExecutorClosedError):
            await executor.execute(greeter, "hi")
        release.set()
        await draining
        assert (await quick.result()).output == "done"
        assert (await endless.result()).status == "interrupted"
        state = await endless.get_state()
        assert state is not None
        assert state.status == "interrupted"
        last = [stored.chunk async for stored in endless.stream()][-1]
        assert (last.type, last.reason) == ("run_interrupted", "the process shuts down")  # type: ignore[union-attr]
        assert executor.running == 0
        assert lock is not None
        await lock.release()


async def test_a_lifespan_drains(helix: Helix) -> None:
    executor = AgentExecutor(helix)
    async with executor.lifespan("app"):
        handle = await executor.execute(greeter, "hi")
    assert (await handle.result()).status == "completed"
    with pytest.raises(ExecutorClosedError):
        await executor.execute(greeter, "hi")


async def test_a_run_whose_lock_is_lost_writes_nothing_more(helix: Helix, executor: AgentExecutor) -> None:
    told = asyncio.Event()

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        yield "mine"
        try:
            await asyncio.sleep(3600)
        finally:
            told.set()
            yield Messages([{"role": "assistant", "content": "late"}])

    handle = await executor.execute(agent, "hi", session_id="s")
    await counted(handle)
    (run,) = executor._runs.values()
    assert run._lock is not None
    run._lock._lose()  # what its deadline does
    with pytest.raises(ProducerLostError):
        await handle.result()
    assert told.is_set()
    await until(lambda: executor.running == 0)
    with pytest.raises(StreamFailedError, match="the producer was lost"):
        await texts(handle)
    state = await handle.get_state()
    assert state is not None
    assert (state.status, len(state.messages)) == ("running", 1)
    resumed = await handle.resume(agent=greeter)
    assert (await resumed.result()).status == "completed"
    state = await resumed.get_state()
    assert state is not None
    assert (state.resume_count, len(state.messages)) == (1, 2)


@pytest.mark.parametrize("locked", [True, False])
async def test_a_busy_session(helix: Helix, locked: bool) -> None:
    locks = helix.locks if locked else None
    executor = AgentExecutor(helix.state, helix.streams, lock_manager=locks)
    other = AgentExecutor(helix.state, helix.streams, lock_manager=locks)
    running = await executor.execute(counter, "hi", session_id="s")
    for options in ({}, {"if_busy": "wait"}, {"if_busy": "wait", "wait_ms": 20}):
        with pytest.raises(LockNotAcquiredError):
            await other.execute(greeter, "hi", session_id="s", **options)  # type: ignore[arg-type]
    joined = await other.execute(greeter, "hi", session_id="s", if_busy="join")
    assert (joined.joined, joined.run_id) == (True, running.run_id)
    waiting = asyncio.create_task(other.execute(greeter, "next", session_id="s", if_busy="wait", wait_ms=None))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await joined.stop()
    assert (await joined.result()).status == "interrupted"
    handle = await waiting
    assert (handle.joined, (await handle.result()).output) == (False, {"said": "next"})
    state = await handle.get_state()
    assert state is not None
    assert [message["content"] for message in state.messages if message["role"] == "user"] == ["hi", "next"]
