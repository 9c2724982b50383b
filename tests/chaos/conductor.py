"""One run: servers, programs, a nemesis, and the check of what all of them left."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.errors import MalformedStateError, StoreError
from helix_fast.testing.waiting import until

from .arena import Arena
from .arenas import ARENAS
from .check_runs import check_runs
from .check_stores import Left, Message, check_stores
from .check_streams import check_streams
from .findings import Findings
from .history import producers, reader, waits
from .journal import Record, records
from .locking import FENCED_STREAM
from .nemesis import Fault, schedule
from .process import KINDS, run
from .program import BOUND, Order
from .running import STEPS, left_of_run
from .storing import TOKENS

STREAMS = ("s0", "s1")
SHARED, LOCKED, USED = "shared", "locked", "used"
BEGUN = 100
"""Bytes: a journal that is longer has more than its first record."""
WRITERS = ("producer", "talker", "recorder", "holder", "runner")
PROGRAM_FAULTS = {"program killed": 2, "program stopped": 2}

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.chaos.process"])


class Crew:
    """The programs of a run."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.processes: dict[str, ForkServerProcess] = {}

    def begin(self, order: Order) -> None:
        """Start a program, or its next incarnation."""
        self.processes[order.name] = process = _FORKS.Process(target=run, args=(order,), daemon=True)
        process.start()

    async def act(self, fault: Fault) -> None:
        """Kill one program and start it again, or stop it for a while."""
        dice = random.Random(fault.dice)
        order = dice.choice(self.orders)
        process = self.processes[order.name]
        if not process.is_alive():
            return
        assert process.pid is not None
        if fault.name == "program killed":
            process.kill()
            process.join()
            await asyncio.sleep(fault.lasts / 4)
            self.begin(order)
        else:
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(fault.lasts)
            os.kill(process.pid, signal.SIGCONT)

    async def ended(self, kind: str, findings: Findings) -> None:
        """Wait for the end of all programs of a kind."""
        orders = [order for order in self.orders if order.kind == kind]
        waiting = {order.name: self.processes[order.name] for order in orders}
        deadline = time.monotonic() + 2 * BOUND
        while any(process.is_alive() for process in waiting.values()):
            if time.monotonic() > deadline:
                for name, process in waiting.items():
                    if process.is_alive():
                        findings.broken("hung", f"{name} did not end")
                        assert process.pid is not None
                        os.kill(process.pid, signal.SIGUSR1)  # it writes into its journal where it stands
                await asyncio.sleep(1)
                for process in waiting.values():
                    process.kill()
                return
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        for process in self.processes.values():
            if process.is_alive():
                process.kill()
            process.join(10)


async def _track(acts: list[Fault], do: Callable[[Fault], Awaitable[None]], end: float, done: Counter[str]) -> None:
    for fault in acts:
        if time.monotonic() + fault.pause > end:
            return
        await asyncio.sleep(fault.pause)
        await do(fault)
        done[fault.name] += 1


def plan(arena: type[Arena], seed: int, seconds: float) -> dict[str, list[Fault]]:
    """The faults of a run, by track."""
    return {
        "servers": schedule(seed, "servers", arena.faults, seconds, arena.pause),
        "links": schedule(seed, "links", arena.link_faults, seconds, 1.0),
        "programs": schedule(seed, "programs", PROGRAM_FAULTS, seconds, 2.0),
    }


async def one_run(name: str, seed: int, seconds: float, directory: Path) -> tuple[Findings, Counter[str]]:
    """Run a topology for so many seconds; returns what was found, and how often each fault was done."""
    kind = ARENAS[name]
    streams = (*STREAMS, FENCED_STREAM) if "producer" in kind.crew else ()
    arena, crew, findings, done = kind(directory, streams), Crew(), Findings(), Counter[str]()
    acts = plan(kind, seed, seconds)
    try:
        await arena.start()
        for program, count in kind.crew.items():
            for number in range(count):
                who = f"{program}{number}"
                url = await arena.url_for(who)
                ids = {
                    "producer": STREAMS, "reader": arena.streams, "talker": (who, SHARED), "recorder": (USED,),
                    "auditor": (USED,), "holder": (LOCKED,), "runner": (),
                }  # fmt: skip
                order = Order(
                    program, who, url, ids[program], str(directory), seed, arena.wait_replicas,
                    arena.network_of(who), kind.kept, kind.slow,
                )  # fmt: skip
                crew.orders.append(order)
        for order in crew.orders:
            crew.begin(order)
        await until(lambda: all(_at_work(order) for order in crew.orders), seconds=60, what="programs at work")
        end = time.monotonic() + seconds
        await asyncio.gather(
            _track(acts["servers"], arena.act, end, done),
            _track(acts["links"], arena.hurt_links, end, done),
            _track(acts["programs"], crew.act, end, done),
        )
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        await arena.heal()
        left = await _finish(arena, crew, findings)
        await arena.look()
    finally:
        crew.stop()
        await arena.stop()
    journals = {order.name: records(order.journal) for order in crew.orders}
    by_kind = {role: {each.name: journals[each.name] for each in crew.orders if each.kind == role} for role in KINDS}
    streaming = (*by_kind["producer"].items(), *by_kind["holder"].items())
    writing = [each for name, journal in streaming for each in producers(name, journal)]
    reading = [reader(name, journal) for name, journal in by_kind["reader"].items()]
    findings.add(check_streams(writing, reading, arena.logs, may_lose=kind.may_lose, kept=kind.kept))
    findings.add(check_runs(by_kind["runner"], left.runs, steps=STEPS))
    stores = {
        name: journal
        for role in sorted(KINDS.keys() - {"producer", "reader", "runner"})
        for name, journal in by_kind[role].items()
    }
    findings.add(check_stores(stores, left, may_lose=kind.may_lose, tokens=TOKENS))
    _check_waits(findings, journals)
    return findings, done


def _at_work(order: Order) -> bool:
    # By its size: the proxies run in this process too, and reading the journals would hold them up.
    return order.kind == "auditor" or (order.journal.exists() and order.journal.stat().st_size > BEGUN)


async def _finish(arena: Arena, crew: Crew, findings: Findings) -> Left:
    """All faults are over: writers write once more, streams end, readers come to their ends; returns what is stored."""
    (arena.directory / "stop").touch()
    for kind in WRITERS:
        await crew.ended(kind, findings)
    left = Left()
    async with connect(await arena.url_for("conductor"), retry_timeout=30) as helix:
        for stream in arena.streams:
            await helix.streams.end_stream(stream)
        if arena.seals:
            await asyncio.gather(
                arena.act(Fault("server killed", 0, 0.5, 0)), *(_seal(helix, each, findings) for each in arena.streams)
            )
        (arena.directory / "closing").touch()
        for session in (SHARED, LOCKED, *(order.name for order in crew.orders if order.kind == "talker")):
            state = None
            try:
                state = await helix.state.load_state(session)
            except MalformedStateError as error:
                findings.broken("malformed session", str(error))
            left.messages[session] = [
                Message(message["content"], message.get("token")) for message in (state.messages if state else ())
            ]
        left.entries[USED] = [str(entry.id) for entry in await helix.usage.get_entries(USED)]
        rollup = await helix.usage.get_rollup(USED)
        left.rollups[USED] = None if rollup is None else (rollup.entry_count, rollup.tokens.total)
        left.runs = {name: await left_of_run(helix, name) for name in _begun(crew)}
    for kind in arena.crew.keys() - set(WRITERS):
        await crew.ended(kind, findings)
    return left


def _begun(crew: Crew) -> set[str]:
    """The sessions of all runs."""
    journals = [records(order.journal) for order in crew.orders if order.kind == "runner"]
    return {record["session"] for journal in journals for record in journal if record["what"] == "run begins"}


async def _seal(helix: Helix, stream: str, findings: Findings) -> None:
    for _ in range(20):
        with contextlib.suppress(StoreError):
            if not await helix.streams.seal_stream(stream):
                findings.broken("not sealed", stream)
            return
    findings.broken("hung", f"{stream} could not be sealed")


def _check_waits(findings: Findings, journals: dict[str, list[Record]]) -> None:
    found = waits(journals.values())
    findings.count("calls", found.calls)
    findings.count("calls that failed", found.failed)
    findings.longest = max(findings.longest, found.longest)
    for example in found.hung:
        findings.broken("hung", example)
    for name, journal in journals.items():
        for record in journal:
            if record["what"] == "crashed":
                findings.broken("crashed", f"{name}: {record['text']}")
