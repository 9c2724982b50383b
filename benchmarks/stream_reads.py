"""P3, P4: what reading costs, and how long a chunk is under way."""

from __future__ import annotations

import asyncio
import functools
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import redis.asyncio as redis

from helix_fast import RedisStreamManager, StreamWriter, TextDeltaChunk, connect
from helix_fast.codec import MAX_BATCH_BYTES

from .baselines.pydantic_store import PydanticStore, TextDelta
from .measure import Also, Measure, Run, check, check_between
from .open_streams import open_readers
from .payloads import AGENT_ID, AGENT_TYPE, TIMESTAMP, chunk_json, numbered, payloads_for
from .probe import PATIENCE, Use, reached
from .stream_loads import close_and_delete, open_writers
from .targets import CONNECTIONS, TARGETS

ENTRY = 32
Read = Callable[[str], Awaitable[int]]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class StoredReads(Measure):
    """A stored stream from its beginning to its end, as structs with their sequences."""

    key = "P3"
    what = "resumable reader over 10 000 stored chunks (entries of 32)"
    against = "pydantic + redis-py: XRANGE and decode"
    unit = "chunks/s"
    target, reach = TARGETS["P3"]

    async def prepare(self) -> None:
        self.count = self.size.pick(10_000, 10_000, 640)
        self.times = self.size.pick(20, 3, 1)
        self.baseline_times = self.size.pick(5, 1, 1)
        self.variant_times = self.size.pick(4, 2, 1)
        self.payload_times = self.size.pick(2, 1, 1)
        self.last_delta: dict[str, str] = {}
        self._payload_now: str | None = None
        self.helix = await connect(self.server.url)
        self.store = PydanticStore(self.server.socket_path, max_length=self.count + 1000)
        for entry in (1, ENTRY, 400):
            await self._fill(f"by-{entry}", entry, self.text)
        await self._fill_baseline("stored", self.text)

    async def _fill_baseline(self, name: str, text: str) -> None:
        chunks = [
            TextDelta(delta=numbered(text, n), agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=TIMESTAMP)
            for n in range(1, self.count + 1)
        ]
        for first in range(0, self.count, 1000):
            await self.store.write_many(name, chunks[first : first + 1000], first + 1)
        check(self.probe.length(f"stream:{name}"), self.count, "entries of the baseline's stream")

    async def _fill(self, name: str, entry: int, text: str) -> None:
        self.last_delta[name] = numbered(text, self.count)
        streams = self.helix.streams
        writer = await streams.create_writer(name, AGENT_ID, AGENT_TYPE)
        numbers = range(1, self.count + 1)
        for first in range(0, self.count, entry):
            await writer.write_many(TextDeltaChunk(delta=numbered(text, n)) for n in numbers[first : first + entry])
        await writer.close()
        await streams.end_stream(name)
        # What is over 64 KiB goes into a further entry. Two hold no chunks: the one that opens a stream, and its end.
        entries, fitting = math.ceil(self.count / entry), MAX_BATCH_BYTES // (len(chunk_json(text)) + 1)
        most = entries * math.ceil(entry / fitting) + 2
        check_between(self.probe.length(f"helix:stream:{{{name}}}"), entries + 1, most, f"entries of {entry} chunks")

    async def clean(self) -> None:
        await self.helix.close()
        await self.store.close()

    async def ours(self) -> float:
        return await self._rate(f"by-{ENTRY}", self._one_by_one, self.times)

    async def _rate(self, name: str, read: Read, times: int) -> float:
        seconds = 0.0
        for _ in range(times):
            began = time.perf_counter()
            found = await read(name)
            seconds += time.perf_counter() - began
            check(found, self.count, f"chunks read of {name}")
        return self.count * times / seconds

    def _check_end(self, name: str, sequence: int, chunk: object) -> None:
        expected = (self.count, self.last_delta[name])
        check((sequence, getattr(chunk, "delta", None)), expected, "the last chunk read")

    async def _one_by_one(self, name: str) -> int:
        reader = await self.helix.streams.create_resumable_reader(name)
        assert reader is not None
        found = [stored async for stored in reader]
        self._check_end(name, found[-1].sequence, found[-1].chunk)
        return len(found)

    async def _by_batches(self, name: str) -> int:
        reader = await self.helix.streams.create_resumable_reader(name)
        assert reader is not None
        found = 0
        while batch := await reader.read_batch():
            found += len(batch)
            last = batch[-1]
        self._check_end(name, last.sequence, last.chunk)
        return found

    async def _at_once(self, name: str) -> int:
        found = await self.helix.resumable.read_from(name)
        self._check_end(name, found[-1].sequence, found[-1].chunk)
        return len(found)

    async def _pydantic(self, name: str) -> int:
        found = await self.store.read(name)
        self._check_end(f"by-{ENTRY}" if name == "stored" else name, *found[-1])
        return len(found)

    async def baseline(self) -> float:
        return await self._rate("stored", self._pydantic, self.baseline_times)

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        ways = {"async for": self._one_by_one, "read_batch": self._by_batches, "read_from": self._at_once}
        for entry in (1, ENTRY, 400):
            for way, read in ways.items():
                if not self.size.full and entry != ENTRY and way != "async for":
                    continue
                ours = functools.partial(self._rate, f"by-{entry}", read, self.variant_times)
                baseline = functools.partial(self._rate, "stored", self._pydantic, 1)
                yield f"{way}, entries of {entry}", ours, baseline

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        for name, text in payloads_for(full=self.size.full):
            ours = functools.partial(self._payload, name, text, self._one_by_one)
            yield name, ours, functools.partial(self._payload, name, text, self._pydantic)

    async def _payload(self, name: str, text: str, read: Read) -> float:
        """Both sides of a payload are stored before its first run, and the one before is removed."""
        if name not in self.last_delta:
            await self._forget_payload()
            await self._fill(name, ENTRY, text)
            await self._fill_baseline(name, text)
            self._payload_now = name
        return await self._rate(name, read, self.payload_times)

    async def _forget_payload(self) -> None:
        if self._payload_now is not None:
            await self.helix.streams.delete_stream(self._payload_now)
            self.probe.command("DEL", f"stream:{self._payload_now}")


class LiveLatency(Measure):
    """1 000 agents write 20 chunks a second each, 1 000 readers have them; from before `write` to the reader's hand."""

    key = "P4"
    what = "p99 from write to reader, 1 000 live readers, 20 000 chunks/s"
    against = "p99 of one dedicated XREAD BLOCK reader, idle server"
    unit = "ms"
    target, reach = TARGETS["P4"]

    async def prepare(self) -> None:
        self.streams = self.size.pick(1_000, 1_000, 20)
        self.per_second = 20.0
        self.each = self.size.pick(40, 10, 5)
        self.baseline_count = self.size.pick(2_000, 300, 50)
        self.rates: list[float] = []
        self.acknowledged: list[float] = []
        self.acknowledged_p99: list[float] = []
        self.medians: dict[str, list[float]] = {"ours": [], "baseline": []}
        self.connections: list[int] = []
        self.use = Use(self.probe)

    async def ours(self) -> float:
        before = self.probe.connections()
        async with connect(self.server.url) as helix:
            latencies, rate, connections = await self._live(helix.streams, helix.streams, self.each, self.use)
        self.connections.append(connections - before)
        self.rates.append(rate)
        self.acknowledged_p99.append(percentile(self.acknowledged, 0.99) * 1000)
        self.medians["ours"].append(statistics.median(latencies) * 1000)
        return percentile(latencies, 0.99) * 1000

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        if self.size.full:
            yield "readers on connections of their own, as in another process", self._apart, self.baseline

    async def _apart(self) -> float:
        """What readers get that the writers' process knows nothing of: all of it by the server."""
        async with connect(self.server.url) as writing, connect(self.server.url) as reading:
            latencies, _rate, _connections = await self._live(
                writing.streams, reading.streams, self.each // 2, Use(self.probe)
            )
        return percentile(latencies, 0.99) * 1000

    async def _live(
        self, writing: RedisStreamManager, reading: RedisStreamManager, each: int, use: Use
    ) -> tuple[list[float], float, int]:
        """The latency of each chunk in seconds, chunks written a second, and connections to the server."""
        prefix = self.fresh("live")
        names = [f"{prefix}-{number}" for number in range(self.streams)]
        writers = await open_writers(writing, names)
        readers = await open_readers(reading, names)
        sent: list[list[float]] = [[] for _ in names]
        latencies: list[float] = []
        self.acknowledged = []

        async def read(number: int) -> None:
            times = sent[number]
            count = 0
            async for stored in readers[number]:
                latencies.append(time.perf_counter() - times[stored.sequence - 1])
                count += 1
            check(count, each, f"chunks that reader {number} got")

        all_read = asyncio.gather(*map(read, range(self.streams)))
        await reached(lambda: self.probe.channels(f"*{{{prefix}-*") >= self.streams, "readers that wait")
        with use.of(self.streams * each):
            begin = time.perf_counter() + 0.05
            turns = (self._write(writer, number, begin, each, sent[number]) for number, writer in enumerate(writers))
            await asyncio.gather(*turns)
            seconds = time.perf_counter() - begin
        connections = self.probe.connections()
        await asyncio.gather(*map(writing.end_stream, names))
        await asyncio.wait_for(all_read, PATIENCE)
        check(len(latencies), self.streams * each, "chunks that arrived")
        await close_and_delete(writing, names, writers)
        return latencies, self.streams * each / seconds, connections

    async def _write(self, writer: StreamWriter, number: int, begin: float, each: int, times: list[float]) -> None:
        """On a timetable that does not slip where a write takes long; agents are spread evenly over the period."""
        for turn in range(each):
            due = begin + (turn + number / self.streams) / self.per_second
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            now = time.perf_counter()
            times.append(now)
            await writer.write(TextDeltaChunk(delta=self.text))
            self.acknowledged.append(time.perf_counter() - now)

    async def baseline(self) -> float:
        key = self.fresh("idle")
        writer = redis.Redis(unix_socket_path=self.server.socket_path)
        reader = redis.Redis(unix_socket_path=self.server.socket_path)
        sent: list[float] = []
        latencies: list[float] = []

        async def read() -> None:
            last = "0-0"
            while len(latencies) < self.baseline_count:
                reply: Any = await reader.xread({key: last}, block=5000)
                for _key, entries in reply:
                    for entry, _fields in entries:
                        latencies.append(time.perf_counter() - sent[len(latencies)])
                        last = entry

        fields = {"chunk": chunk_json(self.text), "sequence": "1"}
        try:
            await reader.ping()
            reading = asyncio.ensure_future(read())
            for _ in range(self.baseline_count):
                await asyncio.sleep(0.001)
                sent.append(time.perf_counter())
                await writer.xadd(key, fields)  # type: ignore[arg-type]
            await asyncio.wait_for(reading, PATIENCE)
        finally:
            await writer.aclose()
            await reader.aclose()
        check(len(latencies), self.baseline_count, "chunks that arrived")
        self.probe.command("DEL", key)
        self.medians["baseline"].append(statistics.median(latencies) * 1000)
        return percentile(latencies, 0.99) * 1000

    def also(self) -> Iterator[Also]:
        yield Also("connections", max(self.connections), "", CONNECTIONS)
        # Below this the load was not there, and the latency is that of another one.
        wanted = 0.95 * self.streams * self.per_second
        yield Also("chunks/s that were really written", statistics.median(self.rates), "chunks/s", wanted, "at least")
        yield Also("p50 ours", statistics.median(self.medians["ours"]), "ms")
        yield Also("p99 of the acknowledgement, ours", statistics.median(self.acknowledged_p99), "ms")
        yield Also("p50 baseline", statistics.median(self.medians["baseline"]), "ms")
        server, client, sent = self.use.medians()
        yield Also("server CPU a chunk (INFO cpu), ours", server, "µs")
        yield Also("client CPU a chunk, ours", client, "µs")
        yield Also("bytes to and from the server a chunk, ours", sent, "bytes")
