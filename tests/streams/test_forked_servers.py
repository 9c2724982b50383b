"""Histories of real servers that fork, with a journal: a primary that is cut off, and snapshots older than the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helix_fast.errors import AcknowledgedDataLostError
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.journal import ReadingProcess, Stored, Verdict, WritingProcess, check, raw_log
from tests.support.sentinel import SentinelSet
from tests.support.streams_under_fault import StreamStore, collect_errors, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(120)]


class Work:
    """Writers and readers of one stream, each with connections of its own."""

    def __init__(self, writers: list[WritingProcess], readers: list[ReadingProcess], seed: int) -> None:
        self.writers = writers
        self.readers = readers
        self._stop = asyncio.Event()
        self._producing = [
            asyncio.ensure_future(process.produce("s", self._stop, seed + n)) for n, process in enumerate(writers)
        ]
        self._reading = [asyncio.ensure_future(reader.read("s")) for reader in readers]

    def all_write_to(self, server: ServerProcess) -> bool:
        names = {stored.name for stored in raw_log(server, "s")}
        return all(list(process.acknowledged)[-1] in names for process in self.writers)

    async def more(self, count: int) -> None:
        """Wait until each writer has had so many chunks more acknowledged."""
        target = {process.name: len(process.acknowledged) + count for process in self.writers}

        def far() -> bool:
            for task in (*self._producing, *self._reading):
                if task.done():
                    task.result()
            return all(len(process.acknowledged) >= target[process.name] for process in self.writers)

        await until(far, seconds=60, what="writes")

    async def finish(self) -> None:
        """Stop; each process writes once more, so that it has looked what became of its chunks; end the stream."""
        self._stop.set()
        await asyncio.wait_for(asyncio.gather(*self._producing), 60)
        for process in self.writers:
            await asyncio.wait_for(process.write("s", 0, 1), 60)
        await self.writers[0].store.end_stream("s")
        await asyncio.wait_for(asyncio.gather(*self._reading), 60)

    async def abandon(self) -> None:
        for task in (*self._producing, *self._reading):
            task.cancel()
        await asyncio.gather(*self._producing, *self._reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def at_work(url: str, writers: int, seed: int, wait_replicas: int = 0) -> AsyncIterator[Work]:
    async with contextlib.AsyncExitStack() as stack:
        stores: list[StreamStore] = [
            await stack.enter_async_context(
                storage(
                    url,
                    timeout=1.0,
                    retry_timeout=30,
                    wait_replicas=wait_replicas,
                    block_timeout=200,
                    max_stream_length=None,
                )
            )
            for _ in range(writers + 1)
        ]
        work = Work(
            [WritingProcess(f"w{n}", store) for n, store in enumerate(stores[:writers])],
            [ReadingProcess(stores[-1]) for _ in range(2)],
            seed,
        )
        try:
            yield work
        finally:
            await work.abandon()


async def cut_off(directory: Path, *, seed: int, writers: int, wait_replicas: int, down_after: int) -> Verdict:
    """The primary loses its replicas and its Sentinels, but not its clients, and goes on acknowledging for a while."""
    watched = SentinelSet(directory, replicas=1 + wait_replicas, users=True, down_after=down_after)
    try:
        await watched.start()
        async with at_work(watched.url, writers, seed, wait_replicas=wait_replicas) as work:
            await work.more(20)
            old = watched.primary()
            watched.cut_off(old)
            new = await watched.promoted(old)
            await until(lambda: work.all_write_to(new), seconds=30, what="writers of the new primary")
            await work.more(20)
            await work.finish()
            return check(work.writers, work.readers, [raw_log(old, "s"), raw_log(new, "s")])
    finally:
        await watched.stop()


async def older_snapshots(directory: Path, *, seed: int, writers: int, rounds: int) -> Verdict:
    """A server is killed and started with a snapshot that is older than its log, some times."""
    dice = random.Random(seed)
    server = ServerProcess(directory, options={"dbfilename": "dump.rdb"})
    await server.start()
    logs: list[list[Stored]] = []
    kept: list[Path] = []
    try:
        async with at_work(server.url, writers, seed) as work:
            for number in range(rounds):
                await work.more(dice.randrange(5, 25))
                assert server.ask(b"SAVE", timeout=30) == b"+OK\r\n"
                kept.append(directory / f"kept{number}.rdb")
                shutil.copyfile(directory / "dump.rdb", kept[-1])
                await work.more(dice.randrange(1, 25))
                logs.append(raw_log(server, "s"))
                server.kill()
                shutil.copyfile(dice.choice(kept[-2:]), directory / "dump.rdb")
                await server.start()
            await work.more(10)
            await work.finish()
            return check(work.writers, work.readers, [*logs, raw_log(server, "s")])
    finally:
        await server.stop()


async def test_primary_that_is_cut_off_loses_nothing_in_silence(short_path: Path) -> None:
    verdict = await cut_off(short_path, seed=random.randrange(1 << 30), writers=2, wait_replicas=0, down_after=500)
    assert verdict.lost > 0
    assert verdict.gaps > 0


async def test_snapshot_older_than_the_log_loses_nothing_in_silence(short_path: Path) -> None:
    await older_snapshots(short_path, seed=random.randrange(1 << 30), writers=4, rounds=2)


@pytest.mark.parametrize("sync", ["always", "everysec"])
async def test_killed_server_with_a_log_of_its_own_loses_nothing_in_silence(short_path: Path, sync: str) -> None:
    server = ServerProcess(short_path, options={"appendonly": "yes", "appendfsync": sync})
    await server.start()
    try:
        async with at_work(server.url, 2, 0) as work:
            for _ in range(2):
                await work.more(10)
                server.kill()
                await server.start()
            await work.more(5)
            await work.finish()
            verdict = check(work.writers, work.readers, [raw_log(server, "s")])
            # Where the disk is slow, "everysec" lets the log wait; check() has found nothing that was not named.
            assert sync == "everysec" or (verdict.lost, verdict.gaps) == (0, 0)
    finally:
        await server.stop()


async def test_one_confirmation_is_not_enough_where_another_replica_is_promoted(short_path: Path) -> None:
    servers = []
    for name in ("p", "a", "b"):
        (short_path / name).mkdir()
        servers.append(ServerProcess(short_path / name, tcp=True, options={"repl-diskless-sync-delay": "0"}))
        await servers[-1].start()
    primary, confirming, promoted = servers
    try:
        for replica in (confirming, promoted):
            replica.ask(b"REPLICAOF 127.0.0.1 %d" % primary.port)
            await until(lambda r=replica: b"master_link_status:up" in r.ask(b"INFO replication"))  # type: ignore[misc]
        async with storage(primary.url, wait_replicas=1, retry_timeout=30) as store:
            errors = collect_errors(store)
            writer = await store.create_writer("s", "agent")
            await writer.write(text("kept"))
            await until(lambda: len(raw_log(promoted, "s")) == 1)
            promoted.ask(b"REPLICAOF NO ONE")
            for n in range(5):
                await writer.write(text(n))
            assert len(raw_log(confirming, "s")) == 6
            primary.kill()
            assert promoted.ask(b"SAVE") == b"+OK\r\n"
            await promoted.stop()
            confirming.ask(b"REPLICAOF 127.0.0.1 %d" % primary.port)
            promoted.move_to(primary.port)
            await promoted.start()
            assert await writer.write(text("new")) == 7
            lost = [(error.first, error.last) for error in errors if isinstance(error, AcknowledgedDataLostError)]
            assert lost == [(2, 6)]
    finally:
        for server in servers:
            await server.stop()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("writers", [1, 2])
@pytest.mark.parametrize("wait_replicas", [0, 1])
@pytest.mark.parametrize("seed", range(10))
async def test_primary_that_is_cut_off_for_seconds(
    short_path: Path, writers: int, wait_replicas: int, seed: int
) -> None:
    down_after = random.Random(seed).randrange(3000, 5000)
    verdict = await cut_off(short_path, seed=seed, writers=writers, wait_replicas=wait_replicas, down_after=down_after)
    print(f"\ncut off: {writers} writers, wait_replicas {wait_replicas}, seed {seed}: {verdict}")
    assert bool(verdict.lost) == (not wait_replicas)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize("seed", range(10))
async def test_snapshots_older_than_the_log(short_path: Path, writers: int, seed: int) -> None:
    verdict = await older_snapshots(short_path, seed=seed, writers=writers, rounds=6)
    print(f"\nolder snapshots: {writers} writers, seed {seed}: {verdict}")
    assert verdict.lost
