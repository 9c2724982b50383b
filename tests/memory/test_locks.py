"""Deadlines of locks on a clock that the test turns, and the manager that locks nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

import pytest

from helix_fast.errors import HelixError, InvalidArgumentError, InvalidIdError, LockLostError, StoreClosedError
from helix_fast.locks.lock import Lock, monotonic
from helix_fast.locks.noop import NoOpLockManager
from helix_fast.memory import InMemoryLockManager
from helix_fast.testing.contract.lock_helpers import happens, taken


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def locks(clock: Clock) -> InMemoryLockManager:
    return InMemoryLockManager(clock=clock)


class TestDeadline:
    async def test_a_lock_is_held_up_to_its_deadline_and_lost_at_it(
        self, locks: InMemoryLockManager, clock: Clock
    ) -> None:
        lock = await taken(locks, ttl_ms=10_000)
        clock.now += locks._backend.valid_for(10_000) - 0.001
        assert lock.held
        assert lock.remaining_ms == pytest.approx(1)
        clock.now += 0.001
        assert lock.lost.is_set()
        clock.now = 1009.999
        assert await locks.is_locked("s"), "its holder gives it up first"
        clock.now += 0.001
        assert not await locks.is_locked("s")

    @pytest.mark.parametrize("read", [lambda lock: lock.fencing_token, lambda lock: lock.held, lambda lock: lock.lost])
    async def test_looking_at_a_lock_is_enough_to_notice(
        self, locks: InMemoryLockManager, clock: Clock, read: Any
    ) -> None:
        lock = await taken(locks, ttl_ms=10_000)
        event = lock.lost
        clock.now += 11  # as in a process that was stopped: no timer has fired yet
        assert not event.is_set()
        read(lock)
        assert event.is_set()

    async def test_the_token_can_be_read_for_ever(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, ttl_ms=10)
        token = lock.fencing_token
        clock.now += 1
        assert lock.fencing_token == token

    async def test_lost_is_for_ever(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, ttl_ms=10_000)
        clock.now += 11
        assert lock.lost.is_set()
        assert not await lock.refresh()
        clock.now -= 11
        assert lock.lost.is_set()
        assert not lock.held

    async def test_a_released_lock_is_never_lost(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, ttl_ms=10_000)
        assert await lock.release()
        clock.now += 100
        assert not lock.lost.is_set()
        assert lock.remaining_ms == 0

    async def test_a_timer_that_fires_early_waits_on(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, ttl_ms=10)
        await asyncio.sleep(0.05)
        assert lock.held, "the clock has not moved"
        clock.now += 1
        await happens(lock._lost, 1)

    async def test_renewal_is_due_at_a_third(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, ttl_ms=9_000)
        assert lock._renew_at - clock.now == pytest.approx(3)
        clock.now += 1
        await lock.refresh(30_000)
        assert lock._renew_at - clock.now == pytest.approx(10)

    async def test_repr_tells_the_status(self, locks: InMemoryLockManager, clock: Clock) -> None:
        lock = await taken(locks, owner="me")
        assert "held" in repr(lock)
        assert "me" in repr(lock)
        clock.now += 60
        assert lock.lost.is_set()
        assert "lost" in repr(lock)
        again = await taken(locks)
        await again.release()
        assert "released" in repr(again)

    async def test_the_default_clock_is_monotonic_and_counts_seconds(self) -> None:
        before, wall = monotonic(), time.monotonic()
        await asyncio.sleep(0.02)
        assert monotonic() - before == pytest.approx(time.monotonic() - wall, abs=0.01)


class TestHold:
    async def test_a_callback_is_not_called_within_the_bodys_step(
        self, locks: InMemoryLockManager, clock: Clock
    ) -> None:
        notified: list[Lock] = []
        with pytest.raises(LockLostError):  # noqa: PT012
            async with locks.hold("s", ttl_ms=10_000, on_lost=notified.append) as lock:
                clock.now += 11
                assert lock.lost.is_set()
                assert not notified
                await asyncio.sleep(0)
                assert notified == [lock]

    async def test_loss_found_on_leaving_calls_nobody_back(self, locks: InMemoryLockManager, clock: Clock) -> None:
        notified: list[Lock] = []
        with pytest.raises(LockLostError):
            async with locks.hold("s", ttl_ms=10_000, on_lost=notified.append, cancel_on_lost=True):
                clock.now += 11
        await asyncio.sleep(0)
        assert not notified, "the error says it already"

    async def test_a_body_that_catches_its_cancellation_is_told_all_the_same(
        self, locks: InMemoryLockManager, clock: Clock
    ) -> None:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with locks.hold("s", ttl_ms=10_000, cancel_on_lost=True) as lock:
                clock.now += 11
                assert lock.lost.is_set()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.sleep(5)
        await asyncio.sleep(0)

    async def test_errors_without_a_listener_go_to_the_log(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        locks = InMemoryLockManager(clock=clock, logger=logging.getLogger("mine"))
        locks._errors.report(HelixError("one"))
        assert caplog.record_tuples == [("mine", logging.ERROR, "HelixError: one")]
        reported: list[HelixError] = []
        locks.on("error", lambda _: 1 / 0)
        locks.on("error", reported.append)
        locks._errors.report(HelixError("two"))
        assert [str(error) for error in reported] == ["two"]
        assert "callback failed" in caplog.text


class TestMemory:
    async def test_a_token_grows_though_the_clock_stands_still_or_goes_back(
        self, locks: InMemoryLockManager, clock: Clock
    ) -> None:
        tokens: list[int] = []
        for step in (0.0, 0.0, -500.0, 1.0):
            clock.now += step
            lock = await taken(locks)
            tokens.append(lock.fencing_token)
            await lock.release()
        assert tokens == sorted(set(tokens))

    async def test_a_shortened_lock_wakes_its_waiter_in_time(self) -> None:
        locks = InMemoryLockManager()
        lock = await taken(locks, ttl_ms=60_000)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=50_000))
        await asyncio.sleep(0)
        await lock.refresh(30)
        assert await asyncio.wait_for(waiter, 20) is not None
        await locks.close()

    async def test_nothing_is_left_of_sessions_that_are_done_with(
        self, locks: InMemoryLockManager, clock: Clock
    ) -> None:
        for number in range(10):
            await (await taken(locks, f"s{number}", wait_ms=10)).release()
        assert locks.server.execute("PUBSUB", "CHANNELS") == []
        clock.now += 401 * 86_400
        assert locks.server.execute("DBSIZE") == 0


class TestNoOp:
    async def test_everybody_gets_the_lock_and_nobody_holds_it(self) -> None:
        async with NoOpLockManager() as locks:
            first, second = await taken(locks), await taken(locks)
            assert second.fencing_token > first.fencing_token
            assert not await locks.is_locked("s")
            assert await locks.get_holder("s") is None
            assert await first.refresh()
            assert await first.release() is True
            assert await first.release() is False
            assert await first.refresh() is False
            assert second.held

    async def test_is_never_lost_and_runs_nothing_in_the_background(self) -> None:
        async with NoOpLockManager() as locks:
            before = asyncio.all_tasks()
            async with locks.hold("s", ttl_ms=10) as lock:
                assert asyncio.all_tasks() == before
                assert lock._timer is None
                await asyncio.sleep(0.03)
                assert lock.held
            assert not lock.lost.is_set()

    async def test_checks_its_arguments_like_the_others(self) -> None:
        locks = NoOpLockManager()
        for options in ({"ttl_ms": 9}, {"owner": "x" * 257}, {"wait_ms": -1}):
            with pytest.raises(InvalidArgumentError):
                await locks.acquire("s", **cast("Any", options))
        for attempt in (locks.acquire, locks.is_locked, locks.get_holder):
            with pytest.raises(InvalidIdError):
                await cast("Any", attempt)("{")
        await locks.close()
        with pytest.raises(StoreClosedError):
            await locks.acquire("s")
