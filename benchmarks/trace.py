"""One chunk through two processes, with the time of each step: ``python -m benchmarks.trace [--docs]``.

The writer is here, the reader in another process, on an idle machine and under the load of P15. Steps are seen from
outside, by wrapping the methods through which bytes leave and arrive; the wrappers cost some 0.3 µs each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from helix_fast import StreamWriter, TextDeltaChunk, connect
from helix_fast.embedded import EmbeddedServer
from helix_fast.transport.hub import Hub
from helix_fast.transport.lane import Lane

from .child import Child, answer_all
from .elsewhere import Readers
from .page import show
from .payloads import AGENT_ID, AGENT_TYPE, HEADLINE
from .probe import Probe, reached
from .stream_loads import open_writers
from .stream_reads import percentile

STEPS: Final = (
    "write() to the append in the socket",
    "append to its acknowledgement: the server stores it",
    "acknowledgement to the publication in the socket",
    "publication to the push in the other process",
    "push to the reader's task",
)
PACE: Final = 0.05  # seconds between two chunks of a stream, as in P15
_left: list[float] = []  # when bytes left by the lane
_arrived: list[float] = []  # when bytes arrived at the lane, or in the other process at the hub


def watch(link: type[Lane | Hub]) -> None:
    """Note when bytes arrive at all links of a class, and when they have left."""
    received: Any = link.data_received

    def data_received(self: Any, data: bytes) -> None:
        _arrived.append(time.perf_counter())
        received(self, data)

    link.data_received = data_received  # type: ignore[method-assign]
    if issubclass(link, Lane):
        flush: Any = link._flush

        def flushed(self: Any) -> None:
            before = bool(self.outbox.frames or self.outbox.ready)
            flush(self)
            if before:
                _left.append(time.perf_counter())

        link._flush = flushed  # type: ignore[method-assign]


def after(times: Sequence[float], moment: float) -> float:
    """The first of the times after a moment."""
    return next((found for found in times if found >= moment), moment)


async def load(writer: StreamWriter, number: int, count: int, over: asyncio.Event) -> None:
    """A stream of the load, at its pace."""
    await asyncio.sleep(PACE * number / count)
    while not over.is_set():
        await writer.write(TextDeltaChunk(delta=HEADLINE))
        await asyncio.sleep(PACE)


async def trace(chunks: int, others: int) -> tuple[list[float], list[list[float]]]:
    """The whole latencies, and those of each step, in µs, with so many other streams at work."""
    watch(Lane)
    whole: list[float] = []
    steps: list[list[float]] = [[] for _ in STEPS]
    async with EmbeddedServer() as server, connect(server.url) as helix, Child("trace", "--child", server.url) as child:
        probe = Probe(server.socket_path)
        names = [f"t{number}" for number in range(others + 1)]
        writers = await open_writers(helix.streams, names)
        await child.ask(names=names)
        await reached(lambda: probe.channels("*") > others, "readers that wait")
        over = asyncio.Event()
        loads = [asyncio.ensure_future(load(one, at, others, over)) for at, one in enumerate(writers[1:])]
        own: list[tuple[float, list[float], list[float]]] = []
        for _ in range(chunks):
            await asyncio.sleep(0.005)
            _left.clear()
            _arrived.clear()
            began = time.perf_counter()
            await writers[0].write(TextDeltaChunk(delta=HEADLINE, agent_id=AGENT_ID, agent_type=AGENT_TYPE))
            await asyncio.sleep(0.002)
            own.append((began, _left.copy(), _arrived.copy()))
        over.set()
        await asyncio.gather(*loads)
        for name in names:
            await helix.streams.end_stream(name)
        found = await child.ask(chunks=chunks)
        probe.close()
    for (began, left, arrived), got in zip(own, found["times"][0], strict=True):
        sent = after(left, began)
        stored = after(arrived, sent)
        published = after(left, stored)
        pushed = max((moment for moment in found["arrived"] if moment <= got), default=got)
        moments = [began, sent, stored, published, max(published, pushed), got]
        whole.append((got - began) * 1e6)
        for step, (before, later) in zip(steps, itertools.pairwise(moments), strict=True):
            step.append((later - before) * 1e6)
    return whole, steps


class Traced(Readers):
    """The reading process, which also says when its pushes arrived."""

    async def handle(self, question: dict[str, Any]) -> dict[str, Any]:
        """As Readers."""
        return {**await super().handle(question), "arrived": _arrived}


def rows(whole: list[float], steps: list[list[float]], what: str) -> list[tuple[str, ...]]:
    """The table of one load."""
    lines: list[tuple[str, ...]] = [(what, "p50 µs", "p99 µs")]
    for name, values in (*zip(STEPS, steps, strict=True), ("all", whole)):
        lines.append((name, f"{statistics.median(values):.0f}", f"{percentile(values, 0.99):.0f}"))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace and print, or be the process that reads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace")
    parser.add_argument("--child", metavar="URL", help="be the process that reads")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--others", type=int, default=1_000, help="streams of the load")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md too")
    options = parser.parse_args(arguments)
    if options.child:
        watch(Hub)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(answer_all(Traced(options.child).handle))
        return 0
    tables = [rows(*uvloop.run(trace(options.chunks, 0)), "idle")]
    tables.append(rows(*uvloop.run(trace(options.chunks, options.others)), f"{options.others} other streams"))
    show("trace", f"{options.chunks} chunks", tables, docs=options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
