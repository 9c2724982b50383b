"""Locks as the server sees them: what is stored, which tokens, how many requests, whose place in the queue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.errors import HelixError, LockLostError, MalformedLockError
from helix_fast.keys import LockKeys
from helix_fast.locks.manager import FENCE_TTL_SECONDS, POLL_SECONDS, RedisLockManager
from helix_fast.testing.contract.lock_helpers import comes_true, expiring, freed, happens, shorten, taken
from helix_fast.testing.waiting import quickest
from tests.support.helix_internals import waiting

pytestmark = pytest.mark.faults

YEAR = 365 * 86_400
KEYS = LockKeys("", "s")


@pytest.fixture
async def locks(server_url: str) -> AsyncIterator[RedisLockManager]:
    async with RedisLockManager(server_url) as manager:
        yield manager


def has_subscribed(manager: RedisLockManager) -> Callable[[], Awaitable[bool]]:
    """A condition: the one waiter of a manager is subscribed to releases."""

    async def subscribed() -> bool:
        return any(waiter._subscription.done() for waiter in manager._waiters)

    return subscribed


@pytest.fixture
async def others(server_url: str) -> AsyncIterator[RedisLockManager]:
    async with RedisLockManager(server_url) as manager:
        yield manager


async def acquire_attempt(manager: RedisLockManager, operation: str, *, ttl: int = 60_000, alive_ms: int = 0) -> Any:
    """One attempt of an acquire, as it goes over the wire."""
    _, reply = await manager._backend.timed(
        "lock_acquire", "s",
        [KEYS.lock, KEYS.fence, KEYS.operation(operation), KEYS.queue, KEYS.alive],
        [operation, '"me"', ttl, alive_ms, FENCE_TTL_SECONDS, b"PUBLISH", KEYS.released],
        1.0,
    )  # fmt: skip
    return reply


class TestStored:
    async def test_value_is_the_reference_pages_json(self, server_url: str) -> None:
        async with RedisLockManager(server_url, key_prefix="myapp:locks:") as manager:
            lock = await taken(manager, "session-123", owner='exé"\\\n1', ttl_ms=30_000)
            key = "myapp:locks:lock:{session-123}"
            raw = await manager._requests.command("session-123", "GET", key)
            value = json.loads(raw)
            assert list(value) == ["owner", "fencingToken", "acquiredAt"]
            assert value["owner"] == 'exé"\\\n1'
            assert value["fencingToken"] == lock.fencing_token
            assert abs(value["acquiredAt"] / 1000 - time.time()) < 5
            assert b"e+" not in raw
            assert 25_000 < await manager._requests.command("session-123", "PTTL", key) <= 30_000

    async def test_every_key_has_a_ttl_and_the_fence_more_than_a_year(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=200))
        await waiting(locks, 1)
        while_waiting = await locks._requests.command("s", "KEYS", "*")
        for key in while_waiting:
            assert await locks._requests.command("s", "PTTL", key) > 0, key
        await waiter
        await lock.refresh()
        await lock.release()
        second = await taken(locks)
        found = await locks._requests.command("s", "KEYS", "*")
        own = {KEYS.operation(lock.operation), KEYS.operation(second.operation)}
        (gave_up,) = {*while_waiting, *found} - own - {KEYS.lock, KEYS.fence, KEYS.queue, KEYS.alive}
        assert {key for key in found if key.startswith(KEYS.operation(""))} == own | {gave_up}
        for key in found:
            assert await locks._requests.command("s", "PTTL", key) > 0, key
        assert await locks._requests.command("s", "TTL", KEYS.fence) > YEAR

    async def test_a_lock_of_another_implementation_is_respected(self, locks: RedisLockManager) -> None:
        value = '{"owner":"ts","fencingToken":7,"acquiredAt":1700000000000,"more":1}'
        await locks._requests.command("s", "SET", KEYS.lock, value, "PX", 60_000)
        assert await locks.acquire("s") is None
        info = await locks.get_holder("s")
        assert info is not None
        assert (info.owner, info.fencing_token, info.acquired_at) == ("ts", 7, 1_700_000_000_000)
        await locks._requests.command("s", "PERSIST", KEYS.lock)
        info = await locks.get_holder("s")
        assert info is not None
        assert info.expires_in_ms is None

    @pytest.mark.parametrize("value", ["", "no json", "[]", '{"owner":1}', b"\xff", '{"owner":"a","fencingToken":"x"}'])
    async def test_rubbish_is_a_typed_error_and_nobodys_lock_to_take(
        self, locks: RedisLockManager, value: str | bytes
    ) -> None:
        await locks._requests.command("s", "SET", KEYS.lock, value)
        with pytest.raises(MalformedLockError) as caught:
            await locks.get_holder("s")
        assert caught.value.key == "lock:{s}"
        assert await locks.is_locked("s")
        assert await locks.acquire("s") is None

    async def test_a_key_of_another_type_is_nobodys_to_take(self, locks: RedisLockManager) -> None:
        await locks._requests.command("s", "RPUSH", KEYS.lock, "something")
        with pytest.raises(HelixError, match="WRONGTYPE"):
            await locks.acquire("s")
        assert await locks._requests.command("s", "LLEN", KEYS.lock) == 1


class TestTokens:
    async def test_grow_when_the_lock_is_deleted(self, locks: RedisLockManager) -> None:
        first = await taken(locks)
        await locks._requests.command("s", "DEL", KEYS.lock)
        second = await taken(locks)
        assert second.fencing_token > first.fencing_token
        assert not await first.refresh()
        assert first.lost.is_set()
        assert await second.refresh()

    async def test_grow_when_the_counter_is_lost(self, locks: RedisLockManager) -> None:
        tokens = []
        for _ in range(20):
            lock = await taken(locks)
            tokens.append(lock.fencing_token)
            await lock.release()
            await locks._requests.command("s", "FLUSHALL")
        assert tokens == sorted(set(tokens))

    @pytest.mark.parametrize("rubbish", ["", "abc", "-5", "1.5e15", "00099999999999999999", "9" * 30, "12"])
    async def test_rubbish_in_the_counter_gives_way_to_server_time(self, locks: RedisLockManager, rubbish: str) -> None:
        await locks._requests.command("s", "SET", KEYS.fence, rubbish)
        lock = await taken(locks)
        assert abs(lock.fencing_token / 1e6 - time.time()) < 5

    @pytest.mark.parametrize(
        "last", [4_000_000_000_000_000, 2**53 - 1, 2**53, 2**53 + 1, 999_999_999_999_999_999, 2**63 - 4]
    )
    async def test_a_counter_ahead_of_the_clock_goes_on_exactly(self, locks: RedisLockManager, last: int) -> None:
        await locks._requests.command("s", "SET", KEYS.fence, last)
        for step in (1, 2, 3):
            lock = await taken(locks)
            assert lock.fencing_token == last + step
            info = await locks.get_holder("s")
            assert info is not None
            assert info.fencing_token == last + step
            assert await lock.refresh()
            assert await lock.release()
        assert await locks._requests.command("s", "GET", KEYS.fence) == str(last + 3).encode()
        assert await locks._requests.command("s", "TTL", KEYS.fence) > YEAR


class TestRequests:
    async def test_each_operation_is_one_request(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await lock.refresh()
        await locks.get_holder("s")
        await lock.release()
        lane = locks._requests.topology.lane  # type: ignore[attr-defined]
        counts = []

        async def counted(operation: Any) -> Any:
            before = lane.requests
            result = await operation
            counts.append(lane.requests - before)
            return result

        lock = await counted(locks.acquire("s"))
        assert await counted(locks.acquire("s")) is None
        await counted(lock.refresh())
        await counted(locks.is_locked("s"))
        await counted(locks.get_holder("s"))
        await counted(lock.release())
        assert counts == [1] * 6
        assert await counted(lock.release()) is False
        assert await counted(lock.refresh()) is False
        assert counts[6:] == [0, 0]

    async def test_a_server_that_forgot_the_scripts_is_told_them_again(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await locks._requests.command("s", "SCRIPT", "FLUSH")
        assert await lock.refresh()
        await locks._requests.command("s", "SCRIPT", "FLUSH")
        assert await lock.release()

    async def test_waiting_is_not_spinning(self, locks: RedisLockManager, others: RedisLockManager) -> None:
        await taken(locks)
        assert await others.acquire("s", wait_ms=1500) is None
        # one attempt to enter, one when the subscription stands, one a poll, one at the end, and the leaving; a reload
        assert others._requests.topology.lane.requests <= 7  # type: ignore[attr-defined]


class TestRepeated:
    async def test_acquire_finds_its_own_lock(self, locks: RedisLockManager) -> None:
        first = await acquire_attempt(locks, "op1")
        assert first[0] == b"held"
        assert await acquire_attempt(locks, "op1") == first
        assert (await acquire_attempt(locks, "op"))[0] == b"busy", "another operation whose id begins like it"

    async def test_repeated_acquire_starts_the_ttl_anew_until_it_was_refreshed(self, locks: RedisLockManager) -> None:
        lock = await taken(locks, ttl_ms=5_000)
        await acquire_attempt(locks, lock.operation, ttl=50_000)
        assert await locks._requests.command("s", "PTTL", KEYS.lock) > 40_000
        await lock.refresh(5_000)
        await acquire_attempt(locks, lock.operation, ttl=50_000)
        assert await locks._requests.command("s", "PTTL", KEYS.lock) <= 5_000

    async def test_an_acquire_that_arrives_after_its_release_takes_nothing(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await lock.release()
        assert await acquire_attempt(locks, lock.operation) == [b"over"]
        assert not await locks.is_locked("s")

    async def test_release_says_true_again_even_where_another_has_the_lock(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        assert await locks._backend.release_lock(lock, retry_timeout=1)
        other = await taken(locks)
        assert await locks._backend.release_lock(lock, retry_timeout=1), "its first reply was lost"
        assert await other.refresh()

    async def test_a_late_refresh_does_not_undo_a_later_one(self, locks: RedisLockManager) -> None:
        lock = await taken(locks, ttl_ms=60_000)
        assert (await locks._backend.refresh_lock(lock, 40_000, 2, retry_timeout=1))[1] == 1
        assert (await locks._backend.refresh_lock(lock, 100, 1, retry_timeout=1))[1] == 2
        assert await locks._requests.command("s", "PTTL", KEYS.lock) > 30_000
        assert (await locks._backend.refresh_lock(lock, 50_000, 2, retry_timeout=1))[1] == 1, (
            "a repeated one counts anew"
        )
        assert await locks._requests.command("s", "PTTL", KEYS.lock) > 40_000

    async def test_finished_operations_are_forgotten_in_time(self, locks: RedisLockManager) -> None:
        lock = await taken(locks, ttl_ms=500_000)
        await lock.release()
        assert 50_000 < await locks._requests.command("s", "PTTL", KEYS.operation(lock.operation)) <= 60_000

    async def test_refresh_and_release_compare_owner_and_token(self, locks: RedisLockManager) -> None:
        lock = await taken(locks, owner="me")
        stored = json.loads(lock.record)
        for change in ({"owner": "you"}, {"fencingToken": lock.fencing_token + 1}):
            value = json.dumps({**stored, **change}, separators=(",", ":"))
            await locks._requests.command("s", "SET", KEYS.lock, value, "PX", 60_000)
            assert (await locks._backend.refresh_lock(lock, 50_000, 1, retry_timeout=1))[1] == 0
            assert not await locks._backend.release_lock(lock, retry_timeout=1)
            assert await locks._requests.command("s", "GET", KEYS.lock) == value.encode()


class TestQueue:
    async def test_a_waiter_that_died_in_the_queue_holds_up_nobody_for_long(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        assert (await acquire_attempt(locks, "dead", alive_ms=1200))[2] == 0
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(locks, 2)
        started = time.monotonic()
        await lock.release()
        assert await waiter is not None
        assert time.monotonic() - started < 1.2 + 2 * POLL_SECONDS

    async def test_a_place_without_a_sign_of_life_counts_for_nothing(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await acquire_attempt(locks, "first", alive_ms=60_000)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(locks, 2)
        await locks._requests.command("s", "ZREM", KEYS.alive, "first")  # as an eviction would
        started = time.monotonic()
        await lock.release()
        assert await waiter is not None
        assert time.monotonic() - started < 0.5

    async def test_first_in_the_queue_goes_before_later_waiters(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await acquire_attempt(locks, "first", alive_ms=60_000)
        assert (await acquire_attempt(locks, "second", alive_ms=60_000))[2] == 1
        await lock.release()
        assert (await acquire_attempt(locks, "second", alive_ms=60_000))[:2] == [b"busy", 0]
        assert (await acquire_attempt(locks, "first", alive_ms=60_000))[0] == b"held"

    async def test_who_does_not_wait_takes_a_free_lock_whoever_is_in_the_queue(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await acquire_attempt(locks, "first", alive_ms=60_000)
        await lock.release()
        assert await locks.acquire("s") is not None

    async def test_a_deleted_lock_is_found_by_looking(self, locks: RedisLockManager) -> None:
        await taken(locks)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(locks, 1)
        await asyncio.sleep(0.1)  # its subscription stands: only the poll is left
        await locks._requests.command("s", "DEL", KEYS.lock)
        assert await asyncio.wait_for(waiter, 1.5 * POLL_SECONDS + 0.5) is not None

    async def test_a_user_without_pubsub_waits_and_releases_all_the_same(
        self, locks: RedisLockManager, server_url: str
    ) -> None:
        await locks._requests.command("s", "ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
        try:
            async with RedisLockManager(server_url, username="mute", password="secret") as mute:
                lock = await taken(mute)
                waiter = asyncio.create_task(mute.acquire("s", wait_ms=20_000))
                await waiting(locks, 1)
                assert await lock.release()
                assert await asyncio.wait_for(waiter, 3 * POLL_SECONDS) is not None
        finally:
            await locks._requests.command("s", "ACL", "DELUSER", "mute")

    async def test_who_finds_the_lock_free_out_of_turn_calls_the_one_whose_turn_it_is(
        self, locks: RedisLockManager
    ) -> None:
        await taken(locks)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(locks, 1)
        await asyncio.sleep(0.1)  # its subscription stands
        await locks._requests.command("s", "DEL", KEYS.lock)
        started = time.monotonic()
        assert (await acquire_attempt(locks, "second", alive_ms=60_000))[0] == b"busy"
        assert await waiter is not None
        assert time.monotonic() - started < 0.4

    async def test_a_leaving_waiter_passes_its_turn_on(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        await acquire_attempt(locks, "leaver", alive_ms=60_000)
        waiter = asyncio.create_task(locks.acquire("s", wait_ms=20_000))
        await waiting(locks, 2)
        await asyncio.sleep(0.1)  # its subscription stands
        await lock.release()  # the waiter that has left is notified, and does not answer
        started = time.monotonic()
        locks._backend.drop("s", b"", "leaver")
        assert await waiter is not None
        assert time.monotonic() - started < 0.5

    async def test_a_waiter_cancelled_after_it_got_the_lock_releases_it(self, locks: RedisLockManager) -> None:
        lock = await taken(locks)
        waiter = asyncio.create_task(locks.acquire("s", ttl_ms=60_000, wait_ms=20_000))
        await comes_true(has_subscribed(locks))
        await lock.release()
        while locks._waiters:  # noqa: ASYNC110  the very turn of the loop is wanted
            await asyncio.sleep(0)
        assert not waiter.done(), "it is to be cancelled after the reply, and before it returns"
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await freed(locks)
        assert locks._requests.topology.hub("s").channels == 0


async def test_renewal_ends_quietly_with_the_connections(locks: RedisLockManager) -> None:
    errors: list[HelixError] = []
    locks.on("error", errors.append)
    with pytest.raises(LockLostError):  # noqa: PT012
        async with locks.hold("s", ttl_ms=60_000) as lock:
            await shorten(lock)
            await locks._requests.topology.close()
            await happens(lock.lost)
    assert not errors


async def test_lost_precedes_the_servers_expiry(locks: RedisLockManager) -> None:
    for _ in range(6):
        lock = await expiring(locks)
        await happens(lock.lost)
        left = await locks._requests.command("s", "PTTL", KEYS.lock)
        # The loop may wake late on a busy machine; then the clock itself must have said so before.
        assert left > 0 or lock._deadline < lock._backend.clock()
        await freed(locks)


async def test_notification_reaches_a_waiter_of_another_connection(
    locks: RedisLockManager, others: RedisLockManager
) -> None:
    async def subscribed() -> bool:
        return bool((await locks._requests.command("s", "PUBSUB", "NUMSUB", KEYS.released))[1])

    async def handed_over() -> float:
        lock = await taken(locks, ttl_ms=60_000)
        waiter = asyncio.create_task(taken(others, wait_ms=30_000))
        await comes_true(subscribed)
        await waiting(locks, 1)
        started = time.monotonic()
        await lock.release()
        second = await waiter
        elapsed = time.monotonic() - started
        await second.release()
        return elapsed

    await quickest(handed_over, below=0.5)
    await comes_true(lambda: _none(subscribed))


async def _none(condition: Any) -> bool:
    return not await condition()
