"""Many writers and readers while connections break at random: everything exactly once in the end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from helix_fast.errors import StoreConnectionError
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import Following, deltas, follow, logged, storage, text

pytestmark = pytest.mark.faults

STREAMS, WRITERS_EACH, READERS_EACH = 5, 4, 4


async def soak(server_url: str, path: Path, seconds: float, seed: int) -> None:
    dice = random.Random(seed)
    end = time.monotonic() + seconds
    written: dict[str, list[str]] = {f"s{n}": [] for n in range(STREAMS)}
    async with (
        FaultProxy(server_url, socket_path=path / "soak.sock") as proxy,
        storage(server_url) as direct,
        storage(proxy.url, timeout=2, retry_timeout=0.1) as writing,
        storage(proxy.url, timeout=2, retry_timeout=60, block_timeout=200) as reading,
    ):
        for stream in written:
            await direct.create(stream)

        async def produce(stream: str, number: int) -> None:
            own = random.Random(seed * 100 + number)
            writer = None
            while writer is None:
                try:
                    writer = await writing.create_writer(stream, f"agent-{number}")
                except StoreConnectionError:  # noqa: PERF203
                    continue
            count = 0
            while time.monotonic() < end:
                size = own.choice([1, 1, 1, 7])
                names = [f"{number}:{count + n}" for n in range(size)]
                chunks = [text(name) for name in names]
                count += size
                while True:
                    try:
                        if size == 1:
                            await writer.write(chunks[0])
                        else:
                            await writer.write_many(chunks)
                    except StoreConnectionError:
                        continue
                    break
                written[stream] += names
                await asyncio.sleep(own.random() * 0.01)

        async def hurt() -> None:
            while time.monotonic() < end:
                await asyncio.sleep(dice.random() * 0.1)
                what = dice.randrange(6)
                if what == 0:
                    proxy.cut_all()
                elif what == 1:
                    proxy.cut_after_request_bytes(dice.randrange(3000))
                elif what == 2:
                    proxy.cut_after_reply_bytes(dice.randrange(3000))
                elif what == 3:
                    await direct._requests.command("", b"CLIENT", b"KILL", b"TYPE", b"pubsub")
                elif what == 4:
                    proxy.stall()
                    await asyncio.sleep(dice.random() * 0.2)
                    proxy.resume()
                else:
                    proxy.refuse()
                    proxy.cut_all()
                    await asyncio.sleep(dice.random() * 0.2)
                    await proxy.start()
            proxy.heal()

        readers: dict[str, list[Following]] = {}
        for stream in written:
            readers[stream] = [await follow(reading, stream) for _ in range(READERS_EACH)]
        producers = [
            produce(stream, n * WRITERS_EACH + m) for n, stream in enumerate(written) for m in range(WRITERS_EACH)
        ]
        await asyncio.wait_for(asyncio.gather(hurt(), *producers), seconds + 60)
        for stream, names in written.items():
            await direct.end_stream(stream)
            log = await logged(direct, stream)
            assert sorted(log) == sorted(names), f"seed {seed}: not exactly once"
            for number in {name.partition(":")[0] for name in names}:
                mine = [int(name.partition(":")[2]) for name in log if name.startswith(f"{number}:")]
                assert mine == sorted(mine), f"seed {seed}: writer {number} is out of order"
            for reader in readers[stream]:
                await asyncio.wait_for(reader.task, 60)
                assert reader.error is None, f"seed {seed}: {reader.error!r}"
                assert deltas(reader.chunks) == log, f"seed {seed}: a reader saw something else"
        assert all(written.values())


@pytest.mark.timeout(200)
async def test_everything_is_there_exactly_once_after_many_faults(server_url: str, short_path: Path) -> None:
    await soak(server_url, short_path, 4, random.randrange(1 << 30))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_soak(server_url: str, short_path: Path) -> None:
    """As long as HELIX_SOAK_SECONDS says; 60 without it."""
    end = time.monotonic() + float(os.environ.get("HELIX_SOAK_SECONDS", "60"))
    while time.monotonic() < end:
        await soak(server_url, short_path, 10, random.randrange(1 << 30))
