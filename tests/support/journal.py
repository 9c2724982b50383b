"""A journal of what writers had acknowledged and what readers saw, and the check against the raw logs of servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any, NamedTuple

import redis

from helix_fast.errors import AcknowledgedDataLostError, HelixError, SequenceGapError, StoreConnectionError
from helix_fast.streams.sealed import sealed_entry
from helix_fast.streams.terms import Terms
from helix_fast.testing.servers import ServerProcess
from tests.chaos.check_streams import check_streams
from tests.chaos.history import Ack, Producer, Reader, Stored, Told
from tests.support.streams_under_fault import StreamStore, delta, text


def raw_log(server: ServerProcess, stream_id: str) -> list[Stored]:
    """The chunks of a stream as a server stores them, by a plain client."""
    where: dict[str, Any] = (
        {"unix_socket_path": server.socket_path} if server.socket_path else {"host": "127.0.0.1", "port": server.port}
    )
    client = redis.Redis(**where)
    try:
        meta: Any = client.hgetall(f"helix:stream:{{{stream_id}}}:meta")
        if not meta:
            return []
        terms = Terms(meta[b"terms"].decode(), meta[b"epoch"].decode())
        found: list[Stored] = []
        entries: Any = client.xrange(f"helix:stream:{{{stream_id}}}")
        for entry_id, fields in entries:
            sealed = sealed_entry(list(itertools.chain(*fields.items())))
            body = sealed.lines if sealed else fields.get(b"chunk", b"")
            lines = body.split(b"\n") if body else []
            term = terms.key_of(int(entry_id.split(b"-")[0])).text
            for sequence, line in enumerate(lines, int(fields[b"sequence"]) - len(lines) + 1):
                found.append(Stored((terms.epoch, term, sequence), json.loads(line)["delta"]))
        return found
    finally:
        client.close()


class WritingProcess:
    """A manager with connections of its own, as another process has: what it had acknowledged, what it was told."""

    def __init__(self, name: str, store: StreamStore) -> None:
        self.name = name
        self.store = store
        self.acknowledged: dict[str, int] = {}
        self.lost: set[int] = set()
        self.unknown = 0
        self.writer: Any = None
        store.on("error", self._told)

    def _told(self, error: HelixError) -> None:
        if isinstance(error, AcknowledgedDataLostError):
            self.lost.update(range(error.first, error.last + 1))

    async def write(self, stream_id: str, number: int, count: int) -> None:
        """Write until it is acknowledged, as a careful caller does: the same chunks again after a failure."""
        names = [f"{self.name}.{number}.{n}" for n in range(count)]
        chunks = [text(name) for name in names]
        while True:
            try:
                if self.writer is None:
                    self.writer = await self.store.create_writer(stream_id, self.name)
                last = await (self.writer.write(chunks[0]) if count == 1 else self.writer.write_many(chunks))
            except StoreConnectionError:
                self.unknown += 1
                await asyncio.sleep(0.01)
                continue
            for place, name in enumerate(names, last - count + 1):
                self.acknowledged[name] = place
            return

    async def produce(self, stream_id: str, stop: asyncio.Event, seed: int) -> None:
        dice, number = random.Random(seed), 0
        while not stop.is_set():
            number += 1
            await self.write(stream_id, number, dice.choice((1, 1, 1, 3)))
            await asyncio.sleep(dice.random() * 0.01)


class ReadingProcess:
    """Reads live; after a gap it goes on as the error says. ``runs``: what it was given between two errors."""

    def __init__(self, store: StreamStore) -> None:
        self.store = store
        self.runs: list[list[Stored]] = [[]]
        self.gaps: list[SequenceGapError] = []

    async def read(self, stream_id: str) -> None:
        position: Any = 0
        while True:
            reader = None
            try:
                reader = await self.store.create_resumable_reader(stream_id, from_sequence=position)
                if reader is None:
                    await asyncio.sleep(0.05)
                    continue
                async for stored in reader:
                    position = stored.position
                    self.runs[-1].append(Stored((stored.epoch, stored.term, stored.sequence), delta(stored.chunk)))
                return
            except SequenceGapError as gap:
                self.gaps.append(gap)
                self.runs.append([])
                position = gap.first_available - 1
            except StoreConnectionError:
                await asyncio.sleep(0.05)
            finally:
                if reader is not None:
                    await reader.close()


class Verdict(NamedTuple):
    """The numbers of one run."""

    acknowledged: int
    lost: int
    gaps: int


def check(writers: list[WritingProcess], readers: list[ReadingProcess], logs: list[list[Stored]]) -> Verdict:
    """Assert what is promised; the last of ``logs`` is the one that is left, the others are of branches."""
    producers = [
        Producer(
            process.name,
            [Ack("s", sequence, name, 0) for name, sequence in process.acknowledged.items()],
            [Told("s", sequence, sequence, 1) for sequence in process.lost],
            finished=True,
        )
        for process in writers
    ]
    seen = [Reader(f"r{number}", {"s": reader.runs}, ended={"s"}) for number, reader in enumerate(readers)]
    found = check_streams(producers, seen, {"s": logs}, may_lose=True, whole=True)
    assert not found.violations()
    for process in writers:
        strange = process.lost - set(process.acknowledged.values())
        assert not strange, f"{process.name} was told of {sorted(strange)}, which it had not acknowledged"
    return Verdict(found.counts["acknowledged"], found.counts["lost"], sum(len(reader.gaps) for reader in readers))
