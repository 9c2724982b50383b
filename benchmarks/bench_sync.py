"""The blocking stores: P18."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable

import redis

from helix_fast.sync import Helix, connect

from .measure import Measure, check
from .targets import TARGETS
from .under_pytest import benchmark_of

THREADS = 50


class ThreadedWrites(Measure):
    """50 threads, a stream each; each thread writes a chunk, waits for its sequence, and writes the next."""

    key = "P18"
    what = "blocking writes of 50 threads"
    against = "redis-py, pool of 50"
    unit = "chunks/s"
    target, reach = TARGETS["P18"]

    async def prepare(self) -> None:
        self.chunks = self.size.pick(150, 100, 2)
        self.helix: Helix = connect(self.server.url)
        pool = redis.BlockingConnectionPool.from_url(self.server.url, max_connections=THREADS)
        self.client = redis.Redis(connection_pool=pool)

    async def clean(self) -> None:
        self.helix.close()
        self.client.close()

    async def ours(self) -> float:
        name = self.fresh("sync")
        writers = [self.helix.streams.create_writer(f"{name}-{index}", "agent") for index in range(THREADS)]

        def write(index: int) -> None:
            last = 0
            for _ in range(self.chunks):
                last = writers[index].write({"type": "text_delta", "delta": self.text})
            check(last, self.chunks, "sequence of the last chunk")

        speed = await asyncio.to_thread(self._run, write)
        for writer in writers:
            writer.close()
        return speed

    async def baseline(self) -> float:
        name = self.fresh("theirs")

        def write(index: int) -> None:
            key = f"{name}-{index}"
            for sequence in range(1, self.chunks + 1):
                chunk = {"type": "text_delta", "agentId": "agent", "timestamp": int(time.time() * 1000)}
                data = json.dumps({**chunk, "delta": self.text})
                self.client.xadd(key, {"data": data, "sequence": sequence})

        speed = await asyncio.to_thread(self._run, write)
        check(self.client.xlen(f"{name}-0"), self.chunks, "chunks of a stream")
        return speed

    def _run(self, write: Callable[[int], None]) -> float:
        """Chunks a second of all threads."""
        failed: list[BaseException] = []
        together = threading.Barrier(THREADS + 1)

        def work(index: int) -> None:
            together.wait()
            try:
                write(index)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
        for thread in threads:
            thread.start()
        together.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        if failed:
            raise failed[0]
        return THREADS * self.chunks / seconds


MEASURES = (ThreadedWrites,)
test_sync = benchmark_of(*MEASURES)
