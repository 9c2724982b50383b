"""Usage: P5."""

from __future__ import annotations

import random
import socket
import statistics
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from helix_fast import codec
from helix_fast.keys import UsageKeys
from helix_fast.usage.store import RedisUsageStore

from .baselines.pydantic_store import PydanticStore
from .measure import Also, Measure, Run, check
from .payloads import TIMESTAMP
from .targets import TARGETS, WARM_ROLLUP_MS
from .under_pytest import benchmark_of

SESSION = "run-abc123"
ENTRIES, TOTALS = UsageKeys("helix", SESSION).entries, UsageKeys("helix", SESSION).totals
PAGE, PAGES_AHEAD = 2_500, 2  # some 460 KB
NEW_ENTRIES = 100
WARM_ROLLUPS = 5
MODELS = ("gpt-4o", "claude-sonnet", "gemini-pro")
TOOLS = ("search", "read_file", "run_code", "fetch")


def make_entries(count: int, seed: int, prefix: str = "e") -> list[dict[str, Any]]:
    """Entries of a session in the proportions of an agent: seven model calls, two tool calls, one custom value."""
    chance = random.Random(seed)
    return [make_entry(chance, f"{prefix}{seed}-{number}", number) for number in range(count)]


def make_entry(chance: random.Random, entry_id: str, number: int) -> dict[str, Any]:
    """One entry in wire form."""
    common = {"id": entry_id, "sessionId": SESSION, "stepCount": number // 10, "timestamp": TIMESTAMP + number}
    kind = number % 10
    if kind < 7:
        prompt, completion = chance.randrange(10_000), chance.randrange(2_000)
        tokens = {"prompt": prompt, "completion": completion, "cached": prompt // 3, "total": prompt + completion}
        return {"kind": "tokens", **common, "model": MODELS[kind % 3], "tokens": tokens}
    if kind < 9:
        took = chance.randrange(1, 5_000)
        name = TOOLS[chance.randrange(4)]
        return {"kind": "tool", **common, "toolName": name, "durationMs": took, "success": took % 20 != 0}
    return {"kind": "custom", **common, "type": "pages", "value": chance.randrange(50)}


class Rollup(Measure):
    """The rollup of a session by a process that has read none of it.

    Stored totals are deleted first, so that every entry is read; a further figure is taken with them.
    """

    key = "P5"
    what = "rollup of 100 000 entries, read cold"
    against = "the limit: pages thrown away as they come"
    unit = "entries/s"
    target, reach = TARGETS["P5"]

    async def prepare(self) -> None:
        self.count = self.size.pick(100_000, 20_000, 600)
        self.times = self.size.pick(5, 3, 1)
        self.warm_ms: list[float] = []
        self.stored_ms: list[float] = []
        self.recorded = 0
        self.store = PydanticStore(self.server.socket_path)
        self.usage = RedisUsageStore(self.server.url)
        entries = make_entries(self.count, 0)
        for start in range(0, self.count, 10_000):
            part = entries[start : start + 10_000]
            check(await self.usage.record_entries(part), len(part), "entries recorded")
        await self.store.record(SESSION, [msgspec.json.encode(entry) for entry in entries])
        self.expected = await self.store.rollup(SESSION)
        check(self.expected.entries, self.count, "entries that the baseline added")

    async def clean(self) -> None:
        await self.usage.close()
        await self.store.close()

    async def ours(self) -> float:
        seconds = 0.0
        for _ in range(self.times):
            # A new store has summed nothing yet; it connects before the clock starts.
            async with RedisUsageStore(self.server.url) as cold:
                await cold._requests.command(SESSION, "DEL", TOTALS)
                began = time.perf_counter()
                rollup = await cold.get_rollup(SESSION)
                seconds += time.perf_counter() - began
                assert rollup is not None
                self._compare(rollup)
                await self._stored(cold)
                await self._warm(cold)
                await cold.exists("nobody")  # after its reply the totals, sent without waiting, can be deleted
        return self.count * self.times / seconds

    def _compare(self, rollup: Any) -> None:
        """The warm rollups may have added entries to ours; the sums of the first ones are the same."""
        check(rollup.entry_count, self.count + self.recorded, "entries that ours added")
        if self.recorded == 0:
            expected = self.expected
            tokens = rollup.tokens
            check(
                (tokens.prompt, tokens.completion, tokens.cached, tokens.total),
                (expected.prompt, expected.completion, expected.cached, expected.total),
                "sums of tokens",
            )
            check(rollup.tool_stats.total_calls, expected.calls, "tool calls")
            check(rollup.tool_stats.failures, expected.failures, "failed tool calls")
            check(sorted(rollup.by_model), sorted(expected.by_model), "models")
            check((rollup.first_timestamp, rollup.last_timestamp), (expected.first, expected.last), "timestamps")

    async def _stored(self, store: RedisUsageStore) -> None:
        """The rollup of another new store, with stored totals."""
        covered = int(await store._requests.command(SESSION, "HGET", TOTALS, "place") or 0)
        check(covered, self.count + self.recorded, "entries that the stored totals cover")
        async with RedisUsageStore(self.server.url) as cold:
            await cold.exists("nobody")
            began = time.perf_counter()
            rollup = await cold.get_rollup(SESSION)
            self.stored_ms.append((time.perf_counter() - began) * 1000)
            self._compare(rollup)

    async def _warm(self, store: RedisUsageStore) -> None:
        """100 new entries, by another process's store, and the rollup again."""
        for _ in range(WARM_ROLLUPS):
            new = make_entries(NEW_ENTRIES, self.recorded + 1, "w")
            check(await self.usage.record_entries(new), NEW_ENTRIES, "new entries recorded")
            self.recorded += NEW_ENTRIES
            began = time.perf_counter()
            rollup = await store.get_rollup(SESSION)
            self.warm_ms.append((time.perf_counter() - began) * 1000)
            assert rollup is not None
            check(rollup.entry_count, self.count + self.recorded, "entries of the warm rollup")

    async def _pydantic(self) -> float:
        began = time.perf_counter()
        sums = await self.store.rollup(SESSION)
        seconds = time.perf_counter() - began
        check(sums.entries, self.count, "entries that the baseline added")
        return self.count / seconds

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        if self.size.full:
            yield "against LRANGE and the same sums over pydantic models", self.ours, self._pydantic

    async def baseline(self) -> float:
        """The time of server and socket for all entries: the lower bound of every reader."""
        pages: list[tuple[bytes, int]] = []  # requests, and the offset at which the reply to each ends
        end = 0
        for start in range(0, self.count, PAGE):
            command: tuple[bytes | int, ...] = (b"LRANGE", ENTRIES, start, min(start + PAGE, self.count) - 1)
            reply = self.probe.command(*command)
            end += len(codec.frame_command(reply))  # an array of strings, as a command is
            pages.append((codec.frame_command(command), end))
        buffer = bytearray(1 << 20)
        with socket.socket(socket.AF_UNIX) as sink:
            sink.connect(self.server.socket_path)
            began = time.perf_counter()
            for _ in range(self.times):
                received = 0
                for number, (request, _end) in enumerate(pages):
                    sink.sendall(request)
                    while number >= PAGES_AHEAD and received < pages[number - PAGES_AHEAD][1]:
                        received += sink.recv_into(buffer)
                while received < end:
                    received += sink.recv_into(buffer)
                check(received, end, "bytes of all pages")
            return self.count * self.times / (time.perf_counter() - began)

    def also(self) -> Iterator[Also]:
        yield Also("cold, totals stored (median)", statistics.median(self.stored_ms), "ms")
        yield Also(f"warm, {NEW_ENTRIES} new entries (median)", statistics.median(self.warm_ms), "ms", WARM_ROLLUP_MS)


MEASURES = (Rollup,)
test_usage = benchmark_of(*MEASURES)
