"""Runs whose workers are killed or stand still, whose server goes away, whose process is told to end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helix_fast import Helix, ProducerLostError, StreamFailedError, connect
from helix_fast.agents import AgentExecutor, Output, RunContext
from helix_fast.testing.servers import ServerProcess
from tests.support.run_agents import counter, greeter, texts
from tests.support.run_worker import CHUNKS

pytestmark = [pytest.mark.faults, pytest.mark.server]
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def worker(*args: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of tests/support/run_worker.py; killed with all its children at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "tests.support.run_worker", *map(str, args),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url, locks={"default_ttl_ms": 20_000}, streams={"block_timeout": 200}) as made:
        yield made


async def check_session(helix: Helix, number: int) -> None:
    """Each message, usage entry and chunk is there once."""
    session = f"s{number}"
    state = await helix.state.load_state(session)
    assert state is not None
    assert state.messages == [{"role": "user", "content": "count"}, {"role": "assistant", "content": "done"}]
    assert (state.status, state.output) == ("completed", CHUNKS)
    assert state.run is not None
    assert state.run.stream_id is not None
    read = helix.streams.read(state.run.stream_id)
    said = [chunk.delta async for chunk, _sequence, _epoch in read if chunk.type == "text_delta"]  # type: ignore[union-attr]
    assert said == [f"{n} " for n in range(CHUNKS)]
    entries = await helix.usage.get_entries(session)
    assert sorted(str(entry.id) for entry in entries) == sorted(f"{session}-{n}" for n in range(7, CHUNKS, 8))
    assert (await helix.state.list_checkpoints(session)).total == 1


async def crowd(helix: Helix, url: str, workers: int, sessions: int, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    async with worker("crowd", url, workers, sessions, kills, seed) as process:
        assert process.stdout is not None
        printed = await process.stdout.read()
        assert await process.wait() == 0
    assert int(printed) >= kills / 4
    for number in range(sessions):
        await check_session(helix, number)


async def test_killed_workers_are_replaced_and_nothing_is_lost_or_doubled(helix: Helix, server_url: str) -> None:
    await crowd(helix, server_url, 3, 16, 6, random.randrange(1 << 30))


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_many_killed_workers(helix: Helix, server_url: str) -> None:
    for _ in range(3):
        await helix.state._requests.command("s", "FLUSHALL")
        await crowd(helix, server_url, 8, 100, 60, random.randrange(1 << 30))


async def test_a_killed_worker_is_known_to_be_gone_and_its_session_is_resumed(helix: Helix, server_url: str) -> None:
    async with worker("one", server_url, "s", 300) as process:
        assert (await line(process)).startswith("begun")
        executor = AgentExecutor(helix)
        handle = await executor.get_handle("s")
        assert handle is not None
        waiting = asyncio.create_task(handle.result())
        reader = handle.stream()
        await reader.__anext__()
        process.kill()
        with pytest.raises(ProducerLostError):
            await waiting
        with pytest.raises(StreamFailedError):
            await reader.read_batch() and [stored async for stored in reader]
        resumed = await handle.resume("and on", agent=greeter, wait_ms=30_000)
        assert (await resumed.result()).status == "completed"
        state = await resumed.get_state()
        assert state is not None
        assert [message["content"] for message in state.messages] == ["count", "and on", "Hello world"]
        assert state.resume_count == 1
        with pytest.raises(ProducerLostError):
            await handle.result()


async def test_a_worker_that_stands_still_is_fenced_off_and_told(helix: Helix, server_url: str) -> None:
    async with worker("one", server_url, "s", 400) as process:
        _begun, first = (await line(process)).split()
        process.send_signal(signal.SIGSTOP)
        async with AgentExecutor(helix) as executor:
            handle = await executor.execute(greeter, "next", session_id="s", if_busy="wait", wait_ms=None)
            assert (await handle.result()).status == "completed"
            left = await handle.get_state()
        before = await helix.streams.get_info(f"s:{first}")
        process.send_signal(signal.SIGCONT)
        assert (await line(process)).startswith("told")
        assert await line(process) == "error producer_lost"
        assert await process.wait() == 0
    assert await handle.get_state() == left
    assert before is not None
    assert before.status == "failed"
    assert await helix.streams.get_info(f"s:{first}") == before
    assert left is not None
    assert [message["content"] for message in left.messages] == ["count", "next", "Hello world"]


async def test_a_process_that_is_told_to_end_says_so_in_streams_and_states(helix: Helix, server_url: str) -> None:
    async with worker("drained", server_url, 30) as process:
        assert await line(process) == "running"
        process.send_signal(signal.SIGTERM)
        assert await line(process) == "['interrupted']"
        assert await process.wait() == 0
    for number in range(30):
        state = await helix.state.load_state(f"s{number}")
        assert state is not None
        assert state.status == "interrupted"
        assert state.run is not None
        assert state.run.stream_id is not None
        chunks = [chunk async for chunk, _sequence, _epoch in helix.streams.read(state.run.stream_id)]
        assert chunks[-1].type == "run_interrupted"
        said = [chunk.delta for chunk in chunks[:-1]]  # type: ignore[union-attr]
        assert said == [f"{n + 1} " for n in range(len(said))]
        assert state.messages[1]["content"] == "".join(said)


async def test_a_server_that_restarts_in_the_middle(short_path: Path) -> None:
    server = ServerProcess(short_path, options={"appendonly": "yes", "appendfsync": "always"})
    await server.start()
    restarted = asyncio.Event()

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        for number in range(400):
            yield f"{number} "
            await asyncio.sleep(0.002)
            if number == 300:
                await restarted.wait()
        yield Output("done")

    try:
        async with connect(server.url, retry_timeout=60) as helix, AgentExecutor(helix, lease_ms=60_000) as executor:
            handles = [await executor.execute(agent, "hi") for _ in range(20)]
            reading = asyncio.gather(*(texts(handle) for handle in handles))
            await asyncio.sleep(0.1)
            server.kill()
            await server.restart()
            restarted.set()
            assert {(await handle.result()).output for handle in handles} == {"done"}
            for said in await reading:
                assert said == [f"{n} " for n in range(400)]
            assert {(await handle.get_state()).status for handle in handles} == {"completed"}  # type: ignore[union-attr]
    finally:
        await server.stop()


async def test_500_runs_at_once_lose_double_and_disorder_nothing(helix: Helix) -> None:
    chunks = 20

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        for number in range(chunks):
            yield f"{message} {number} "
            if number % 10 == 0:
                await asyncio.sleep(0)
        yield Output(message)

    async with AgentExecutor(helix) as executor:
        handles = await asyncio.gather(*(executor.execute(agent, str(n)) for n in range(500)))
        results = await asyncio.gather(*(handle.result() for handle in handles))
        assert [result.output for result in results] == [str(n) for n in range(500)]
        for number, said in enumerate(await asyncio.gather(*(texts(handle) for handle in handles))):
            assert said == [f"{number} {n} " for n in range(chunks)]


async def test_handles_that_are_cancelled_leave_their_runs_alone(helix: Helix) -> None:
    async with AgentExecutor(helix) as executor:
        handles = [await executor.execute(counter, "hi") for _ in range(20)]
        tasks = [asyncio.create_task(call) for handle in handles for call in (handle.result(), texts(handle))]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert executor.running == 20
        await asyncio.gather(*(handle.stop() for handle in handles))
        assert {(await handle.result()).status for handle in handles} == {"interrupted"}
