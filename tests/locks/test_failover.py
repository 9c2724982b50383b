"""Locks where servers are replaced: what replication cannot keep, what `wait_replicas` does about it, and clusters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from helix_fast.errors import LockLostError, NotReplicatedError
from helix_fast.locks.manager import RedisLockManager
from helix_fast.testing.contract.lock_helpers import freed, happens, shorten, taken
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import quickest, until
from tests.support.cluster import ClusterProcess
from tests.support.helix_internals import waiting

pytestmark = pytest.mark.faults


@pytest.fixture
async def pair(short_path: Path) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    """A primary and its replica, in step."""
    servers = []
    for name in ("p", "r"):
        (short_path / name).mkdir()
        servers.append(ServerProcess(short_path / name, tcp=True, options={"repl-diskless-sync-delay": "0"}))
        await servers[-1].start()
    primary, replica = servers
    replica.ask(f"REPLICAOF 127.0.0.1 {primary.port}".encode())
    await until(lambda: b"master_link_status:up" in replica.ask(b"INFO replication"), what="the replica in step")
    yield primary, replica
    for server in servers:
        await server.stop()


async def promote(primary: ServerProcess, replica: ServerProcess) -> None:
    primary.kill()
    await until(lambda: replica.ask(b"REPLICAOF NO ONE").startswith(b"+OK"))


class TestReplicas:
    async def test_what_was_not_replicated_is_given_twice_and_only_the_token_tells(
        self, pair: tuple[ServerProcess, ServerProcess]
    ) -> None:
        primary, replica = pair
        async with RedisLockManager(primary.url) as old, RedisLockManager(replica.url) as new:
            assert replica.ask(b"REPLICAOF NO ONE").startswith(b"+OK")  # promoted while the primary was cut off
            first = await taken(old)
            second = await taken(new)
            assert first.held
            assert second.fencing_token > first.fencing_token

    async def test_what_was_replicated_survives_the_primary(self, pair: tuple[ServerProcess, ServerProcess]) -> None:
        primary, replica = pair
        async with RedisLockManager(primary.url, wait_replicas=1) as old, RedisLockManager(replica.url) as new:
            lock = await taken(old, ttl_ms=60_000)
            await promote(primary, replica)
            assert await new.acquire("s") is None
            info = await new.get_holder("s")
            assert info is not None
            assert info.fencing_token == lock.fencing_token

    async def test_too_few_replicas_give_no_lock(self, pair: tuple[ServerProcess, ServerProcess]) -> None:
        primary, replica = pair
        async with RedisLockManager(primary.url, wait_replicas=1) as locks:
            locks._requests.retry_timeout = 0.1
            replica.pause()
            with pytest.raises(NotReplicatedError) as caught:
                await locks.acquire("s")
            assert (caught.value.wanted, caught.value.confirmed) == (1, 0)
            replica.resume()
            await freed(locks)
            assert await locks.acquire("s") is not None


async def handed_over(one: RedisLockManager, two: RedisLockManager, session: str) -> float:
    """Seconds from a release to the next holder."""
    lock = await taken(one, session, ttl_ms=60_000)
    waiter = asyncio.create_task(two.acquire(session, wait_ms=30_000))
    await waiting(one, 1, session)
    await asyncio.sleep(0.05)
    started = time.monotonic()
    assert await lock.release()
    second = await waiter
    elapsed = time.monotonic() - started
    assert second is not None
    assert second.fencing_token > lock.fencing_token
    await second.release()
    return elapsed


class TestCluster:
    async def test_locks_wait_hold_and_move_with_their_slot(self, short_path: Path) -> None:
        cluster = ClusterProcess(short_path)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(cluster.stop)
            await cluster.start()
            one = await stack.enter_async_context(RedisLockManager(cluster.url))
            two = await stack.enter_async_context(RedisLockManager(cluster.url))
            for number in range(20):
                await quickest(partial(handed_over, one, two, f"session-{number}"), below=0.6)  # not by polling

            slot = int(str(await cluster.ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", "{moves}")))
            source = await cluster.primary_of(slot)
            target = next(node for node in cluster.nodes if node is not source)
            async with one.hold("moves", ttl_ms=6_000) as held:
                token = held.fencing_token
                await cluster.move_slot(slot, source, target)
                renewed = held._deadline
                await until(lambda: held._deadline > renewed)
                assert await two.acquire("moves") is None
            assert (await taken(two, "moves")).fencing_token > token

    async def test_a_failed_over_shard_never_takes_a_token_back(self, short_path: Path) -> None:
        cluster = ClusterProcess(short_path, replicas=1)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(cluster.stop)
            await cluster.start()
            locks = await stack.enter_async_context(RedisLockManager(cluster.url))
            slot = int(str(await cluster.ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", "{s}")))
            primary = await cluster.primary_of(slot)
            tokens = []
            for _ in range(5):
                lock = await taken(locks)
                tokens.append(lock.fencing_token)
                await lock.release()
            primary.kill()
            lock = await taken(locks, wait_ms=20_000)
            tokens.append(lock.fencing_token)
            assert tokens == sorted(set(tokens))


async def test_holder_on_a_primary_that_died_is_told(pair: tuple[ServerProcess, ServerProcess]) -> None:
    primary, _ = pair
    async with RedisLockManager(primary.url) as locks:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with locks.hold("s", ttl_ms=60_000) as lock:
                primary.kill()
                shortening = asyncio.create_task(shorten(lock))
                await happens(lock.lost)
                shortening.cancel()
