"""How cost grows: ``python -m benchmarks.growth``. Absolute numbers, so only those of one run are comparable.

Streams 100 to 100 000: chunks/s, CPU of server and client for a chunk, memory of the client for an open writer and
reader. Usage entries 1 000 to 1 000 000: a cold and a warm rollup. Messages 0 to 100 000: `append_messages`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from helix_fast.embedded import EmbeddedServer
from helix_fast.redis.state import RedisStateStore
from helix_fast.redis.usage import RedisUsageStore

from .__main__ import say, server_version
from .bench_state import message
from .bench_usage import NEW_ENTRIES, SESSION, make_entries
from .measure import FULL, QUICK, TINY, Size, check
from .open_streams import OpenStreams
from .probe import Probe
from .results import describe_machine, describe_versions, now
from .table import align, number

ROOT: Final = Path(__file__).resolve().parents[1]
OUTPUT: Final = ROOT / "benchmarks" / "growth.json"
PLOT: Final = ROOT / "docs" / "growth.png"
# Above this a reader's memory is no news any more, and each needs a subscription.
MOST_READERS: Final = 10_000
PAGE: Final = 10_000


class StreamsPoint(msgspec.Struct):
    """Writing to so many open streams in turns, by 100 tasks."""

    streams: int
    chunks_per_second: float
    server_cpu_us: float
    client_cpu_us: float
    open_us: float
    writer_bytes: float
    reader_bytes: float | None


class RollupPoint(msgspec.Struct):
    """Rolling up so many entries: all of them, and 100 new ones."""

    entries: int
    cold_ms: float
    warm_ms: float


class AppendPoint(msgspec.Struct):
    """Appending one message to a conversation of so many."""

    messages: int
    append_us: float


class Growth(msgspec.Struct, kw_only=True):
    """``growth.json``."""

    size: str
    streams: list[StreamsPoint] = []
    rollup: list[RollupPoint] = []
    append: list[AppendPoint] = []
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    taken_at: str = ""


COUNTS: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    FULL: {
        "streams": (100, 1_000, 10_000, 100_000),
        "rollup": (1_000, 10_000, 100_000, 1_000_000),
        "append": (0, 1_000, 10_000, 100_000),
    },
    QUICK: {"streams": (100, 1_000, 10_000), "rollup": (1_000, 10_000, 100_000), "append": (0, 1_000, 10_000)},
    TINY: {"streams": (100, 200), "rollup": (100, 200), "append": (0, 100)},
}


async def streams_point(size: Size, count: int) -> StreamsPoint:
    """A server and a process of its own; the medians of the runs."""
    chunks = size.pick(200_000, 20_000, 200)
    async with EmbeddedServer() as server:
        probe = Probe(server.socket_path)
        rates, server_cpu, client_cpu = [], [], []
        async with OpenStreams(server.url, count) as holder:
            await holder.write(chunks, probe)
            for _ in range(size.runs):
                cost = await holder.write(chunks, probe)
                server_cpu.append(cost.server_cpu)
                client_cpu.append(cost.client_cpu)
                rates.append(1e6 / cost.time)
            opened = holder.opened
        probe.flush()
        reader_bytes = None
        if count <= MOST_READERS:
            async with OpenStreams(server.url, count, readers=True) as holder:
                reader_bytes = holder.opened["bytes_per_reader"]
        probe.close()
    return StreamsPoint(
        streams=count,
        chunks_per_second=statistics.median(rates),
        server_cpu_us=statistics.median(server_cpu),
        client_cpu_us=statistics.median(client_cpu),
        open_us=opened["open_seconds"] / count * 1e6,
        writer_bytes=opened["bytes_per_writer"],
        reader_bytes=reader_bytes,
    )


async def rollup_points(size: Size, counts: Sequence[int]) -> list[RollupPoint]:
    """One session that grows from point to point."""
    points = []
    stored = part = 0
    async with EmbeddedServer() as server, RedisUsageStore(server.url) as store:
        for count in counts:
            while stored < count:
                part += 1
                entries = make_entries(min(PAGE, count - stored), part, "g")
                check(await store.record_entries(entries), len(entries), "entries recorded")
                stored += len(entries)
            cold, warm = [], []
            for _ in range(size.runs):
                async with RedisUsageStore(server.url) as reader:
                    await reader.exists("nobody")
                    cold.append(await _rollup_ms(reader, stored))
                    part += 1
                    stored += await store.record_entries(make_entries(NEW_ENTRIES, part, "g"))
                    warm.append(await _rollup_ms(reader, stored))
            points.append(RollupPoint(count, statistics.median(cold), statistics.median(warm)))
            say(f"rollup of {count:,} entries")
    return points


async def _rollup_ms(store: RedisUsageStore, expected: int) -> float:
    began = time.perf_counter()
    rollup = await store.get_rollup(SESSION)
    milliseconds = (time.perf_counter() - began) * 1000
    assert rollup is not None
    check(rollup.entry_count, expected, "entries of the rollup")
    return milliseconds


async def append_points(size: Size, counts: Sequence[int]) -> list[AppendPoint]:
    """A session for each point; the points take turns, so that a busy moment of the machine is not one point's."""
    appends = size.pick(1_000, 200, 10)
    took: dict[int, list[float]] = {count: [] for count in counts}
    added = [message(0)]
    async with EmbeddedServer() as server, RedisStateStore(server.url) as store:
        for count in counts:
            await store.create_session(f"s{count}", agent_type="assistant")
            for start in range(0, count, 5_000):
                await store.append_messages(f"s{count}", [message(n) for n in range(start, min(start + 5_000, count))])
        for run in range(1, size.runs + 1):
            for count in counts:
                last = 0
                began = time.perf_counter()
                for _ in range(appends):
                    last = await store.append_messages(f"s{count}", added)
                took[count].append((time.perf_counter() - began) / appends * 1e6)
                check(last, count + run * appends, f"messages of the session of {count}")
    return [AppendPoint(count, statistics.median(took[count])) for count in counts]


async def measure(size: Size) -> Growth:
    """All three."""
    counts = COUNTS[size.name]
    versions = describe_versions(await server_version())
    growth = Growth(size=size.name, machine=describe_machine(), versions=versions, taken_at=now())
    for count in counts["streams"]:
        growth.streams.append(await streams_point(size, count))
        say(f"{count:,} streams")
    growth.rollup = await rollup_points(size, counts["rollup"])
    growth.append = await append_points(size, counts["append"])
    return growth


def render(growth: Growth) -> str:
    """Three tables."""
    streams: list[tuple[str, ...]] = [
        ("streams", "", "chunks/s", "server µs", "", "client µs", "open µs", "writer B", "reader B")
    ]
    for point in growth.streams:
        reader = "-" if point.reader_bytes is None else number(point.reader_bytes)
        costs = (number(point.server_cpu_us), "", number(point.client_cpu_us), number(point.open_us))
        streams.append(
            (f"{point.streams:,}", "", number(point.chunks_per_second), *costs, number(point.writer_bytes), reader)
        )
    rollup: list[tuple[str, ...]] = [("entries", "", "cold ms", "warm ms", "", "cold µs an entry")]
    for entry in growth.rollup:
        each = number(entry.cold_ms * 1000 / entry.entries)
        rollup.append((f"{entry.entries:,}", "", number(entry.cold_ms), number(entry.warm_ms), "", each))
    append: list[tuple[str, ...]] = [("messages", "", "append µs")]
    append += [(f"{point.messages:,}", "", number(point.append_us)) for point in growth.append]
    return "\n\n".join(align(table) for table in (streams, rollup, append))


def draw(growth: Growth, path: Path) -> None:
    """The chart for docs/performance.md."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes: Any = figure.subplots(2, 2)
    counts = [point.streams for point in growth.streams]
    _line(axes[0][0], "chunks/s by open streams", counts, {"": [p.chunks_per_second for p in growth.streams]})
    costs = {"server": [p.server_cpu_us for p in growth.streams], "client": [p.client_cpu_us for p in growth.streams]}
    _line(axes[0][1], "CPU of a chunk (µs) by open streams", counts, costs)
    entries = [point.entries for point in growth.rollup]
    times = {"cold": [p.cold_ms for p in growth.rollup], "100 new": [p.warm_ms for p in growth.rollup]}
    _line(axes[1][0], "rollup (ms) by entries", entries, times, log=True)
    messages = [max(1, point.messages) for point in growth.append]
    _line(axes[1][1], "append_messages (µs) by messages stored", messages, {"": [p.append_us for p in growth.append]})
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _line(axes: Any, title: str, xs: Sequence[float], lines: dict[str, list[float]], *, log: bool = False) -> None:
    for label, ys in lines.items():
        axes.plot(xs, ys, marker="o", label=label or None)
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    if len(lines) > 1:
        axes.legend()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the file and the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--quick", dest="size", action="store_const", const=QUICK, default=FULL)
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--plot", type=Path, default=PLOT, help="the chart, PNG")
    options = parser.parse_args(arguments)
    growth = uvloop.run(measure(Size(options.size)))
    options.output.write_bytes(msgspec.json.format(msgspec.json.encode(growth), indent=2) + b"\n")
    sys.stdout.write(render(growth) + "\n")
    draw(growth, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
