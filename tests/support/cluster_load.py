"""All five stores at work on a cluster: what each was promised is written down, and compared with what is stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.errors import HelixError
from helix_fast.testing.contract.usage_helpers import tokens
from tests.support.streams_under_fault import Following, deltas, follow, text

T = TypeVar("T")
# At least, between two operations of one task, and as long as the operation took: so the load leaves a small or busy
# machine room for the servers themselves.
PACE = 0.01


class ClusterLoad:
    """Tasks that work on `ids` until `finish`: on each a stream with a live reader, a session, a lock, and usage.

    `longest` tells by area the longest time that a single operation took, in seconds; `done` how many there were.
    """

    def __init__(self, url: str, ids: list[str], **connection: Any) -> None:
        self._helix: Helix = connect(url, **connection)
        self._ids = ids
        self._going = True
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: dict[str, Following] = {}
        self.longest: dict[str, float] = {}
        self.done: dict[str, int] = {}
        self.errors: list[HelixError] = []
        self.counts: dict[tuple[str, str], int] = {}

    async def start(self) -> None:
        helix = await self._helix
        for store in (helix.state, helix.streams, helix.resumable, helix.usage, helix.locks):
            store.on("error", self.errors.append)
        for name in self._ids:
            writer = await helix.streams.create_writer(name, "agent")
            self._readers[name] = await follow(helix.streams, name)
            await helix.state.create_session(name, agent_type="tester", initial_state={"list": []})
            self._work("streams", name, lambda n, writer=writer: writer.write(text(n)))  # type: ignore[misc]
            self._work("state", name, lambda n, name=name: helix.state.append_messages(name, [{"n": n}]))  # type: ignore[misc]
            self._work("usage", name, lambda n, name=name: helix.usage.record_entry(tokens(name, id=f"{name}-{n}")))  # type: ignore[misc]
            self._work("locks", name, lambda _n, name=name: self._lock(name))  # type: ignore[misc]

    async def _lock(self, name: str) -> None:
        lock = await self._helix.locks.acquire(name, wait_ms=60_000)
        assert lock is not None
        last = self.counts.get(("token", name), 0)
        assert lock.fencing_token > last, "a token was given twice"
        self.counts["token", name] = lock.fencing_token
        await lock.release()

    def _work(self, area: str, name: str, operation: Callable[[int], Awaitable[object]]) -> None:
        async def work() -> None:
            while self._going:
                number = self.counts.get((area, name), 0) + 1
                started = time.monotonic()
                await operation(number)
                took = time.monotonic() - started
                self.longest[area] = max(self.longest.get(area, 0.0), took)
                self.done[area] = self.done.get(area, 0) + 1
                self.counts[area, name] = number
                await asyncio.sleep(max(PACE, took))

        self._tasks.append(asyncio.create_task(work(), name=f"{area} {name}"))

    @property
    def failed(self) -> list[BaseException]:
        return [error for task in self._tasks if task.done() and (error := task.exception()) is not None]

    async def finish(self) -> None:
        """Stop, and compare: nothing is missing, nothing is there twice, and nothing was reported or raised."""
        self._going = False
        found = await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 80)
        assert [error for error in found if error is not None] == []
        helix = self._helix
        for name in self._ids:
            wanted = self.counts["streams", name]
            await helix.streams.end_stream(name)
            texts = [str(n) for n in range(1, wanted + 1)]
            assert await self._readers[name].done(60) == texts
            assert deltas(await helix.resumable.read_from(name)) == texts
            page = await helix.state.get_messages(name, limit=10_000)
            assert [message["n"] for message in page.messages] == list(range(1, self.counts["state", name] + 1))
            assert await helix.usage.get_entry_count(name) == self.counts["usage", name]
            rollup = await helix.usage.get_rollup(name)
            assert rollup is not None
            assert rollup.tokens.total == 150 * self.counts["usage", name]
        assert sorted(await helix.usage.find_session_ids()) == sorted(self._ids)
        assert self.errors == []

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self._readers.values():
            await reader.stop()
        await self._helix.close()

    def report(self) -> str:
        parts = [f"{area}: {self.done[area]} operations, longest {self.longest[area]:.2f} s" for area in self.done]
        return "; ".join(parts)
