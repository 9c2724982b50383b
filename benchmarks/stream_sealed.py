"""P16: what a stream that has ended takes in the server's memory, and what sealing it costs."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Iterator

from helix_fast import TextDeltaChunk, connect
from helix_fast.cli.demo import standard_text
from helix_fast.cli.playback import cut
from helix_fast.connect import Helix

from .baselines.pydantic_store import PydanticStore, TextDelta
from .measure import Also, Measure, Run, check
from .payloads import AGENT_ID, AGENT_TYPE, TIMESTAMP
from .probe import Use
from .targets import TARGETS

CHUNKS = 1_000
PACE_MS = 40
"""A token comes up to so many milliseconds after the one before: timestamps that repeat would deflate too well."""


class SealedMemory(Measure):
    """What the server keeps for a chunk of a sealed stream, of prose in tokens that were awaited one by one."""

    key = "P16"
    what = f"Redis memory of a chunk of an ended stream, {CHUNKS:,} of prose, awaited one by one, sealed"
    against = "the documented entry, one a chunk"
    unit = "bytes"
    target, reach = TARGETS["P16"]
    exact = True

    async def prepare(self) -> None:
        self.streams = self.size.pick(5, 2, 1)
        self.helix: Helix = await connect(self.server.url)
        self.store = PydanticStore(self.server.socket_path)
        self.use = Use(self.probe)
        self.unsealed: list[float] = []
        self.times: list[float] = []
        self.tokens = cut(standard_text())

    async def clean(self) -> None:
        await self.helix.close()
        await self.store.close()

    def prose(self, number: int) -> list[tuple[str, int]]:
        """Texts and timestamps of a stream, others for each number."""
        chance = random.Random(number)
        begin = chance.randrange(len(self.tokens) - CHUNKS)
        stamp = TIMESTAMP
        found: list[tuple[str, int]] = []
        for token in self.tokens[begin : begin + CHUNKS]:
            stamp += chance.randrange(PACE_MS)
            found.append((token, stamp))
        return found

    async def ours(self) -> float:
        return await self._ours(1)

    async def baseline(self) -> float:
        used = 0
        for number in range(self.streams):
            name = self.fresh("entries")
            for sequence, (text, stamp) in enumerate(self.prose(number), 1):
                chunk = TextDelta(delta=text, agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=stamp)
                await self.store.write(name, chunk, sequence)
            used += self.probe.memory(f"stream:{name}")
            self.probe.command("DEL", f"stream:{name}")
        return used / self.streams / CHUNKS

    async def _ours(self, batch: int) -> float:
        streams, names = self.helix.streams, [self.fresh("sealed") for _ in range(self.streams)]
        for number, name in enumerate(names):
            chunks = [TextDeltaChunk(delta=text, timestamp=stamp) for text, stamp in self.prose(number)]
            async with await streams.create_writer(name, AGENT_ID, AGENT_TYPE) as writer:
                for begin in range(0, CHUNKS, batch):
                    await writer.write_many(chunks[begin : begin + batch])
                await writer.end()
        before = self._memory(names)
        with self.use.of(self.streams):
            began = time.perf_counter()
            for name in names:
                check(await streams.seal_stream(name), True, "the stream is sealed")
            seconds = time.perf_counter() - began
        used = self._memory(names)
        if batch == 1:
            self.unsealed.append(before)
            self.times.append(seconds / self.streams)
        for number, name in enumerate(names):
            read = [(getattr(one.chunk, "delta", ""), one.chunk.timestamp) async for one in streams.read(name)]
            check(read, self.prose(number), "the chunks of the sealed stream")
            await streams.delete_stream(name)
        return used

    def _memory(self, names: list[str]) -> float:
        """Bytes a chunk, of the streams and all that belongs to them."""
        return sum(self.probe.memory(f"helix:stream:{{{name}}}*") for name in names) / self.streams / CHUNKS

    def also(self) -> Iterator[Also]:
        server, client, sent = self.use.medians()
        yield Also("before it was sealed", statistics.median(self.unsealed), "bytes")
        yield Also("time of sealing a stream", 1000 * statistics.median(self.times), "ms")
        yield Also("client CPU of sealing a stream", client / 1000, "ms")
        yield Also("server CPU of sealing a stream (INFO cpu)", server / 1000, "ms")
        yield Also("bytes to and from the server, of a stream", sent, "bytes")

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        yield "written in batches of 32", functools.partial(self._ours, 32), self.baseline
