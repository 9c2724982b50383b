"""P1, P2, P10, P11, P20: what writing to streams costs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import statistics
import time
from collections.abc import Iterator

from helix_fast import connect
from helix_fast.codec import MAX_BATCH_BYTES
from helix_fast.connect import Helix
from helix_fast.embedded import EmbeddedServer

from .baselines.bare_client import baseline_name, xadd_per_second
from .baselines.pydantic_store import PydanticStore, TextDelta
from .measure import Also, Measure, Run, Size, check, check_between
from .open_streams import TASKS, OpenStreams
from .payloads import AGENT_ID, AGENT_TYPE, TIMESTAMP, chunk_json, payload_of, payloads_for
from .probe import Probe, Use
from .stream_loads import check_last, close_and_delete, open_writers, stream_text, write_each
from .targets import SERVER_CPU_US, TARGETS


class OneWriter(Measure):
    """One writer as fast as it goes, against the server's own speed for one entry a chunk."""

    key = "P1"
    what = "one writer, send_text + flush"
    against = baseline_name()
    unit = "chunks/s"
    target, reach = TARGETS["P1"]

    async def prepare(self) -> None:
        self.count = self.size.pick(1_000_000, 100_000, 2_000)
        self.payload_count = self.size.pick(200_000, 4_000, 300)
        self.helix = await connect(self.server.url)
        self.server_cpu: dict[str, list[float]] = {"ours": [], "baseline": []}

    async def clean(self) -> None:
        await self.helix.close()

    async def ours(self) -> float:
        before = self.probe.cpu_seconds()
        rate = await self._write(self.text, self.count)
        self.server_cpu["ours"].append((self.probe.cpu_seconds() - before) / self.count * 1e6)
        return rate

    async def baseline(self) -> float:
        return await self._append(self.text, self.count)

    def also(self) -> Iterator[Also]:
        for side, used in self.server_cpu.items():
            yield Also(f"server CPU a chunk (INFO cpu), {side}", statistics.median(used), "µs")

    async def _write(self, text: str, count: int) -> float:
        return count / await stream_text(self.helix.streams, self.fresh("one"), text, count)

    async def _append(self, text: str, count: int) -> float:
        key = self.fresh("bare")
        before = self.probe.cpu_seconds()
        rate = await xadd_per_second(self.server.socket_path, key, chunk_json(text), count)
        check_between(self.probe.length(key), count, count + 100_000, f"entries in {key}")
        if count == self.count:
            self.server_cpu["baseline"].append((self.probe.cpu_seconds() - before) / count * 1e6)
        self.probe.command("DEL", key)
        return rate

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        for name, text in payloads_for(full=self.size.full):
            # As many bytes of text as chunks allow: 2 000 bytes a chunk need fewer of them.
            count = max(100, self.payload_count * 20 // max(20, len(text.encode()) // 4))
            yield name, functools.partial(self._write, text, count), functools.partial(self._append, text, count)


class LongTexts(OneWriter):
    """P1 with 2 000 bytes of text a chunk: ASCII, CJK, and text with escapes, one after the other."""

    key = "P20"
    what = "one writer, 2 000 bytes of text a chunk, send_text + flush"
    target, reach = TARGETS["P20"]

    async def prepare(self) -> None:
        await super().prepare()
        self.count = self.size.pick(20_000, 2_000, 100)
        self.texts = {kind: payload_of(f"{kind}-2000").text for kind in ("ascii", "cjk", "escaped")}

    async def ours(self) -> float:
        return statistics.harmonic_mean([await self._write(text, self.count) for text in self.texts.values()])

    async def baseline(self) -> float:
        return statistics.harmonic_mean([await self._append(text, self.count) for text in self.texts.values()])

    def also(self) -> Iterator[Also]:
        return iter(())

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        for kind, text in self.texts.items():
            yield (
                kind,
                functools.partial(self._write, text, self.count),
                functools.partial(self._append, text, self.count),
            )

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        return iter(())


class ManyWriters(Measure):
    """Each of 1 000 tasks writes to its own stream and awaits every acknowledgement."""

    key = "P2"
    what = "1 000 writers of 1 000 streams, each await write()"
    against = "pydantic + redis-py, 1 000 tasks on a pool of 50"
    unit = "chunks/s"
    target, reach = TARGETS["P2"]

    async def prepare(self) -> None:
        self.writers = self.size.pick(1_000, 1_000, 20)
        self.each = self.size.pick(200, 30, 3)
        self.baseline_each = self.size.pick(30, 5, 3)
        self.helix = await connect(self.server.url)
        self.store = PydanticStore(self.server.socket_path)
        self.uses = {"ours": Use(self.probe), "baseline": Use(self.probe)}

    async def clean(self) -> None:
        await self.helix.close()
        await self.store.close()

    async def ours(self) -> float:
        streams = self.helix.streams
        prefix = self.fresh("many")
        names = [f"{prefix}-{number}" for number in range(self.writers)]
        writers = await open_writers(streams, names)
        chunks = self.writers * self.each
        with self.uses["ours"].of(chunks):
            began = time.perf_counter()
            await asyncio.gather(*(write_each(writer, self.each, self.text) for writer in writers))
            seconds = time.perf_counter() - began
        await check_last(streams, names, self.each)
        await close_and_delete(streams, names, writers)
        return chunks / seconds

    async def baseline(self) -> float:
        prefix = self.fresh("pydantic")
        names = [f"{prefix}-{number}" for number in range(self.writers)]
        with self.uses["baseline"].of(len(names) * self.baseline_each):
            began = time.perf_counter()
            await asyncio.gather(*map(self._write, names))
            seconds = time.perf_counter() - began
        keys = [f"stream:{name}" for name in names]
        check(self.probe.lengths(keys), self.writers * self.baseline_each, "entries of all streams")
        self.probe.command("UNLINK", *keys)
        return self.writers * self.baseline_each / seconds

    async def _write(self, name: str) -> None:
        store = self.store
        for sequence in range(1, self.baseline_each + 1):
            chunk = TextDelta(delta=self.text, agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=TIMESTAMP)
            await store.write(name, chunk, sequence)

    def also(self) -> Iterator[Also]:
        for side, use in self.uses.items():
            server, client, sent = use.medians()
            yield Also(
                f"server CPU a chunk (INFO cpu), {side}", server, "µs", SERVER_CPU_US if side == "ours" else None
            )
            yield Also(f"client CPU a chunk, {side}", client, "µs")
            yield Also(f"bytes to and from the server a chunk, {side}", sent, "bytes")


class OpenStreamsCost(Measure):
    """100 tasks write to 100 000 streams in turns, or to 100. One process and one server for each of the two."""

    key = "P10"
    what = "a chunk with 100 000 open streams"
    against = "the same with 100 open streams"
    unit = "µs/chunk"
    target, reach = TARGETS["P10"]

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.other_server = EmbeddedServer()

    async def prepare(self) -> None:
        self.many = self.size.pick(100_000, 10_000, 200)
        self.chunks = self.size.pick(100_000, 20_000, 400)
        self.cpu: dict[int, list[float]] = {}
        self._stack = contextlib.AsyncExitStack()
        await self._stack.enter_async_context(self.other_server)
        self.other_probe = Probe(self.other_server.socket_path)
        self.holder = await self._stack.enter_async_context(OpenStreams(self.server.url, self.many, text=self.text))
        self.other = await self._stack.enter_async_context(OpenStreams(self.other_server.url, TASKS, text=self.text))

    async def clean(self) -> None:
        await self._stack.aclose()

    async def ours(self) -> float:
        return await self._run(self.holder, self.probe, self.many)

    async def baseline(self) -> float:
        return await self._run(self.other, self.other_probe, TASKS)

    async def _run(self, holder: OpenStreams, probe: Probe, streams: int) -> float:
        cost = await holder.write(self.chunks, probe)
        self.cpu.setdefault(streams, []).append(cost.client_cpu + cost.server_cpu)
        return cost.time

    def also(self) -> Iterator[Also]:
        yield Also("open streams", self.many, "")
        for streams, used in self.cpu.items():
            yield Also(f"client and server CPU a chunk, {streams:,} streams", statistics.median(used), "µs")


class StoredMemory(Measure):
    """What the server keeps for a chunk: batches of 32 against an entry for each."""

    key = "P11"
    what = "Redis memory of a stored chunk, batches of 32"
    against = "the documented entry, one a chunk"
    unit = "bytes"
    target, reach = TARGETS["P11"]
    exact = True

    async def prepare(self) -> None:
        self.count = 32 * self.size.pick(100, 50, 4)
        self.helix: Helix = await connect(self.server.url)
        self.store = PydanticStore(self.server.socket_path)

    async def clean(self) -> None:
        await self.helix.close()
        await self.store.close()

    async def ours(self) -> float:
        return await self._ours(self.text)

    async def baseline(self) -> float:
        return await self._baseline(self.text)

    async def _ours(self, text: str, batch: int = 32) -> float:
        name = self.fresh("batches")
        chunk = {
            "type": "text_delta",
            "delta": text,
            "agentId": AGENT_ID,
            "agentType": AGENT_TYPE,
            "timestamp": TIMESTAMP,
        }
        writer = await self.helix.streams.create_writer(name, AGENT_ID, AGENT_TYPE)
        for _ in range(self.count // batch):
            await writer.write_many([chunk] * batch)
        await check_last(self.helix.streams, [name], self.count)
        key = f"helix:stream:{{{name}}}"
        # The first entry of all opens the stream and holds no chunks; what is over 64 KiB goes into another.
        batches = self.count // batch
        parts = 1 if batch * (len(chunk_json(text)) + 1) <= MAX_BATCH_BYTES else 2
        check_between(self.probe.length(key), batches, parts * batches + 1, "entries of the batches")
        # The stream and all that belongs to it: its meta hash too.
        used = self.probe.memory(f"helix:stream:{{{name}}}*")
        await close_and_delete(self.helix.streams, [name], [writer])
        return used / self.count

    async def _baseline(self, text: str) -> float:
        name = self.fresh("entries")
        chunk = TextDelta(delta=text, agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=TIMESTAMP)
        for first in range(1, self.count + 1, 32):
            await self.store.write_many(name, [chunk] * 32, first)
        check(self.probe.length(f"stream:{name}"), self.count, "an entry for each chunk")
        used = self.probe.memory(f"stream:{name}")
        self.probe.command("DEL", f"stream:{name}")
        return used / self.count

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        yield "against our own entries of one chunk", self.ours, functools.partial(self._ours, self.text, 1)

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        for name, text in payloads_for(full=self.size.full):
            yield name, functools.partial(self._ours, text), functools.partial(self._baseline, text)
