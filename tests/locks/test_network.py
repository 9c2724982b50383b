"""Locks over a network that loses replies, cuts and stalls, and on servers that pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from helix_fast.errors import HelixError, LockLostError, StoreConnectionError
from helix_fast.keys import LockKeys
from helix_fast.locks.manager import RedisLockManager
from helix_fast.testing.contract.lock_helpers import comes_true, freed, happens, shorten, taken
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import steady, until
from tests.support.helix_internals import waiting
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.faults

KEYS = LockKeys("", "s")


@pytest.fixture
async def locks(fault_proxy: FaultProxy) -> AsyncIterator[RedisLockManager]:
    """A manager behind the proxy, its connection made and its scripts known."""
    async with RedisLockManager(fault_proxy.url) as manager:
        lock = await taken(manager, "warm")
        await lock.refresh()
        await lock.release()
        yield manager


@pytest.fixture
async def direct(server_url: str) -> AsyncIterator[RedisLockManager]:
    async with RedisLockManager(server_url) as manager:
        yield manager


class TestLostReplies:
    async def test_acquire_gets_the_same_lock(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        fault_proxy.cut_after_reply_bytes(0)
        lock = await taken(locks)
        assert fault_proxy.accepted == 2, "no reply was lost"
        info = await direct.get_holder("s")
        assert info is not None
        assert info.fencing_token == lock.fencing_token
        assert await lock.refresh()
        assert await lock.release()

    async def test_release_is_true(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        lock = await taken(locks)
        fault_proxy.cut_after_reply_bytes(0)
        assert await lock.release() is True
        assert fault_proxy.accepted == 2, "no reply was lost"
        assert not await direct.is_locked("s")
        assert await lock.release() is False

    async def test_refresh_is_true(self, locks: RedisLockManager, fault_proxy: FaultProxy) -> None:
        lock = await taken(locks, ttl_ms=10_000)
        fault_proxy.cut_after_reply_bytes(0)
        assert await lock.refresh(60_000) is True
        assert fault_proxy.accepted == 2, "no reply was lost"
        assert lock.remaining_ms > 50_000

    async def test_waiting_acquire_keeps_its_place(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        lock = await taken(direct)
        first = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(direct, 1)
        second = asyncio.create_task(direct.acquire("s", wait_ms=20_000))
        await waiting(direct, 2)
        fault_proxy.cut_all()
        await lock.release()
        mine = await asyncio.wait_for(first, 5)
        assert mine is not None
        await mine.release()
        assert await asyncio.wait_for(second, 5) is not None

    async def test_a_cancelled_acquire_gives_back_what_it_never_heard_of(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        fault_proxy.drop_replies()
        task = asyncio.create_task(locks.acquire("s", ttl_ms=60_000))
        await comes_true(lambda: direct.is_locked("s"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await freed(direct)

    async def test_release_that_failed_can_be_called_again(
        self, locks: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        locks._requests.retry_timeout = 0.05
        lock = await taken(locks)
        fault_proxy.refuse()
        fault_proxy.cut_after_reply_bytes(0)
        with pytest.raises(StoreConnectionError):
            await lock.release()
        await fault_proxy.start()
        assert await lock.release() is True


class TestDeadline:
    async def test_counts_from_the_sending_not_from_the_reply(
        self, locks: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        fault_proxy.stall()
        before = fault_proxy.request_bytes
        task = asyncio.create_task(taken(locks, ttl_ms=20_000))
        await until(lambda: fault_proxy.request_bytes > before, what="the request at the proxy")
        await asyncio.sleep(0.5)
        fault_proxy.resume()
        lock = await task
        assert lock.remaining_ms <= 19_500
        fault_proxy.stall()
        refresh = asyncio.create_task(lock.refresh(40_000))
        await asyncio.sleep(0.5)
        fault_proxy.resume()
        assert await refresh
        assert 20_000 < lock.remaining_ms <= 39_500

    async def test_lost_comes_while_the_server_still_has_the_lock(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        async def unconfirmed(scale: int) -> None:
            fault_proxy.heal()
            await freed(direct)
            with pytest.raises(LockLostError):  # noqa: PT012
                async with locks.hold("s", ttl_ms=600 * scale) as lock:
                    fault_proxy.drop_replies()  # renewals go on arriving, and none is confirmed
                    await happens(lock.lost)
                    assert await direct.is_locked("s")
            await freed(direct)

        await steady(unconfirmed, probe=lambda: direct.is_locked("another"))

    async def test_a_reply_slower_than_the_ttl_gives_no_lock(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        fault_proxy.stall()
        task = asyncio.create_task(locks.acquire("s", ttl_ms=200))
        await asyncio.sleep(0.3)
        fault_proxy.resume()
        with pytest.raises(StoreConnectionError):
            await task
        await freed(direct)

    async def test_a_shorter_ttl_of_which_no_reply_came_is_believed(
        self, locks: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        lock = await taken(locks, ttl_ms=60_000)
        fault_proxy.drop_replies()
        task = asyncio.create_task(lock.refresh(300))
        await happens(lock.lost)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestRenewal:
    async def test_survives_cuts(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        errors: list[HelixError] = []
        locks.on("error", errors.append)

        async def cut(scale: int) -> None:
            errors.clear()
            async with locks.hold(f"s{scale}", ttl_ms=900 * scale) as lock:
                for _ in range(8):
                    await asyncio.sleep(0.25 * scale)
                    fault_proxy.cut_all()
                    assert lock.held
                fault_proxy.cut_after_reply_bytes(0)
                await asyncio.sleep(0.7 * scale)
                assert lock.held
            assert not errors

        await steady(cut, probe=lambda: direct.is_locked("another"))

    async def test_retries_within_the_ttl(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        async def refused(scale: int) -> None:
            async with locks.hold(f"s{scale}", ttl_ms=1_500 * scale) as lock:
                fault_proxy.refuse()
                fault_proxy.cut_all()
                try:
                    await asyncio.sleep(0.8 * scale)  # the renewal at 0.5 s fails
                    assert lock.remaining_ms < 800 * scale
                finally:
                    await fault_proxy.start()
                await until(lambda: lock.remaining_ms > 1_000 * scale, seconds=scale)
            assert not lock.lost.is_set()

        await steady(refused, probe=lambda: direct.is_locked("another"))

    async def test_ends_at_once_where_the_lock_is_anothers(
        self, locks: RedisLockManager, direct: RedisLockManager
    ) -> None:
        async def replaced(scale: int) -> None:
            started = time.monotonic()
            await direct._requests.command("s", "DEL", KEYS.lock)
            with pytest.raises(LockLostError):  # noqa: PT012
                async with locks.hold("s", ttl_ms=1_500 * scale) as lock:
                    await direct._requests.command("s", "DEL", KEYS.lock)
                    other = await taken(direct, ttl_ms=60_000)
                    await happens(lock.lost)
                    assert time.monotonic() - started < 1.2 * scale, "found by the deadline, not by the renewal"
            assert await other.refresh(), "leaving the block hurt the other's lock"

        await steady(replaced, probe=lambda: direct.is_locked("another"))

    async def test_gives_up_at_the_deadline_and_leaves_without_waiting(
        self, locks: RedisLockManager, direct: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        async def stalled(scale: int) -> None:
            fault_proxy.heal()
            await freed(direct)
            started = time.monotonic()
            with pytest.raises(LockLostError):  # noqa: PT012
                async with locks.hold("s", ttl_ms=600 * scale) as lock:
                    fault_proxy.stall()
                    await happens(lock.lost)
                    assert 0.5 * scale < time.monotonic() - started < 1.0 * scale
            assert time.monotonic() - started < 1.5 * scale

        await steady(stalled, probe=lambda: direct.is_locked("another"))
        fault_proxy.heal()

    async def test_a_release_that_fails_on_leaving_is_reported_and_fails_nobody(
        self, locks: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        errors: list[HelixError] = []
        locks.on("error", errors.append)
        locks._requests.retry_timeout = 0.05
        async with locks.hold("s", ttl_ms=60_000):
            fault_proxy.refuse()
            fault_proxy.cut_all()
        assert [type(error) for error in errors] == [StoreConnectionError]

    async def test_losing_the_way_cancels_the_body_where_asked(
        self, locks: RedisLockManager, fault_proxy: FaultProxy
    ) -> None:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with locks.hold("s", ttl_ms=60_000, cancel_on_lost=True) as lock:
                fault_proxy.stall()
                await shorten(lock)
                await asyncio.wait_for(asyncio.Event().wait(), 30)
        fault_proxy.heal()

    async def test_a_refusal_that_is_no_network_fault_is_reported_once(
        self, locks: RedisLockManager, direct: RedisLockManager, server_url: str
    ) -> None:
        await direct._requests.command("s", "ACL", "SETUSER", "weak", "on", ">secret", "~*", "&*", "+@all")
        errors: list[HelixError] = []
        try:
            async with RedisLockManager(server_url, username="weak", password="secret") as weak:
                weak.on("error", errors.append)

                async def refused(scale: int) -> None:
                    errors.clear()
                    await direct._requests.command("s", "ACL", "SETUSER", "weak", "+@all")
                    await freed(direct)
                    with pytest.raises(LockLostError):  # noqa: PT012
                        async with weak.hold("s", ttl_ms=300 * scale) as lock:
                            await direct._requests.command(
                                "s", "ACL", "SETUSER", "weak", "-pexpire", "-evalsha", "-eval"
                            )
                            await happens(lock.lost)
                    assert len(errors) == 1

                await steady(refused, probe=lambda: direct.is_locked("another"))
        finally:
            await direct._requests.command("s", "ACL", "DELUSER", "weak")


PAUSES: dict[str, Callable[[ServerProcess, float], Awaitable[object]]] = {}


def pauses(function: Callable[[ServerProcess, float], Awaitable[object]]) -> None:
    PAUSES[function.__name__] = function


@pauses
async def client_pause(server: ServerProcess, seconds: float) -> None:
    assert server.ask(f"CLIENT PAUSE {int(seconds * 1000)}".encode()) == b"+OK\r\n"
    await asyncio.sleep(seconds)


@pauses
async def debug_sleep(server: ServerProcess, seconds: float) -> None:
    assert await asyncio.to_thread(server.ask, f"DEBUG SLEEP {seconds}".encode()) == b"+OK\r\n"


@pauses
async def stopped_process(server: ServerProcess, seconds: float) -> None:
    server.pause()
    await asyncio.sleep(seconds)
    server.resume()


@pytest.mark.parametrize("pause", PAUSES)
async def test_a_pause_shorter_than_the_ttl_loses_nothing(pause: str, short_path: Path) -> None:
    server = ServerProcess(short_path, options={"enable-debug-command": "yes"})
    await server.start()
    try:
        async with RedisLockManager(server.url) as locks:

            async def paused(scale: int) -> None:
                lost: list[object] = []
                async with locks.hold("s", ttl_ms=1_200 * scale, on_lost=lost.append, wait_ms=30_000) as lock:
                    # The worst moment, just before a renewal is due: half the TTL.
                    await until(lambda: lock.remaining_ms < 850 * scale)
                    await PAUSES[pause](server, 0.6 * scale)
                    assert lock.held
                    # Just after a renewal: three quarters of it.
                    last = lock._deadline
                    await until(lambda: lock._deadline > last)
                    await PAUSES[pause](server, 0.9 * scale)
                    assert lock.held
                    last = lock._deadline
                    await until(lambda: lock._deadline > last)
                    info = await locks.get_holder("s")
                    assert info is not None
                    assert info.fencing_token == lock.fencing_token
                assert not lost
                assert not await locks.is_locked("s")

            await steady(paused)
    finally:
        await server.stop()


async def test_a_server_that_restarts_empty_loses_the_lock_and_the_holder_is_told(fresh_server: ServerProcess) -> None:
    async with RedisLockManager(fresh_server.url) as locks:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with locks.hold("s", ttl_ms=3_000) as lock:
                token = lock.fencing_token
                fresh_server.kill()
                await fresh_server.start()
                await happens(lock.lost)
        assert (await taken(locks)).fencing_token > token
