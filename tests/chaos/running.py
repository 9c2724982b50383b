"""Programs that run agents: each takes up the runs of those that were killed or stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from helix_fast.agents import AgentExecutor, Messages, Output, RunContext
from helix_fast.connect import Helix
from helix_fast.errors import HelixError, RunFailedError, StreamFailedError
from helix_fast.streams.chunks import TextDeltaChunk

from .check_runs import LeftOfRun
from .program import Program

STEPS = 8
LEASE_MS, LOCK_TTL_MS = 1000, 1500
AT_ONCE = 3


async def scripted(_message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Says and spends the same in every attempt."""
    for number in range(STEPS):
        yield f"{number} "
        yield {"kind": "tokens", "model": "m", "tokens": {"prompt": 1}, "id": f"{context.session_id}-{number}"}
        await asyncio.sleep(0.02)
    yield Messages([{"role": "assistant", "content": "done"}])
    yield Output(STEPS)


async def run_agents(program: Program) -> None:
    """Runs one agent after another, each in a session of its own that other programs run too, until it has ended."""
    helix = await program.connected()
    numbers = iter(range(1_000_000))
    try:
        async with AgentExecutor(helix, lease_ms=LEASE_MS, lock_ttl_ms=LOCK_TTL_MS) as executor:
            await asyncio.gather(*(_run_some(program, executor, numbers) for _ in range(AT_ONCE)))
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


async def _run_some(program: Program, executor: AgentExecutor, numbers: Any) -> None:
    ended = {record["session"] for record in program.before if record["what"] == "run ended"}
    while not program.stopping:
        session = f"run{next(numbers)}"
        if session in ended:
            continue
        program.journal.write("run begins", session=session)
        status = ""
        while not status:
            try:
                status = await program.calls.wait("run", _run(executor, session))
            except HelixError as error:  # noqa: PERF203  busy, or its worker is gone, or the server is away
                program.failed(error, session)
                await asyncio.sleep(0.05)
        program.journal.write("run ended", session=session, status=status)


async def _run(executor: AgentExecutor, session: str) -> str:
    handle = await executor.execute(scripted, "count", session_id=session, run_id=f"r-{session}")
    try:
        return (await handle.result()).status
    except RunFailedError:
        return "failed"


async def left_of_run(helix: Helix, session: str) -> LeftOfRun:
    """What is stored of a session with one run."""
    state = await helix.state.load_state(session)
    if state is None:
        return LeftOfRun("", [], None, [], True, [])
    said: list[str] = []
    ended = True
    if state.run is not None and state.run.stream_id is not None:
        info = await helix.streams.get_info(state.run.stream_id)
        ended = info is not None and info.status in {"ended", "failed"}
        with contextlib.suppress(StreamFailedError):
            async for stored in helix.streams.read(state.run.stream_id):
                said += [stored.chunk.delta.strip()] if isinstance(stored.chunk, TextDeltaChunk) else []
    entries = sorted(str(one.id) for one in await helix.usage.get_entries(session))
    contents = [str(message["content"]) for message in state.messages]
    return LeftOfRun(str(state.status), contents, state.output, said, ended, entries)
