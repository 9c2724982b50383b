"""The contract of `hold()`."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    LockLostError,
    LockNotAcquiredError,
)
from helix_fast.interfaces import LockManager
from helix_fast.locks.lock import Lock
from helix_fast.testing.contract.fixtures import Waiting
from helix_fast.testing.contract.lock_helpers import LONG, happens, shorten, taken
from helix_fast.testing.waiting import steady


class TestHold:
    async def test_holds_within_the_block_and_releases_after_it(self, lock_manager: LockManager) -> None:
        async with lock_manager.hold("s", owner="me") as lock:
            info = await lock_manager.get_holder("s")
            assert info is not None
            assert info.fencing_token == lock.fencing_token
        assert not await lock_manager.is_locked("s")

    async def test_outlives_its_ttl_by_renewal(self, lock_manager: LockManager) -> None:
        async def renewed(scale: int) -> None:
            async with lock_manager.hold("s", ttl_ms=300 * scale) as lock:
                renewals = 0
                last = lock.remaining_ms
                deadline = time.monotonic() + scale
                while time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
                    assert lock.held
                    renewals += lock.remaining_ms > last
                    last = lock.remaining_ms
                assert 7 <= renewals <= 11, "not at a third of the TTL"
                assert await lock_manager.is_locked("s")
            assert not await lock_manager.is_locked("s")

        await steady(renewed, probe=lambda: lock_manager.is_locked("another"))

    async def test_without_renewal_it_is_lost_at_its_ttl(self, lock_manager: LockManager) -> None:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False) as lock:
                await shorten(lock)
                await happens(lock.lost)

    async def test_releases_when_the_body_raises(self, lock_manager: LockManager) -> None:
        with pytest.raises(KeyError, match="body"):
            async with lock_manager.hold("s"):
                raise KeyError("body")
        assert not await lock_manager.is_locked("s")

    async def test_releases_when_the_body_is_cancelled(self, lock_manager: LockManager) -> None:
        entered = asyncio.Event()

        async def body() -> None:
            async with lock_manager.hold("s"):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(body())
        await happens(entered)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await lock_manager.is_locked("s")

    async def test_what_is_locked_raises(self, lock_manager: LockManager) -> None:
        await taken(lock_manager)
        with pytest.raises(LockNotAcquiredError) as caught:
            async with lock_manager.hold("s", wait_ms=20):
                pytest.fail("entered")
        assert caught.value.retryable

    async def test_waits_for_its_turn(self, lock_manager: LockManager, waiting: Waiting) -> None:
        lock = await taken(lock_manager)

        async def body() -> int:
            async with lock_manager.hold("s", wait_ms=10_000) as mine:
                return mine.fencing_token

        task = asyncio.create_task(body())
        await waiting(lock_manager, 1)
        await lock.release()
        assert await task > lock.fencing_token

    async def test_body_that_releases_itself_has_not_lost(self, lock_manager: LockManager) -> None:
        async with lock_manager.hold("s") as lock:
            assert await lock.release()
        assert not lock.lost.is_set()

    async def test_loss_is_told_by_event_callback_and_error(self, lock_manager: LockManager) -> None:
        told: list[Lock] = []
        with pytest.raises(LockLostError) as caught:  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False, on_lost=told.append) as lock:
                await shorten(lock)
                await happens(lock.lost)
                await asyncio.sleep(0)
                assert told == [lock]
        assert caught.value.code == "lock_lost"

    async def test_loss_leaves_the_bodys_own_error_alone(self, lock_manager: LockManager) -> None:
        with pytest.raises(KeyError):  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False) as lock:
                await shorten(lock)
                await happens(lock.lost)
                raise KeyError("body")

    async def test_loss_cancels_the_body_where_asked(self, lock_manager: LockManager) -> None:
        with pytest.raises(LockLostError):  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False, cancel_on_lost=True) as lock:
                await shorten(lock)
                await asyncio.wait_for(asyncio.Event().wait(), 30)
        await asyncio.sleep(0)  # the task itself is not cancelled any more

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="a task cannot be asked how often it was cancelled")
    async def test_a_cancellation_from_outside_goes_on_up_after_a_loss(self, lock_manager: LockManager) -> None:
        async def body() -> None:
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False, cancel_on_lost=True) as lock:
                try:
                    await shorten(lock)
                    await asyncio.Event().wait()
                finally:
                    assert lock.lost.is_set()
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

        task = asyncio.create_task(body())
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()

    async def test_a_failing_callback_is_reported(self, lock_manager: LockManager) -> None:
        errors: list[HelixError] = []
        lock_manager.on("error", errors.append)

        def fail(_: Lock) -> None:
            raise KeyError("callback")

        with pytest.raises(LockLostError):  # noqa: PT012
            async with lock_manager.hold("s", ttl_ms=LONG, renew=False, on_lost=fail) as lock:
                await shorten(lock)
                await happens(lock.lost)
                await asyncio.sleep(0)
        assert isinstance(errors[0].__cause__, KeyError)

    async def test_is_for_one_block(self, lock_manager: LockManager) -> None:
        hold = lock_manager.hold("s")
        async with hold:
            pass
        with pytest.raises(InvalidArgumentError):
            await hold.__aenter__()
