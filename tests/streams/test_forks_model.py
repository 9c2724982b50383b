"""A state machine of forks: a server in memory is set back to any earlier state, with any clock, between two commands.

Three promises are checked. Every acknowledged chunk is in the log, or its writer's process was told of it. No (epoch,
term, sequence) has two contents. No reader passes from one branch to another without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from helix_fast.errors import AcknowledgedDataLostError, HelixError, StaleFencingTokenError, StreamFencedError
from helix_fast.memory import InMemoryStreamManager, MemoryServer
from helix_fast.streams.schema import StoredChunk
from helix_fast.streams.terms import Terms
from tests.support.streams_under_fault import delta, text

T = TypeVar("T")
WRITERS = st.integers(0, 1)
READERS = st.integers(0, 1)


class Process:
    """A process that writes; what it had acknowledged, and what it was told is lost."""

    def __init__(self, server: MemoryServer) -> None:
        self.manager = InMemoryStreamManager(server=server, max_stream_length=None, block_timeout=50)
        self.writer: Any = None
        self.acknowledged: dict[str, int] = {}
        self.told: list[int] = []
        self.manager.on("error", self._told)

    @staticmethod
    async def leave(writer: Any) -> None:
        if writer is not None:
            with contextlib.suppress(StreamFencedError, StaleFencingTokenError):
                await writer.close()

    def _told(self, error: HelixError) -> None:
        if isinstance(error, AcknowledgedDataLostError):
            self.told += range(error.first, error.last + 1)


class Forks(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1_700_000_000.0
        self.server = MemoryServer(lambda: self.now)
        self.snapshots = [self.server.snapshot()]
        self.processes: list[Process] = []
        self.readers: dict[int, Any] = {}
        self.seen: dict[int, StoredChunk] = {}
        self.contents: dict[tuple[str, str, int], str] = {}
        self.before: dict[str, str] = {}
        self.written = 0
        self.token = 0
        self.run(self._start())

    async def _start(self) -> None:
        self.processes = [Process(self.server) for _ in range(2)]
        self.watcher = InMemoryStreamManager(server=self.server, max_stream_length=None, block_timeout=20)
        await self._write(0, 1)
        self.snapshots = [self.server.snapshot()]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def _log(self) -> list[StoredChunk]:
        """The log as it is stored: a reader would stop at each hole."""
        meta = self.server.execute("HGETALL", "helix:stream:{s}:meta")
        fields = dict(zip(meta[::2], meta[1::2], strict=True))
        terms = Terms(fields[b"terms"].decode(), fields[b"epoch"].decode())
        chunks: list[StoredChunk] = []
        for entry_id, pairs in self.server.execute("XRANGE", "helix:stream:{s}", "-", "+"):
            values = dict(zip(pairs[::2], pairs[1::2], strict=True))
            lines = values[b"chunk"].split(b"\n") if b"chunk" in values else []
            term = terms.key_of(int(entry_id.split(b"-")[0])).text
            for place, line in enumerate(lines, int(values[b"sequence"]) - len(lines) + 1):
                chunks.append(StoredChunk(text(json.loads(line)["delta"]), place, terms.epoch, term))
        return chunks

    def _observe(self) -> list[StoredChunk]:
        log = self._log()
        for place, stored in enumerate(log):
            self._compare(stored)
            before = delta(log[place - 1].chunk) if place else ""
            assert self.before.setdefault(delta(stored.chunk), before) == before
        return log

    def _compare(self, stored: StoredChunk) -> None:
        known = self.contents.setdefault((stored.epoch, stored.term, stored.sequence), delta(stored.chunk))
        assert known == delta(stored.chunk), f"{stored.position} has two contents"

    async def _write(self, process: int, count: int, token: int | None = None) -> None:
        one = self.processes[process]
        while count:
            self.written += 1
            name = f"c{self.written}"
            try:
                if one.writer is None or token is not None:
                    before, one.writer = one.writer, await one.manager.create_writer("s", "agent", fencing_token=token)
                    token = None
                    await one.leave(before)
                one.acknowledged[name] = await one.writer.write(text(name))
            except (StreamFencedError, StaleFencingTokenError):
                before, one.writer = one.writer, None
                await one.leave(before)
                self.token += 1
                token = self.token
                continue
            count -= 1
            self._observe()

    @rule(process=WRITERS)
    def take_over(self, process: int) -> None:
        self.token += 1
        self.run(self._write(process, 1, self.token))

    @rule(first=st.integers(1, 3), second=st.integers(1, 3), turns=st.integers(0, 12), back=st.integers(0, 3))
    def collide_over_a_fork(self, first: int, second: int, turns: int, back: int) -> None:
        async def fork() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.restore(back, 0.0)

        async def work() -> None:
            await asyncio.gather(self._write(0, first), self._write(1, second), fork())

        self.run(work())

    @rule(process=WRITERS)
    def die(self, process: int) -> None:
        """A process dies with what it knows; another takes its place."""

        async def replace() -> None:
            await self.processes[process].manager.close()
            self.processes[process] = Process(self.server)

        self.run(replace())

    @rule(process=WRITERS, count=st.integers(1, 3))
    def write(self, process: int, count: int) -> None:
        self.run(self._write(process, count))

    @rule(process=WRITERS)
    def reopen(self, process: int) -> None:
        one = self.processes[process]
        self.run(one.leave(one.writer))
        one.writer = None

    @rule()
    def save(self) -> None:
        self.snapshots.append(self.server.snapshot())

    @rule(back=st.integers(0, 5), seconds=st.sampled_from([0.0, 0.0, -3600.0, 60.0]))
    def restore(self, back: int, seconds: float) -> None:
        self.now += seconds
        self.server.restore(self.snapshots[max(0, len(self.snapshots) - 1 - back)], new_history=True)

    @rule(reader=READERS)
    def read(self, reader: int) -> None:
        self.run(self._read(reader))

    async def _read(self, number: int) -> None:
        try:
            if number not in self.readers:
                place = self.seen[number].position if number in self.seen else 0
                self.readers[number] = await self.watcher.create_resumable_reader("s", from_sequence=place)
            batch = await asyncio.wait_for(self.readers[number].read_batch(), 0.1)
        except asyncio.TimeoutError:
            return
        except HelixError:
            reader = self.readers.pop(number, None)
            if reader is not None:
                await reader.close()
            self.seen.pop(number, None)
            return
        for stored in batch:
            self._compare(stored)
            if number in self.seen:
                passed = self.before[delta(stored.chunk)], delta(self.seen[number].chunk)
                assert passed[0] == passed[1], f"a reader came from {passed[1]} to {stored}"
            self.seen[number] = stored

    async def _check_losses(self) -> None:
        for number, _process in enumerate(self.processes):
            await self._write(number, 1)
        log = {delta(stored.chunk) for stored in self._observe()}
        for process in self.processes:
            lost = {sequence for name, sequence in process.acknowledged.items() if name not in log}
            assert lost <= set(process.told), f"{sorted(lost - set(process.told))} lost in silence"
            assert set(process.told) <= set(process.acknowledged.values()), "another's chunks were named"

    def teardown(self) -> None:
        try:
            self.run(self._check_losses())
        finally:
            for reader in self.readers.values():
                self.run(reader.close())
            for process in self.processes:
                self.run(process.manager.close())
            self.run(self.watcher.close())
            self.loop.close()


TestForks = Forks.TestCase
TestForks.settings = settings(
    max_examples=max(8, settings().max_examples // 2),
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# Shrunk programs. Each breaks a promise where a stream's terms are known by order and not by a list: chunks lost in
# silence, a sequence with two contents, the loss of another's chunks, a reader on both branches, a writer that hangs.
PROGRAMS: dict[str, list[tuple[str, dict[str, float]]]] = {
    "silence": [("collide_over_a_fork", {"first": 2, "second": 3, "turns": 6, "back": 0})],
    "silence after a takeover": [
        ("take_over", {"process": 0}),
        ("collide_over_a_fork", {"first": 3, "second": 2, "turns": 5, "back": 2}),
    ],
    "two contents": [("collide_over_a_fork", {"first": 3, "second": 1, "turns": 7, "back": 2})],
    "another's chunks": [
        ("write", {"process": 1, "count": 1}),
        ("collide_over_a_fork", {"first": 2, "second": 1, "turns": 12, "back": 0}),
    ],
    "another's chunks after a death": [
        ("die", {"process": 0}),
        ("collide_over_a_fork", {"first": 2, "second": 3, "turns": 8, "back": 2}),
        ("collide_over_a_fork", {"first": 3, "second": 3, "turns": 3, "back": 2}),
    ],
    "a reader passes over": [
        ("take_over", {"process": 0}),
        ("read", {"reader": 0}),
        ("restore", {"back": 1, "seconds": 0.0}),
        ("collide_over_a_fork", {"first": 1, "second": 3, "turns": 11, "back": 1}),
        ("read", {"reader": 0}),
    ],
    "waits for ever": [("collide_over_a_fork", {"first": 1, "second": 1, "turns": 3, "back": 0})],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_shrunk_program(name: str) -> None:
    forks = Forks()
    try:
        for step, arguments in PROGRAMS[name]:
            getattr(forks, step)(**arguments)
    finally:
        forks.teardown()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_log_equals_the_model_for_long() -> None:
    """As many histories as HELIX_FORKS says; 2000 without it."""
    count = int(os.environ.get("HELIX_FORKS", "2000"))
    run_state_machine_as_test(Forks, settings=settings(TestForks.settings, max_examples=count, stateful_step_count=40))
