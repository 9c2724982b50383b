"""Locks: P8."""

from __future__ import annotations

import time
from collections.abc import Iterator

import redis.asyncio as redis

from helix_fast import codec
from helix_fast.locks.manager import RedisLockManager

from .measure import Measure, Run, check
from .one_core import POSSIBLE, one_core
from .targets import TARGETS
from .under_pytest import benchmark_of

TTL_MS = 30_000


class AcquireRelease(Measure):
    """One task acquires and releases one lock repeatedly, without contention."""

    key = "P8"
    what = "acquire + release"
    against = "the limit: two bare PINGs"
    unit = "pairs/s"
    target, reach = TARGETS["P8"]

    async def prepare(self) -> None:
        self.pairs = self.size.pick(2_000, 1_000, 20)
        self.baseline_pairs = self.size.pick(1_000, 500, 20)
        self.locks = RedisLockManager(self.server.url)
        self.client = redis.Redis(unix_socket_path=self.server.socket_path)

    async def clean(self) -> None:
        await self.locks.close()
        await self.client.aclose()

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        if not self.size.full:
            return
        yield "against redis.asyncio.lock.Lock", self.ours, self._redis_lock
        if POSSIBLE:
            yield "client and server on one core", self._ours_on_one_core, self._baseline_on_one_core

    async def baseline(self) -> float:
        """The time of two empty round trips: no lock could be faster."""
        call, ping = self.locks._requests.topology.call, codec.frame_command([b"PING"])
        began = time.perf_counter()
        for _ in range(self.pairs):
            await call("", ping)
            await call("", ping)
        return self.pairs / (time.perf_counter() - began)

    async def _ours_on_one_core(self) -> float:
        with one_core(self.probe.process_id()):
            return await self.ours()

    async def _baseline_on_one_core(self) -> float:
        with one_core(self.probe.process_id()):
            return await self.baseline()

    async def ours(self) -> float:
        name = self.fresh("lock")
        acquire = self.locks.acquire
        last = 0
        began = time.perf_counter()
        for _ in range(self.pairs):
            lock = await acquire(name, ttl_ms=TTL_MS)
            assert lock is not None
            assert lock.fencing_token > last
            last = lock.fencing_token
            assert await lock.release()
        seconds = time.perf_counter() - began
        check(await self.locks.is_locked(name), False, "locked at the end")
        return self.pairs / seconds

    async def _redis_lock(self) -> float:
        name = self.fresh("theirs")
        lock = self.client.lock(name, timeout=TTL_MS / 1000)
        began = time.perf_counter()
        for _ in range(self.baseline_pairs):
            assert await lock.acquire(blocking=False)
            await lock.release()
        seconds = time.perf_counter() - began
        check(await self.client.exists(name), 0, "locked at the end")
        return self.baseline_pairs / seconds


MEASURES = (AcquireRelease,)
test_locks = benchmark_of(*MEASURES)
