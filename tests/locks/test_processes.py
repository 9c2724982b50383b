"""Locks between processes that race, stand still, are stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helix_fast.errors import StaleFencingTokenError
from helix_fast.locks.manager import RedisLockManager
from helix_fast.state.schema import MergeChanges
from helix_fast.state.store import RedisStateStore
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.testing.contract.lock_helpers import taken
from helix_fast.testing.waiting import steady

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def worker(*args: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of tests/support/lock_worker.py; killed with all its children at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "tests.support.lock_worker", *map(str, args),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True, limit=1 << 24,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.fixture
async def locks(server_url: str) -> AsyncIterator[RedisLockManager]:
    async with RedisLockManager(server_url) as manager:
        yield manager


async def test_tokens_of_64_racing_processes_only_grow(locks: RedisLockManager, server_url: str) -> None:
    async with worker("race", server_url, 64, 3) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 0
    order = [int(token) for token in await locks._requests.command("s", "LRANGE", "order:{s}", 0, -1)]
    assert len(order) == 64 * 3
    assert order == sorted(set(order))


async def test_lock_of_a_killed_holder_is_free_after_its_ttl(locks: RedisLockManager, server_url: str) -> None:
    async def killed(scale: int) -> None:
        await locks._requests.command("s", "FLUSHALL")
        async with worker("victim", server_url, 1_000 * scale) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            process.kill()
            began = time.monotonic()
            lock = await taken(locks, wait_ms=30_000)
            assert time.monotonic() - began < 1.5 * scale
        assert lock.held

    await steady(killed, probe=lambda: locks.is_locked("another"))


async def test_a_stopped_holder_is_fenced_off_and_knows_when_it_goes_on(
    locks: RedisLockManager, server_url: str
) -> None:
    async def stopped(scale: int) -> None:
        await locks._requests.command("s", "FLUSHALL")
        async with (
            worker("victim", server_url, 700 * scale) as process,
            RedisStateStore(server_url) as state,
            RedisStreamManager(server_url) as streams,
        ):
            assert process.stdout is not None
            writes = [json.loads(await process.stdout.readline()) for _ in range(10)]
            assert not any(write["lost"] or write["error"] for write in writes)

            process.send_signal(signal.SIGSTOP)
            lock = await taken(locks, ttl_ms=60_000, wait_ms=60_000, owner="second")
            assert lock.fencing_token > writes[0]["token"]
            await state.merge_custom_state("s", MergeChanges({"by": "second"}), fencing_token=lock.fencing_token)
            writer = await streams.create_writer("s", "second", fencing_token=lock.fencing_token)
            last = await writer.write({"type": "text_delta", "delta": "second"})
            process.send_signal(signal.SIGCONT)

            rest = [json.loads(line) for line in (await asyncio.wait_for(process.stdout.read(), 20)).splitlines()]
            assert await process.wait() == 0
            later = rest[next(index for index, write in enumerate(rest) if write["lost"]) :]
            assert {write["kind"] for write in later} == {"state", "stream", "reopen", "end"}
            assert all(write["error"] for write in later), "a write of the first holder went through"
            for kind in ("state", "reopen"):
                assert {write["error"] for write in later if write["kind"] == kind} == {"stale_fencing_token"}
            assert "stale_fencing_token" in {write["error"] for write in later if write["kind"] == "stream"}
            # Before it noticed, it had at most one write on its way: the one in which it was stopped.
            early = rest[: len(rest) - len(later)]
            assert sum(write["error"] is not None for write in early) <= 1

            info = await locks.get_holder("s")
            assert info is not None
            assert (info.owner, info.fencing_token) == ("second", lock.fencing_token)
            assert await lock.refresh()
            stored = await state.load_state("s")
            assert stored is not None
            assert stored.custom_state == {"by": "second"}
            assert await writer.write({"type": "text_delta", "delta": "second"}) == last + 1
            await writer.close()

    await steady(stopped, probe=lambda: locks.is_locked("another"))


async def test_one_token_fences_state_and_stream(locks: RedisLockManager, server_url: str) -> None:
    async with RedisStateStore(server_url) as state, RedisStreamManager(server_url) as streams:
        old = await taken(locks)
        await state.create_session("s", agent_type="a", fencing_token=old.fencing_token)
        first = await streams.create_writer("s", "a", fencing_token=old.fencing_token)
        await first.write({"type": "text_delta", "delta": "1"})
        await locks._requests.command("s", "DEL", "lock:{s}")
        new = await taken(locks)
        await state.merge_custom_state("s", MergeChanges({"n": 1}), fencing_token=new.fencing_token)
        second = await streams.create_writer("s", "b", fencing_token=new.fencing_token)
        with pytest.raises(StaleFencingTokenError) as caught:
            await state.merge_custom_state("s", MergeChanges({"n": 2}), fencing_token=old.fencing_token)
        assert (caught.value.token, caught.value.current) == (old.fencing_token, new.fencing_token)
        with pytest.raises(StaleFencingTokenError):
            await first.write({"type": "text_delta", "delta": "2"})
        with pytest.raises(StaleFencingTokenError):
            await streams.end_stream("s", fencing_token=old.fencing_token)
        await state.merge_custom_state("s", MergeChanges({"n": 3}), fencing_token=new.fencing_token)
        await second.write({"type": "text_delta", "delta": "3"})
        await second.close()


async def soaked(server_url: str, directory: Path, seconds: float) -> list[dict[str, Any]]:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    async with RedisStateStore(server_url) as state:
        await state.create_session("s", agent_type="a")
        await state.merge_custom_state("s", MergeChanges({"number": 0}))
        async with worker("soak", server_url, 16, seconds, seed, directory) as process:
            assert await asyncio.wait_for(process.wait(), seconds + 60) == 0
        stored = await state.load_state("s")
    assert stored is not None
    done = [json.loads(file.read_text()) for file in directory.glob("*.json")]
    assert len(done) == 16
    assert stored.custom_state["number"] == sum(each["counted"] for each in done)
    tokens = [token for each in done for token in each["tokens"]]
    assert len(set(tokens)) == len(tokens), "a token was given twice"
    for each in done:
        assert each["tokens"] == sorted(each["tokens"])
        assert each["counted"] > 0, "a worker never got its turn"
    return done


async def test_soak_counts_exactly(server_url: str, tmp_path: Path) -> None:
    done = await soaked(server_url, tmp_path, 8)
    assert sum(each["refused"] for each in done) > 0, "no holder was ever stopped for longer than its TTL"
    assert sum(each["lost"] for each in done) > 0


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_soak_counts_exactly_for_long(server_url: str, tmp_path: Path) -> None:
    await soaked(server_url, tmp_path, float(os.environ.get("HELIX_SOAK_SECONDS", "300")))
