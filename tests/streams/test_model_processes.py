"""Eight processes write one stream at the same time, over connections that lose replies and requests."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

import pytest

from helix_fast import UnknownChunk
from helix_fast.testing.contract.chunk_helpers import rest
from tests.support.streams_under_fault import StreamStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8


async def write_and_compare(server_url: str, chunks: int, share: float, seed: int) -> None:
    print(f"seed {seed}")
    storage = StreamStore(server_url, max_stream_length=None)
    await storage.create("s")
    live = asyncio.ensure_future(rest(await storage.create_resumable_reader("s"), seconds=300))
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.stream_writer_process",
            server_url, str(n), str(chunks // PROCESSES), str(seed + n), str(share),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )
        for n in range(PROCESSES)
    ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert await asyncio.wait_for(worker.stdout.readline(), 60) == b"ready\n"
        outputs = await asyncio.wait_for(asyncio.gather(*(worker.communicate(b"go\n") for worker in workers)), 280)
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    assert [worker.returncode for worker in workers] == [0] * PROCESSES
    results = [json.loads(output) for output, _ in outputs]
    assert sum(result["faults"] for result in results) > PROCESSES, "the network was not even bad"

    stored = await storage.read_from("s")
    await storage.end("s")
    assert [one.sequence for one in stored] == list(range(1, chunks + 1))
    assert await live == stored, "a live reader saw the same"
    places: list[dict[int, int]] = [{} for _ in range(PROCESSES)]
    for one in stored:
        assert isinstance(one.chunk, UnknownChunk)
        mine = places[one.chunk.data["p"]]
        assert one.chunk.data["n"] == len(mine), "out of the order of its process, twice, or missing"
        mine[one.chunk.data["n"]] = one.sequence
    for mine, result in zip(places, results, strict=True):
        assert len(mine) == chunks // PROCESSES
        assert all(mine[number] == sequence for number, sequence in result["told"])
    await storage.close()


async def test_eight_processes_write_one_stream_with_replies_lost_at_random(server_url: str) -> None:
    await write_and_compare(server_url, 6_000, 0.1, random.randrange(1 << 30))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
async def test_eight_processes_write_one_stream_for_long(server_url: str, share: float) -> None:
    await write_and_compare(server_url, 200_000, share, random.randrange(1 << 30))
