"""The contract of `acquire`, `refresh` and `release`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any, cast

import pytest

from helix_fast.errors import (
    InvalidArgumentError,
    InvalidIdError,
    LockLostError,
    StoreClosedError,
    StoreTimeoutError,
)
from helix_fast.interfaces import LockManager
from helix_fast.locks.lock import Lock
from helix_fast.testing.contract.fixtures import MakeLockManager, Waiting
from helix_fast.testing.contract.ids import every_subclass, plain
from helix_fast.testing.contract.lock_helpers import (
    LONG,
    SHORT,
    expiring,
    freed,
    happens,
    shorten,
    taken,
)
from helix_fast.testing.waiting import quickest

BAD_TTLS: tuple[Any, ...] = (9, 0, -1, 9.99, math.nan, math.inf, "1000", True, [], 10**13)
BAD_WAITS: tuple[Any, ...] = (-1, math.nan, "1", True, None)
BAD_OWNERS: tuple[Any, ...] = ("x" * 257, "é" * 129, "", b"x", 5, "\ud800")


class TestAcquire:
    async def test_a_free_lock_is_given_and_names_its_holder(self, lock_manager: LockManager) -> None:
        before = time.time() * 1000
        lock = await taken(lock_manager, owner='über "1"', ttl_ms=LONG)
        assert lock.owner == 'über "1"'
        assert lock.session_id == "s"
        info = await lock_manager.get_holder("s")
        assert info is not None
        assert (info.owner, info.fencing_token) == ('über "1"', lock.fencing_token)
        assert before - 1000 <= info.acquired_at <= time.time() * 1000 + 1000
        assert info.expires_in_ms is not None
        assert LONG - 5000 < info.expires_in_ms <= LONG
        assert await lock_manager.is_locked("s")

    async def test_a_lock_that_is_held_is_not_given_again_not_even_to_its_owner(
        self, make_lock_manager: MakeLockManager
    ) -> None:
        one, two = make_lock_manager(), make_lock_manager()
        await taken(one, owner="me")
        assert await two.acquire("s", owner="me") is None
        assert await one.acquire("s", owner="me") is None
        assert await two.acquire("another") is not None

    async def test_a_lock_nobody_holds_is_free(self, lock_manager: LockManager) -> None:
        assert not await lock_manager.is_locked("s")
        assert await lock_manager.get_holder("s") is None

    async def test_default_ttl_is_the_managers(self, make_lock_manager: MakeLockManager) -> None:
        manager = make_lock_manager(default_ttl_ms=50_000)
        lock = await taken(manager)
        info = await manager.get_holder("s")
        assert info is not None
        assert info.expires_in_ms is not None
        assert 30_000 < info.expires_in_ms <= 50_000
        assert 30_000 < lock.remaining_ms <= 50_000

    async def test_an_expired_lock_is_free_and_its_holder_knew_before(self, lock_manager: LockManager) -> None:
        lock = await expiring(lock_manager)
        await freed(lock_manager)
        assert lock.lost.is_set()
        assert not lock.held
        assert lock.remaining_ms == 0
        second = await taken(lock_manager)
        assert second.fencing_token > lock.fencing_token
        assert not await lock.release()
        assert (await lock_manager.get_holder("s")).fencing_token == second.fencing_token  # type: ignore[union-attr]

    async def test_lost_is_set_by_the_clock_alone(self, lock_manager: LockManager) -> None:
        lock = await expiring(lock_manager)
        await happens(lock.lost)

    async def test_tokens_grow_over_release_and_expiry(self, lock_manager: LockManager) -> None:
        tokens = []
        for number in range(50):
            lock = await taken(lock_manager, ttl_ms=LONG)
            tokens.append(lock.fencing_token)
            assert isinstance(lock.fencing_token, int)
            if number % 10 == 5:
                await shorten(lock)
                await freed(lock_manager)
            else:
                assert await lock.release()
        assert tokens == sorted(set(tokens))
        assert tokens[0] > 1_600_000_000_000_000, "not server time in microseconds"


class TestRefreshAndRelease:
    async def test_refresh_extends(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager, ttl_ms=20_000)
        assert await lock.refresh(LONG)
        assert lock.remaining_ms > 50_000
        info = await lock_manager.get_holder("s")
        assert info is not None
        assert info.expires_in_ms is not None
        assert info.expires_in_ms > 50_000

    async def test_refresh_without_a_ttl_repeats_the_last(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager, ttl_ms=20_000)
        assert await lock.refresh()
        assert lock.remaining_ms <= 20_000
        await lock.refresh(ttl_ms=90_000)
        assert await lock.refresh()
        assert lock.remaining_ms > 50_000

    async def test_refresh_can_shorten_and_lost_comes_earlier(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager, ttl_ms=LONG)
        await shorten(lock)
        await happens(lock.lost)
        await freed(lock_manager)

    async def test_release_frees(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager)
        assert await lock.release() is True
        assert not lock.held
        assert not lock.lost.is_set(), "given back is not lost"
        assert not await lock_manager.is_locked("s")

    async def test_release_twice_is_false(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager)
        assert sorted(await asyncio.gather(lock.release(), lock.release())) == [False, True]
        assert await lock.release() is False

    async def test_refresh_after_release_is_false(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager)
        await lock.release()
        assert await lock.refresh() is False
        assert not await lock_manager.is_locked("s")

    async def test_a_former_holder_can_neither_refresh_nor_release(self, lock_manager: LockManager) -> None:
        old = await expiring(lock_manager, owner="same")
        new = await taken(lock_manager, ttl_ms=LONG, owner="same", wait_ms=30_000)
        assert await old.refresh(LONG) is False
        assert await old.release() is False
        assert new.held
        assert await new.refresh()
        assert await lock_manager.is_locked("s")


class TestWaiting:
    async def test_without_waiting_it_is_asked_once(self, lock_manager: LockManager) -> None:
        await taken(lock_manager)
        assert await asyncio.wait_for(lock_manager.acquire("s"), 2) is None

    async def test_a_waiter_gets_the_lock_when_it_is_released(
        self, make_lock_manager: MakeLockManager, waiting: Waiting
    ) -> None:
        one, two = make_lock_manager(), make_lock_manager()

        async def handed_over() -> float:
            lock = await taken(one)
            waiter = asyncio.create_task(two.acquire("s", wait_ms=30_000))
            await waiting(one, 1)
            started = time.monotonic()
            await lock.release()
            second = await waiter
            assert second is not None
            assert second.fencing_token > lock.fencing_token
            elapsed = time.monotonic() - started
            await second.release()
            return elapsed

        await quickest(handed_over, below=0.5)  # by the notification, not by polling

    async def test_a_waiter_gets_the_lock_of_a_holder_that_died(self, lock_manager: LockManager) -> None:
        async def inherited() -> float:
            lock = await taken(lock_manager, ttl_ms=LONG)
            started = time.monotonic()
            await shorten(lock)
            second = await lock_manager.acquire("s", wait_ms=30_000)
            assert second is not None
            elapsed = time.monotonic() - started
            assert elapsed > SHORT / 2000
            await second.release()
            return elapsed

        await quickest(inherited, below=SHORT / 1000 + 0.5)

    async def test_waiting_ends_in_time_and_leaves_no_place(self, lock_manager: LockManager, waiting: Waiting) -> None:
        await taken(lock_manager, ttl_ms=LONG)

        async def waited() -> float:
            started = time.monotonic()
            assert await lock_manager.acquire("s", wait_ms=100) is None
            elapsed = time.monotonic() - started
            assert elapsed > 0.09
            return elapsed

        await quickest(waited, below=2)
        await waiting(lock_manager, 0)

    async def test_a_cancelled_waiter_leaves_no_place_and_no_lock(
        self, lock_manager: LockManager, waiting: Waiting
    ) -> None:
        async def handed_over() -> float:
            lock = await taken(lock_manager)
            first = asyncio.create_task(lock_manager.acquire("s", wait_ms=math.inf))
            await waiting(lock_manager, 1)
            second = asyncio.create_task(lock_manager.acquire("s", wait_ms=math.inf))
            await waiting(lock_manager, 2)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await waiting(lock_manager, 1)
            started = time.monotonic()
            await lock.release()
            mine = await asyncio.wait_for(second, 30)
            assert mine is not None
            elapsed = time.monotonic() - started
            await mine.release()
            return elapsed

        await quickest(handed_over, below=0.7)

    async def test_waiters_are_served_in_the_order_they_came(self, lock_manager: LockManager, waiting: Waiting) -> None:
        async def served() -> float:
            lock, order, tasks = await taken(lock_manager, ttl_ms=LONG), [], []

            async def worker(number: int) -> None:
                mine = await taken(lock_manager, wait_ms=60_000)
                order.append(number)
                await mine.release()

            for number in range(20):
                tasks.append(asyncio.create_task(worker(number)))
                await waiting(lock_manager, number + 1)
            await lock.release()
            started = time.monotonic()
            await asyncio.gather(*tasks)
            assert order == list(range(20))
            return time.monotonic() - started

        await quickest(served, below=3)  # by the notification, not by polling

    async def test_twenty_waiters_that_come_again_and_again_all_get_their_turns(
        self, make_lock_manager: MakeLockManager
    ) -> None:
        managers = [make_lock_manager(), make_lock_manager()]
        turns, inside, tokens = [0] * 20, 0, []

        async def worker(number: int) -> None:
            nonlocal inside
            for _ in range(5):
                async with managers[number % 2].hold("s", wait_ms=30_000) as lock:
                    inside += 1
                    assert inside == 1
                    tokens.append(lock.fencing_token)
                    await asyncio.sleep(0)
                    turns[number] += 1
                    assert max(turns) - min(turns) <= 2, "one waiter was passed over and over"
                    inside -= 1

        await asyncio.gather(*map(worker, range(20)))
        assert turns == [5] * 20
        assert tokens == sorted(set(tokens))


class TestBadInput:
    @pytest.mark.parametrize(
        "options",
        [
            *({"ttl_ms": bad} for bad in BAD_TTLS),
            *({"wait_ms": bad} for bad in BAD_WAITS),
            *({"owner": bad} for bad in BAD_OWNERS),
        ],
        ids=repr,
    )
    async def test_is_refused_before_anything_happens(self, lock_manager: LockManager, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgumentError):
            await lock_manager.acquire("s", **options)
        with pytest.raises(InvalidArgumentError):
            lock_manager.hold("s", **options)
        assert not await lock_manager.is_locked("s")

    @pytest.mark.parametrize("session", ["", "a{b", "a}", "a\n", "x" * 513, 5, None])
    async def test_ids_that_are_none(self, lock_manager: LockManager, session: Any) -> None:
        for attempt in (lock_manager.acquire, lock_manager.is_locked, lock_manager.get_holder):
            with pytest.raises(InvalidIdError):
                await cast("Any", attempt)(session)
        with pytest.raises(InvalidIdError):
            lock_manager.hold(session)

    async def test_refresh_with_a_bad_ttl_changes_nothing(self, lock_manager: LockManager) -> None:
        lock = await taken(lock_manager, ttl_ms=LONG)
        for bad in (9, "5", math.nan):
            with pytest.raises(InvalidArgumentError):
                await lock.refresh(cast("Any", bad))
        assert lock.held

    async def test_the_limits_themselves_are_allowed(self, lock_manager: LockManager) -> None:
        with contextlib.suppress(StoreTimeoutError):  # a busy machine takes longer than 10 ms to answer
            assert await lock_manager.acquire("x" * 512, owner="o" * 256, ttl_ms=10) is not None
        assert (await taken(lock_manager, ttl_ms=1500.7)).ttl_ms == 1500

    async def test_settings_of_a_manager(self, make_lock_manager: MakeLockManager) -> None:
        for bad in (9, "x", math.nan):
            with pytest.raises(InvalidArgumentError):
                make_lock_manager(default_ttl_ms=bad)
        with pytest.raises(InvalidArgumentError):
            make_lock_manager(key_prefix="{")

    async def test_on_lost_must_be_a_plain_function(self, lock_manager: LockManager) -> None:
        async def coroutine(_: Lock) -> None: ...

        for bad in (coroutine, "x"):
            with pytest.raises(InvalidArgumentError):
                lock_manager.hold("s", on_lost=cast("Any", bad))

    async def test_only_errors_are_events(self, lock_manager: LockManager) -> None:
        with pytest.raises(InvalidArgumentError):
            lock_manager.on("lost", print)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError):
            lock_manager.on("error", cast("Any", "x"))


class TestClosing:
    async def test_a_closed_manager_locks_nothing(self, lock_manager: LockManager) -> None:
        async with lock_manager:
            pass
        with pytest.raises(StoreClosedError):
            await lock_manager.acquire("s")
        with pytest.raises(StoreClosedError):
            await lock_manager.is_locked("s")

    async def test_closing_ends_the_renewals(self, lock_manager: LockManager) -> None:
        lock_manager.on("error", lambda _: None)
        with pytest.raises(LockLostError):  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG) as lock:
                await shorten(lock)
                await lock_manager.close()
                assert not [task for task in asyncio.all_tasks() if task.get_name() == "renew lock s"]
                await happens(lock.lost)

    async def test_closing_wakes_the_waiters(self, make_lock_manager: MakeLockManager, waiting: Waiting) -> None:
        holder = make_lock_manager()
        await taken(holder, ttl_ms=600_000)

        async def woken() -> float:
            await waiting(holder, 0)
            manager = make_lock_manager()
            waiter = asyncio.create_task(manager.acquire("s", wait_ms=math.inf))
            await waiting(holder, 1)
            started = time.monotonic()
            await manager.close()
            with pytest.raises(StoreClosedError):
                await asyncio.wait_for(waiter, 30)
            return time.monotonic() - started

        await quickest(woken, below=0.5)


@every_subclass
async def test_a_str_of_a_subclass_as_lock_is_its_text(lock_manager: LockManager, name: str) -> None:
    lock = await taken(lock_manager, name, owner=name, ttl_ms=LONG)
    assert await lock_manager.acquire(plain(name)) is None
    holder = await lock_manager.get_holder(plain(name))
    assert holder is not None
    assert (type(holder.owner), holder.owner) == (str, plain(name))
    assert await lock.release() is True
