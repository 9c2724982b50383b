"""The append protocol against a plain model: whatever the network and the other writers do, the log stays right.

After each step the log is read from its beginning: no holes, no overlaps, no duplicates, what was there is still there,
every acknowledged chunk is at the sequence that was told, every writer's chunks are in its order.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from helix_fast import (
    HelixError,
    StaleFencingTokenError,
    StreamClosedError,
    StreamFencedError,
    StreamResetError,
    StreamWriter,
)
from helix_fast.testing.contract.chunk_helpers import number_of
from tests.support.flaky import FAULTS, FlakyTopology
from tests.support.streams_under_fault import StreamStore

T = TypeVar("T")
OVER = (StreamClosedError, StreamResetError, StaleFencingTokenError, StreamFencedError)
STREAM = "s"
examples = itertools.count()


@dataclass
class Life:
    """One life of the stream: what is known to be in it."""

    base: int
    term: int = 0
    fence: int | None = None
    log: list[int] = field(default_factory=list)
    acked: dict[int, int] = field(default_factory=dict)  # chunk -> sequence that its writer was told
    stored: set[int] = field(default_factory=set)  # chunks whose flush succeeded
    ended: bool = False

    @property
    def last(self) -> int:
        return self.base + len(self.log)


@dataclass(eq=False)
class Open:
    """A writer, and where it belongs."""

    writer: StreamWriter
    life: Life
    term: int
    manager: int
    sent: list[int] = field(default_factory=list)

    def valid(self, life: Life | None) -> bool:
        return self.life is life and life is not None and not life.ended and self.term == life.term


class Protocol(RuleBasedStateMachine):
    """Two managers that repeat for long, one whose writes raise and are repeated by their caller; a plain reader."""

    server_url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.topologies = [FlakyTopology(self.server_url, retry_timeout=timeout) for timeout in (20, 20, 0)]
        options: dict[str, Any] = {"key_prefix": f"m{next(examples)}:", "max_stream_length": None, "ttl": 600}
        self.managers = [StreamStore(topology=topology, **options) for topology in self.topologies]
        self.reader = StreamStore(self.server_url, **options)
        self.reports: list[tuple[Life | None, HelixError]] = []
        for manager in self.managers:
            manager.on("error", lambda error: self.reports.append((self.life, error)))
        self.life: Life | None = None
        self.writers: list[Open] = []
        self.numbers = itertools.count(1)
        self.author: dict[int, Open] = {}
        self.repeated: set[int] = set()
        """Chunks whose write raised: a repeat comes after whatever other tasks gave to the same writer meanwhile."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def chunks(self, opened: Open, count: int) -> list[dict[str, Any]]:
        made = [{"type": "number", "n": next(self.numbers)} for _ in range(count)]
        self.author.update((chunk["n"], opened) for chunk in made)
        return made

    async def open_one(self, index: int, token: int | None) -> None:
        """The model's own view of opening: before the request, as nothing else runs meanwhile."""
        life, manager = self.life, self.managers[index]
        opening = manager.create_writer(STREAM, f"a{index}", fencing_token=token)
        if life is not None and token is not None and life.fence is not None and token < life.fence:
            with pytest.raises(StaleFencingTokenError):
                await opening
            return
        if life is not None and life.ended:
            with pytest.raises(StreamClosedError):
                await opening
            return
        writer = await opening
        if life is None:
            life = self.life = Life(base=0, fence=token)
        elif token is not None and (life.fence is None or token > life.fence):
            life.term += 1
            life.fence = token
        self.writers.append(Open(writer, life, life.term, index))

    async def write(self, opened: Open, count: int) -> None:
        """Write, and write the same again where it raised, as a caller does; note what was told."""
        chunks = self.chunks(opened, count)
        for _ in range(60):
            try:
                if count == 1:
                    last = await opened.writer.write(chunks[0])
                else:
                    last = await opened.writer.write_many(chunks)
            except OVER:
                assert not opened.valid(self.life) or self.racing, "a writer in its rights was refused"
                return
            except HelixError as error:
                if not error.retryable:
                    raise
                self.repeated.update(chunk["n"] for chunk in chunks)
                continue
            for distance, chunk in enumerate(reversed(chunks)):
                opened.life.acked[chunk["n"]] = last - distance
            return
        raise AssertionError("never stored")

    async def flush(self, opened: Open, count: int) -> None:
        chunks = self.chunks(opened, count)
        try:
            for chunk in chunks:
                opened.writer.send(chunk)
        except OVER:
            assert not opened.valid(self.life) or self.racing
            return
        for _ in range(60):
            try:
                await opened.writer.flush()
            except OVER:
                assert not opened.valid(self.life) or self.racing
                return
            except HelixError as error:
                if not error.retryable:
                    raise
                continue
            opened.life.stored.update(chunk["n"] for chunk in chunks)
            return
        raise AssertionError("never stored")

    racing = False

    # steps

    @rule(index=st.integers(0, 2), token=st.none() | st.integers(0, 5))
    def open(self, index: int, token: int | None) -> None:
        self.run(self.open_one(index, token))
        self.check()

    @precondition(lambda self: self.writers)
    @rule(
        data=st.data(),
        count=st.integers(1, 5),
        waiting=st.booleans(),
        faults=st.lists(st.sampled_from(FAULTS), max_size=4),
    )
    def one_writes(self, data: st.DataObject, count: int, waiting: bool, faults: list[str]) -> None:
        opened = data.draw(st.sampled_from(self.writers))
        self.topologies[opened.manager].faults.extend(faults)
        self.run(self.write(opened, count) if waiting else self.flush(opened, count))
        self.check()

    @precondition(lambda self: self.writers)
    @rule(
        data=st.data(),
        faults=st.lists(st.lists(st.sampled_from(FAULTS), max_size=6), min_size=3, max_size=3),
        meanwhile=st.sampled_from(["", "", "", "cut", "deliver", "take over", "end", "reset"]),
        turns=st.integers(0, 30),
    )
    def many_write(self, data: st.DataObject, faults: list[list[str]], meanwhile: str, turns: int) -> None:
        jobs = data.draw(
            st.lists(
                st.tuples(st.sampled_from(self.writers), st.integers(1, 6), st.booleans()), min_size=1, max_size=12
            )
        )
        for topology, planned in zip(self.topologies, faults, strict=True):
            topology.faults.extend(planned)
        self.racing = meanwhile in {"take over", "end", "reset"}
        self.run(self.race(jobs, meanwhile, turns))
        self.racing = False
        self.check()

    async def race(self, jobs: list[tuple[Open, int, bool]], meanwhile: str, turns: int) -> None:
        tasks = [
            asyncio.ensure_future(self.write(opened, count) if waiting else self.flush(opened, count))
            for opened, count, waiting in jobs
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        life = self.life
        if meanwhile in {"cut", "deliver"}:
            for topology in self.topologies:
                topology.cut() if meanwhile == "cut" else topology.deliver()
        elif meanwhile and life is not None and not (life.ended and meanwhile != "reset"):
            if meanwhile == "take over":
                await self.reader.create(STREAM, fencing_token=(life.fence or 0) + 1)
                life.term, life.fence = life.term + 1, (life.fence or 0) + 1
            elif meanwhile == "end":
                await self.reader.end_stream(STREAM)
                life.ended = True
            else:
                await self.reader.reset_stream(STREAM)
                info = await self.reader.get_info(STREAM)
                assert info is not None
                assert info.last_sequence >= life.last
                self.life = Life(base=info.last_sequence, fence=life.fence)
        await asyncio.gather(*tasks)

    # Preconditions hang on what was drawn, never on how the tasks happened to run: an example must replay.
    @precondition(lambda self: self.life is not None)
    @rule()
    def late_requests_arrive(self) -> None:
        async def arrive() -> None:
            for topology in self.topologies:
                topology.deliver()
                await topology.call(STREAM, b"*1\r\n$4\r\nPING\r\n")  # answered after them

        self.run(arrive())
        self.check()

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        opened = data.draw(st.sampled_from(self.writers))
        self.writers.remove(opened)
        try:
            self.run(opened.writer.close())
        except OVER:
            assert not opened.valid(self.life)
        self.check()

    @precondition(lambda self: self.life is not None and not self.life.ended)
    @rule(index=st.integers(0, 1))
    def end(self, index: int) -> None:
        assert self.life is not None
        try:
            self.run(self.managers[index].end_stream(STREAM))
        except OVER:  # this manager's own, older writer had something left to flush
            self.run(self.reader.end_stream(STREAM))
        self.life.ended = True
        self.check()

    @precondition(lambda self: self.life is not None)
    @rule(index=st.integers(0, 1))
    def reset(self, index: int) -> None:
        before = self.life
        assert before is not None
        self.run(self.managers[index].reset_stream(STREAM))
        self.life = Life(base=before.last, fence=before.fence)
        self.check()

    @precondition(lambda self: self.life is not None and len(self.author) > 5)
    @rule()
    def delete(self) -> None:
        assert self.run(self.reader.delete_stream(STREAM))
        self.life = None
        self.check()

    # what must hold

    def check(self) -> None:
        stored = self.run(self.reader.read_from(STREAM))
        life = self.life
        if life is None:
            assert stored == []
            return
        log = [number_of(one.chunk) for one in stored]
        assert [one.sequence for one in stored] == list(range(life.base + 1, life.base + len(log) + 1)), "holes"
        assert log[: len(life.log)] == life.log, "history changed"
        assert len(set(log)) == len(log), "duplicates"
        life.log = log
        for chunk, sequence in life.acked.items():
            assert log[sequence - life.base - 1] == chunk, "an acknowledged chunk is not where it was said to be"
        assert life.stored <= set(log), "a flushed chunk is not there"
        for opened in {self.author[chunk] for chunk in log}:
            mine = [chunk for chunk in log if self.author[chunk] is opened and chunk not in self.repeated]
            assert opened.life is life, "a chunk of an older life"
            assert mine == sorted(mine), "a writer's chunks out of order"
        for _life, error in self.reports:
            for data in getattr(error, "unsent", ()):
                chunk = int(data.partition(b'"n":')[2].rstrip(b"}"))
                assert chunk not in log, "reported as unsent, though stored"

    def teardown(self) -> None:
        async def close() -> None:
            for topology in self.topologies:
                topology.faults.clear()
            for manager in (*self.managers, self.reader):
                await manager.close()
            for topology in self.topologies:
                await topology.close()

        self.run(close())
        self.loop.close()


def run_protocol(server_url: str, examples: int, steps: int) -> None:
    machine = type("Protocol", (Protocol,), {"server_url": server_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_log_equals_the_model(server_url: str) -> None:
    run_protocol(server_url, examples=int(os.environ.get("HELIX_MODEL_EXAMPLES", "30")), steps=25)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_log_equals_the_model_for_long(server_url: str) -> None:
    run_protocol(server_url, examples=int(os.environ.get("HELIX_SOAK_EXAMPLES", "1000")), steps=50)
