"""The codec: P9, encode and decode. No server takes part."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

from helix_fast import codec
from helix_fast.streams.chunks import LineDecoder

from .baselines import msgspec_chunks
from .measure import Measure, Run, check
from .payloads import AGENT_ID, AGENT_TYPE, TIMESTAMP, chunk_json, payloads_for
from .targets import TARGETS
from .under_pytest import benchmark_of

BATCH = 64


def per_second(work: Callable[[], None], chunks: int, times: int) -> float:
    """Chunks a second of ``work``, which handles so many."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return chunks * times / (time.perf_counter() - began)


class _Codec(Measure):
    """Sizes of both halves."""

    unit = "chunks/s"
    needs_server = False

    async def prepare(self) -> None:
        self.chunks = self.size.pick(500_000, 100_000, 640)
        self.payload_chunks = self.size.pick(64_000, 6_400, 64)

    async def ours(self) -> float:
        return await self._ours(self.text, self.chunks)

    async def baseline(self) -> float:
        return await self._baseline(self.text, self.chunks)

    async def _ours(self, text: str, chunks: int) -> float:
        raise NotImplementedError

    async def _baseline(self, text: str, chunks: int) -> float:
        raise NotImplementedError

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        for name, text in payloads_for(full=self.size.full):
            count = self.payload_chunks
            yield name, functools.partial(self._ours, text, count), functools.partial(self._baseline, text, count)


class Encode(_Codec):
    """A text_delta to its bytes."""

    key = "P9"
    what = "codec: encode a text_delta"
    against = "msgspec: make a struct and encode it"
    target, reach = TARGETS["P9"]

    async def _ours(self, text: str, chunks: int) -> float:
        encode = codec.ChunkEncoder(AGENT_ID, AGENT_TYPE).encode_text
        check(encode(text, TIMESTAMP), chunk_json(text), "bytes of ours")

        def work() -> None:
            for _ in range(BATCH):
                encode(text, TIMESTAMP)

        return per_second(work, BATCH, chunks // BATCH)

    async def _into_batch(self, text: str, chunks: int) -> float:
        encoder = codec.ChunkEncoder(AGENT_ID, AGENT_TYPE)
        batch = codec.BatchBuilder()
        add = batch.add_text

        def work() -> None:
            for _ in range(BATCH):
                add(encoder, text, TIMESTAMP)
            batch.take()

        work()
        add(encoder, text, TIMESTAMP)
        check(batch.take(), chunk_json(text), "bytes of ours")
        return per_second(work, BATCH, chunks // BATCH)

    async def _baseline(self, text: str, chunks: int) -> float:
        encode, make = msgspec_chunks.encode, msgspec_chunks.TextDelta
        made = make(delta=text, agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=TIMESTAMP)
        check(msgspec_chunks.decode(encode(made)), msgspec_chunks.decode(chunk_json(text)), "chunk of the baseline")

        def work() -> None:
            for _ in range(BATCH):
                encode(make(delta=text, agent_id=AGENT_ID, agent_type=AGENT_TYPE, timestamp=TIMESTAMP))

        return per_second(work, BATCH, chunks // BATCH)

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        yield (
            "add_text into a batch",
            functools.partial(self._into_batch, self.text, self.chunks),
            functools.partial(self._baseline, self.text, self.chunks),
        )


class Decode(_Codec):
    """The body of an entry of 64 chunks to structs, against one decode a chunk."""

    key = "P9-decode"
    what = "codec: decode a batch of 64"
    against = "msgspec: decode one by one, tagged union"
    target, reach = TARGETS["P9-decode"]

    async def _ours(self, text: str, chunks: int) -> float:
        body = b"\n".join([chunk_json(text)] * BATCH)
        decode = LineDecoder().decode
        decode(body, BATCH, 0)
        first, found, _faulty = decode(body, BATCH, 0)
        check((first, len(found), getattr(found[-1], "delta", None)), (1, BATCH, text), "chunks of ours")
        return per_second(lambda: _drop(decode(body, BATCH, 0)), BATCH, chunks // BATCH)

    async def _baseline(self, text: str, chunks: int) -> float:
        return await self._one_by_one(msgspec_chunks.decode, text, chunks)

    async def _one_by_one(self, decode: Callable[[bytes], object], text: str, chunks: int) -> float:
        # The lines are split already: msgspec's time must not include the splitting.
        lines = [chunk_json(text)] * BATCH
        check(getattr(decode(lines[0]), "delta", None), text, "chunk of the baseline")

        def work() -> None:
            for line in lines:
                decode(line)

        return per_second(work, BATCH, chunks // BATCH)

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        yield (
            "against a decoder of text_delta alone",
            functools.partial(self._ours, self.text, self.chunks),
            functools.partial(self._one_by_one, msgspec_chunks.decode_text, self.text, self.chunks),
        )


def _drop(_value: object) -> None:
    """Let go of a result."""


MEASURES = (Encode, Decode)
test_codec = benchmark_of(*MEASURES)
