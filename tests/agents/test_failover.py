"""Runs over a failover by real Sentinels: everything is there once, or what is gone is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helix_fast import AcknowledgedDataLostError, Helix, HelixError, connect
from helix_fast.agents import AgentExecutor, Messages, Output, RunContext, RunHandle
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.sentinel import SentinelSet

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(120)]

RUNS = 12
CHUNKS = 200
USAGE = [49, 99, 149, 199]
PATIENCE_MS = 100_000


class Agents:
    """Agents that count, and are in the middle of it when the primary dies."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.failed_over = asyncio.Event()

    async def count(self, message: Any, context: RunContext) -> AsyncIterator[Any]:
        for number in range(CHUNKS):
            self.numbers[context.session_id] = number
            yield f"{number} "
            if number in USAGE:
                tokens = {"prompt": 1, "completion": 1}
                yield {"kind": "tokens", "model": "m", "tokens": tokens, "id": f"{context.session_id}-{number}"}
            if number == CHUNKS - 20:
                await self.failed_over.wait()
            await asyncio.sleep(0.003)
        yield Messages([{"role": "assistant", "content": "done"}])
        yield Output(CHUNKS)

    async def reach(self, number: int) -> None:
        await until(lambda: len(self.numbers) == RUNS and min(self.numbers.values()) >= number, seconds=60)


async def check(helix: Helix, handle: RunHandle, lost: list[AcknowledgedDataLostError], *, whole: bool) -> None:
    """Nothing is there twice, and nothing has gone in silence; with `whole` all is there."""
    of_stream = [error for error in lost if error.stream_id == handle.stream_id]
    gone = {sequence for error in of_stream for sequence in range(error.first, error.last + 1)}
    reader = helix.streams.read(handle.stream_id, on_gap="skip")
    stored = [each async for each in reader if each.chunk.type == "text_delta"]
    said = [int(each.chunk.delta) for each in stored]  # type: ignore[union-attr]
    assert said == sorted(set(said)), "a chunk is doubled, or out of order"
    assert len(said) + len(gone) >= CHUNKS, "a chunk is lost in silence"
    assert not gone & {each.sequence for each in stored}
    state = await handle.get_state()
    assert state is not None
    assert [message["content"] for message in state.messages] == ["count", "done"]
    assert (state.status, state.output) == ("completed", CHUNKS)
    recorded = [str(entry.id) for entry in await helix.usage.get_entries(handle.session_id)]
    assert len(recorded) == len(set(recorded))
    if whole:
        assert said == list(range(CHUNKS))
        assert sorted(recorded) == sorted(f"{handle.session_id}-{number}" for number in USAGE)


def offset(server: ServerProcess, name: bytes) -> int:
    return int(server.ask(b"INFO replication").partition(name + b":")[2].split()[0])


@pytest.mark.parametrize("wait_replicas", [0, 1])
async def test_a_failover_in_the_middle(short_path: Path, wait_replicas: int) -> None:
    """With `wait_replicas` nothing is lost; without, what the replica had not received is named, chunk by chunk."""
    watched = SentinelSet(short_path)
    errors: list[HelixError] = []
    await watched.start()
    agents = Agents()
    try:
        async with (
            connect(
                watched.url, wait_replicas=wait_replicas, retry_timeout=PATIENCE_MS / 1000,
                locks={"default_ttl_ms": PATIENCE_MS},
            ) as helix,
            AgentExecutor(helix, lease_ms=PATIENCE_MS) as executor,
        ):  # fmt: skip
            for store in (helix.streams, helix.state):
                store.on("error", errors.append)
            handles = [await executor.execute(agents.count, "count", session_id=f"s{n}") for n in range(RUNS)]
            old = watched.primary()
            replica = next(server for server in watched.servers if server is not old)
            begun = offset(old, b"master_repl_offset")
            await until(lambda: offset(replica, b"slave_repl_offset") >= begun)
            await agents.reach(20)
            old.kill()
            new = await watched.promoted(old)
            if wait_replicas:
                await old.start()  # the Sentinels make it a replica of the new primary
                await until(lambda: b"connected_slaves:1" in new.ask(b"INFO replication"), seconds=60)
            agents.failed_over.set()
            results = await asyncio.gather(*(handle.result() for handle in handles))
            assert {(result.status, result.output) for result in results} == {("completed", CHUNKS)}
            lost = [error for error in errors if isinstance(error, AcknowledgedDataLostError)]
            assert not (wait_replicas and lost)
            for handle in handles:
                await check(helix, handle, lost, whole=bool(wait_replicas))
    finally:
        await watched.stop()
