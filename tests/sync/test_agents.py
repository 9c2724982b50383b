"""The blocking executor and its handles: signatures, runs, stops from another executor, draining, forks."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helix_fast import (
    ExecutorClosedError,
    HelixError,
    InvalidArgumentError,
    LockNotAcquiredError,
    RunFailedError,
    TextDeltaChunk,
)
from helix_fast import agents as theirs
from helix_fast import connect as connect_async
from helix_fast.agents import Output, RunContext
from helix_fast.sync import Helix, agents, connect, context, loop
from helix_fast.sync.agents import AgentExecutor, RunHandle
from helix_fast.sync.context import RunContext as BlockingContext
from helix_fast.sync.functions import FunctionAdapter
from tests.support.backends import Backend
from tests.sync.test_loop import program

OTHERS = {"lifespan", "now"}  # for ASGI; for adapters


@pytest.fixture
def helix(place: Backend) -> Iterator[Helix]:
    url = place.target if isinstance(place.target, str) else "memory://"
    with connect(url) as opened:
        yield opened


@pytest.fixture
def executor(helix: Helix) -> Iterator[AgentExecutor]:
    made = AgentExecutor(helix)
    yield made
    made.drain(0)


async def greet(message: Any, _context: RunContext) -> AsyncIterator[Any]:
    yield "Hello "
    yield str(message)
    yield {"kind": "tool", "id": "t1", "toolName": "search", "source": {"type": "agent", "name": "a"}}
    yield Output({"greeted": message})


async def endless(_message: Any, _context: RunContext) -> AsyncIterator[Any]:
    while True:
        yield "x"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["AgentExecutor", "RunHandle", "RunContext"])
def test_every_method_is_there_with_its_signature(name: str) -> None:
    expected, given = getattr(theirs, name), getattr(context if name == "RunContext" else agents, name)
    for member, value in inspect.getmembers(expected):
        if member.startswith("_") or member in OTHERS:
            continue
        ours = getattr(given, member)
        if callable(value):
            assert not inspect.iscoroutinefunction(ours)
            plain, wanted = inspect.signature(ours), inspect.signature(value)
            assert [(p.name, p.kind, p.default) for p in plain.parameters.values()] == [
                (p.name, p.kind, p.default) for p in wanted.parameters.values()
            ], member
        for word in ("await ", "``await``", "async with", "async for"):
            assert word not in (ours.__doc__ or "")
    assert "async" not in (given.__doc__ or "")


def test_an_executor_takes_the_options_of_the_async_one() -> None:
    given, expected = inspect.signature(AgentExecutor), inspect.signature(theirs.AgentExecutor)
    assert [(p.name, p.kind, p.default) for p in given.parameters.values()] == [
        (p.name, p.kind, p.default) for p in expected.parameters.values()
    ]


def test_a_run_its_chunks_result_state_and_usage(helix: Helix) -> None:
    with AgentExecutor(helix) as executor:
        handle = executor.execute(greet, "world", session_id="s", run_id="r")
        assert (handle.session_id, handle.run_id, handle.joined, handle.agent) == ("s", "r", False, greet)
        assert [stored.sequence for stored in handle.stream()] == [1, 2, 3]
        assert [stored.sequence for stored in handle.stream(from_sequence=2)] == [3]
        result = handle.result()
        assert (result.status, result.output) == ("completed", {"greeted": "world"})
        state = handle.get_state()
        assert state is not None
        assert state.messages[0] == {"role": "user", "content": "world"}
        rollup = handle.get_usage_rollup()
        assert rollup is not None
        assert rollup.entry_count == 1
        again = executor.execute(greet, "world", session_id="s", run_id="r")
        assert again.result() == result
        assert again.stream_id == handle.stream_id
    with pytest.raises(ExecutorClosedError):
        executor.execute(greet, "world")


def test_a_run_outlives_its_thread_and_is_stopped_and_resumed_by_another_executor(
    helix: Helix, executor: AgentExecutor
) -> None:
    begun: list[RunHandle] = []
    thread = threading.Thread(target=lambda: begun.append(executor.execute(endless, "go", session_id="s")))
    thread.start()
    thread.join(60)
    assert executor.running == 1
    with AgentExecutor(helix.state, helix.streams, lock_manager=helix.locks, usage_store=helix.usage) as elsewhere:
        assert elsewhere.get_handle("nobody") is None
        with pytest.raises(LockNotAcquiredError):
            elsewhere.execute(greet, "world", session_id="s")
        assert elsewhere.execute(greet, "world", session_id="s", if_busy="join").joined
        handle = elsewhere.get_handle("s")
        assert handle is not None
        for stored in handle.stream():
            if stored.sequence == 3:
                handle.stop("enough")
        assert handle.result().status == begun[0].result().status == "interrupted"
        resumed = handle.resume("world", agent=greet, wait_ms=60_000)
        assert resumed.result().output == {"greeted": "world"}
        state = resumed.get_state()
        assert state is not None
        assert state.resume_count == 1


def test_an_agent_that_raises_fails_its_run(executor: AgentExecutor) -> None:
    async def broken(_message: Any, _context: RunContext) -> AsyncIterator[Any]:
        yield "x"
        raise KeyError("gone")

    with pytest.raises(RunFailedError, match="KeyError"):
        executor.execute(broken, "go").result()


def test_drain_interrupts_what_does_not_end(executor: AgentExecutor) -> None:
    handle = executor.execute(endless, "go")
    executor.drain(0)
    assert handle.result().status == "interrupted"
    assert executor.running == 0


def test_a_usage_store_of_the_call_gets_the_entries(helix: Helix) -> None:
    with AgentExecutor(helix.state, helix.streams) as executor:
        handle = executor.execute(greet, "world", session_id="s", usage_store=helix.usage)
        handle.result()
        assert handle.get_usage_rollup() is not None
        found = executor.get_handle("s")
        assert found is not None
        assert found.get_usage_rollup() is None


def test_what_cannot_be_an_executor_is_refused_at_once(helix: Helix) -> None:
    with pytest.raises(InvalidArgumentError, match="adapter"):
        AgentExecutor(helix, 5)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match=r"helix_fast\.sync"):
        AgentExecutor(connect_async("memory://"))  # type: ignore[call-overload]
    errors: list[HelixError] = []
    made = AgentExecutor(helix)
    made.on("error", errors.append)
    with pytest.raises(InvalidArgumentError):
        made.on("error", None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_in_a_forked_child_an_executor_has_runs_of_its_own_and_a_handle_is_refused(tmp_path: Path) -> None:
    printed = program(
        f"""
        import os, sys, warnings, asyncio
        from helix_fast import InvalidArgumentError
        from helix_fast.sync import connect
        from helix_fast.sync.agents import AgentExecutor

        async def greet(message, context):
            yield message

        async def endless(message, context):
            while True:
                yield "x"
                await asyncio.sleep(0.05)

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        helix = connect("embedded://{tmp_path}")
        executor = AgentExecutor(helix)
        handle = executor.execute(endless, "go", session_id="s")
        child = os.fork()
        if child == 0:
            print(executor.running, executor.execute(greet, "x", session_id="t").result().status)
            try:
                handle.result()
            except InvalidArgumentError as error:
                print(error.code)
            found = executor.get_handle(handle.session_id)
            found.stop()
            print(found.result().status)
            executor.drain()
            helix.close()
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), handle.result().status)
        executor.drain()
        helix.close()
        """,
        warned=True,
    )
    assert printed == "0 completed\ninvalid_argument\ninterrupted\n0 interrupted\n"


@pytest.mark.slow
def test_the_end_of_the_interpreter_interrupts_runs_and_state_and_stream_say_so(tmp_path: Path) -> None:
    printed = program(
        f"""
        import asyncio
        from helix_fast.sync import connect
        from helix_fast.sync.agents import AgentExecutor

        async def endless(message, context):
            while True:
                yield "x"
                await asyncio.sleep(0.05)

        helix = connect("embedded://{tmp_path}")
        executor = AgentExecutor(helix)
        next(executor.execute(endless, "go", session_id="s", run_id="r").stream())
        """
    )
    assert printed == ""
    with connect(f"embedded://{tmp_path}") as helix:
        handle = AgentExecutor(helix).get_handle("s")
        assert handle is not None
        assert handle.result().status == "interrupted"
        state = handle.get_state()
        assert state is not None
        assert state.status == "interrupted"


def test_an_agent_may_be_a_generator_function_in_a_thread_that_blocks(helix: Helix, executor: AgentExecutor) -> None:
    threads = set()

    def child(message: Any, _context: BlockingContext) -> Iterator[Any]:
        yield Output(f"{message}!")

    def agent(message: Any, context: BlockingContext) -> Iterator[Any]:
        threads.add(threading.get_ident())
        context.stage("call-1", {"found": message})
        context.commit_step()
        yield "Hello "
        threads.add(threading.get_ident())
        state = helix.state.load_state(context.session_id)
        assert state is not None
        yield str(state.custom_state["found"])
        yield Output([context.run_sub_agent(child, "sub").output, context.step, len(context.messages)])

    handle = executor.execute(agent, "world")
    assert handle.result().output == ["sub!", 2, 1]
    assert len(threads) == 1
    assert loop.background().thread_id not in threads | {threading.get_ident()}
    chunks = [stored.chunk for stored in handle.stream()]
    assert [chunk.delta for chunk in chunks if isinstance(chunk, TextDeltaChunk)] == ["Hello ", "world"]


def test_a_generator_that_is_stopped_ends_its_step_and_is_closed(helix: Helix) -> None:
    executor = AgentExecutor(helix, stop_grace_s=60)
    closed: list[str | None] = []

    def agent(_message: Any, context: BlockingContext) -> Iterator[Any]:
        try:
            yield "begun "
            assert context.stop_requested.wait(60)
            yield "ended "
            yield "never"
        finally:
            closed.append(context.stop_reason)

    handle = executor.execute(agent, "go")
    next(handle.stream())
    handle.stop("enough")
    assert handle.result().status == "interrupted"
    assert closed == ["enough"]
    state = handle.get_state()
    assert state is not None
    assert state.messages[-1] == {"role": "assistant", "content": "begun ended "}


@pytest.mark.parametrize("error", [KeyError("gone"), SystemExit(3)], ids=["error", "exit"])
def test_a_generator_that_raises_fails_its_run(executor: AgentExecutor, error: BaseException) -> None:
    def broken(_message: Any, _context: BlockingContext) -> Iterator[Any]:
        yield "x"
        raise error

    with pytest.raises(RunFailedError, match=type(error).__name__):
        executor.execute(broken, "go").result()


def test_a_step_that_does_not_end_is_left_to_itself(helix: Helix) -> None:
    go_on = threading.Event()

    def stuck(_message: Any, _context: BlockingContext) -> Iterator[Any]:
        yield "x"
        go_on.wait(60)
        yield "y"

    with AgentExecutor(helix, FunctionAdapter(stuck), stop_grace_s=0.1) as executor:
        handle = executor.execute(None, "go")
        next(handle.stream())
        handle.stop()
        assert handle.result().status == "interrupted"
    go_on.set()
