"""P22: producer processes and a cluster: ``python -m benchmarks.producers [--docs]``.

1, 2, 4 and 8 processes write to a cluster of three nodes, and one to a single node, under the load of P2. They share
the cores of one machine, so the rate cannot grow with them; what a chunk costs all processes and nodes together is what
must not grow. Each producer is this module too: ``python -m benchmarks.producers --child URL``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from helix_fast import StreamWriter, connect
from helix_fast.testing.cluster import ServerCluster

from .child import Child, answer_all
from .measure import FULL, QUICK, TINY, Also, Measure, Run, Size, check
from .page import show
from .probe import Probe
from .scaling import NODES
from .stream_loads import check_last, close_and_delete, open_writers, write_each
from .table import Rows, number
from .targets import TARGETS

PROCESSES: Final = (1, 2, 4, 8)


class Cost(msgspec.Struct):
    """What so many producers on so many nodes did: µs of CPU a chunk of all nodes, and of all producers."""

    nodes: int
    processes: int
    chunks_per_second: float
    server_cpu_us: float
    client_cpu_us: float

    @property
    def cpu_us(self) -> float:
        """Of both together."""
        return self.server_cpu_us + self.client_cpu_us


class Producers:
    """A cluster, and the processes that write to it. An async context manager."""

    def __init__(self, nodes: int, processes: int) -> None:
        self._nodes = nodes
        self._processes = processes
        self._stack = contextlib.AsyncExitStack()
        self._children: list[Child] = []
        self._probes: list[Probe] = []
        self._serial = 0

    async def __aenter__(self) -> Producers:
        room = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hf-"))
        cluster = ServerCluster(Path(room), primaries=self._nodes)
        self._stack.push_async_callback(cluster.stop)
        await cluster.start()
        for node in cluster.nodes:
            self._probes.append(Probe(port=node.port))
            self._stack.callback(self._probes[-1].close)
        for _ in range(self._processes):
            child = Child("producers", "--child", cluster.url)
            self._children.append(await self._stack.enter_async_context(child))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def run(self, streams: int, each: int) -> Cost:
        """All processes write at the same time, ``streams`` among them, ``each`` chunks to a stream."""
        self._serial += 1
        share = max(1, streams // self._processes)
        await asyncio.gather(
            *(child.ask(open=share, name=f"p{self._serial}-{place}") for place, child in enumerate(self._children))
        )
        before = sum(probe.cpu_seconds() for probe in self._probes)
        began = time.perf_counter()
        found = await asyncio.gather(*(child.ask(write=each) for child in self._children))
        seconds = time.perf_counter() - began
        server = sum(probe.cpu_seconds() for probe in self._probes) - before
        await asyncio.gather(*(child.ask(close=each) for child in self._children))
        chunks = share * self._processes * each
        client = sum(answer["cpu"] for answer in found)
        return Cost(self._nodes, self._processes, chunks / seconds, server / chunks * 1e6, client / chunks * 1e6)


class Producer:
    """A child: opens streams, writes to them, closes them."""

    def __init__(self, url: str) -> None:
        self._connecting = connect(url)
        self._streams: Any = None
        self._names: list[str] = []
        self._writers: list[StreamWriter] = []

    async def handle(self, question: dict[str, Any]) -> dict[str, Any]:
        """``open`` so many streams of this ``name``, ``write`` so many chunks to each, check them and ``close``."""
        if "open" in question:
            if self._streams is None:
                self._streams = (await self._connecting).streams
            self._names = [f"{question['name']}-{number}" for number in range(question["open"])]
            self._writers = await open_writers(self._streams, self._names)
            return {"open": len(self._writers)}
        if "write" in question:
            began = time.process_time()
            await asyncio.gather(*(write_each(writer, question["write"]) for writer in self._writers))
            return {"cpu": time.process_time() - began}
        await check_last(self._streams, self._names, question["close"])
        await close_and_delete(self._streams, self._names, self._writers)
        return {"closed": len(self._names)}


class ManyProducers(Measure):
    """Two processes on three nodes, against one process on one node."""

    key = "P22"
    what = "2 producer processes on a cluster of 3 nodes: CPU of a chunk, of processes and nodes together"
    against = "1 process on 1 node of a cluster"
    unit = "µs"
    target, reach = TARGETS["P22"]
    needs_server = False

    async def prepare(self) -> None:
        self.streams = self.size.pick(500, 200, 24)
        self.each = self.size.pick(100, 20, 3)
        self._stack = contextlib.AsyncExitStack()
        self._sides: dict[int, Producers] = {}
        self._one = await self._stack.enter_async_context(Producers(1, 1))

    async def clean(self) -> None:
        await self._stack.aclose()

    async def ours(self) -> float:
        return await self._cost(2)

    async def _cost(self, processes: int) -> float:
        if processes not in self._sides:
            self._sides[processes] = await self._stack.enter_async_context(Producers(NODES, processes))
        return (await self._sides[processes].run(self.streams, self.each)).cpu_us

    async def baseline(self) -> float:
        return (await self._one.run(self.streams, self.each)).cpu_us

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        if self.size.full:
            yield "4 processes", lambda: self._cost(4), self.baseline

    def also(self) -> Iterator[Also]:
        return iter(())


async def measure(size: Size) -> list[Cost]:
    """Each number of processes, in turns with one process on one node; the medians."""
    points: list[Cost] = []
    streams, each = size.pick(500, 200, 24), size.pick(100, 20, 3)
    for nodes, processes in ((1, 1), *((NODES, processes) for processes in PROCESSES)):
        async with Producers(nodes, processes) as producers:
            if size.name != TINY:
                await producers.run(streams, each)
            costs = [await producers.run(streams, each) for _ in range(size.runs)]
        points.append(
            Cost(
                nodes,
                processes,
                statistics.median(cost.chunks_per_second for cost in costs),
                statistics.median(cost.server_cpu_us for cost in costs),
                statistics.median(cost.client_cpu_us for cost in costs),
            )
        )
        check(points[-1].cpu_us > 0, True, "CPU was measured")
        sys.stderr.write(f"{processes} processes, {nodes} nodes\n")
    return points


def table(points: Sequence[Cost]) -> Rows:
    """A row a point, with its rate and its cost against those of one process on the same nodes, and of the first."""
    one = points[1].chunks_per_second
    lines: Rows = [
        ("nodes", "processes", "chunks/s", "speed-up", "server µs a chunk", "client µs a chunk", "CPU against 1 on 1")
    ]
    for point in points:
        speed = number(point.chunks_per_second / one) if point.nodes == NODES else ""
        lines.append(
            (
                str(point.nodes), str(point.processes), number(point.chunks_per_second), speed,
                number(point.server_cpu_us), number(point.client_cpu_us), number(point.cpu_us / points[0].cpu_us),
            )
        )  # fmt: skip
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table, or be a child."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producers")
    parser.add_argument("--child", metavar="URL", help="be one of the producers")
    parser.add_argument("--quick", dest="size", action="store_const", const=QUICK, default=FULL)
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md too")
    options = parser.parse_args(arguments)
    if options.child:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(answer_all(Producer(options.child).handle))
        return 0
    lines = table(uvloop.run(measure(Size(options.size))))
    show("producers", f"size {options.size}", [lines], docs=options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
