"""How cost grows: ``python -m benchmarks.growth [--docs]``. Absolute numbers, so only those of one run are comparable.

Streams 100 to 100 000: chunks/s, CPU of server and client for a chunk, memory of the client for an open writer and
reader. Usage entries 1 000 to 1 000 000: a cold and a warm rollup. Messages 0 to 100 000: `append_messages`. The same
load on a cluster of three nodes and on one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from helix_fast.embedded import EmbeddedServer
from helix_fast.state.store import RedisStateStore
from helix_fast.usage.store import RedisUsageStore

from .__main__ import say, server_version
from .bench_state import message
from .bench_usage import NEW_ENTRIES, SESSION, TOTALS, make_entries
from .docs import GROWTH
from .growth_report import (
    AppendPoint,
    Growth,
    RollupPoint,
    StreamsPoint,
    draw,
    render,
    save_growth,
    write_growth,
)
from .measure import FULL, QUICK, TINY, Size, check
from .open_memory import measure_memory
from .open_streams import OpenStreams
from .probe import Probe
from .results import describe_machine, describe_versions, now
from .scaling import measure_scaling

# Not above this: each reader needs a subscription, and its memory does not change any more.
MOST_READERS: Final = 10_000
PAGE: Final = 10_000


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
    """The medians of the runs, on a separate server and process."""
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
        memory = await measure_memory(server.url, count, readers=count <= MOST_READERS)
        probe.close()
    return StreamsPoint(
        streams=count,
        chunks_per_second=statistics.median(rates),
        server_cpu_us=statistics.median(server_cpu),
        client_cpu_us=statistics.median(client_cpu),
        open_us=opened["open_seconds"] / count * 1e6,
        writer_bytes=memory.writer,
        reader_bytes=memory.reader,
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
                    await reader._requests.command(SESSION, "DEL", TOTALS)  # cold: nothing has been summed before
                    cold.append(await _rollup_ms(reader, stored))
                    part += 1
                    stored += await store.record_entries(make_entries(NEW_ENTRIES, part, "g"))
                    warm.append(await _rollup_ms(reader, stored))
                    await reader.exists(
                        "nobody"
                    )  # totals that were sent without waiting have arrived, and can be deleted
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
    """A session for each point. The points take turns: the machine is not equally busy all the time."""
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
    """Measure all four parts."""
    started = time.perf_counter()
    counts = COUNTS[size.name]
    versions = describe_versions(await server_version())
    growth = Growth(size=size.name, machine=describe_machine(), versions=versions, taken_at=now())
    for count in counts["streams"]:
        began = time.perf_counter()
        growth.streams.append(await streams_point(size, count))
        say(f"{count:,} streams ({time.perf_counter() - began:.1f} s)")
    growth.rollup = await rollup_points(size, counts["rollup"])
    growth.append = await append_points(size, counts["append"])
    say("append_messages")
    growth.scaling = await measure_scaling(size)
    say("a cluster of three nodes")
    growth.seconds = round(time.perf_counter() - started, 1)
    return growth


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the file and the chart; with ``--docs`` also into the documentation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--quick", dest="size", action="store_const", const=QUICK, default=FULL)
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY)
    parser.add_argument("--output", type=Path, default=GROWTH, help=f"default: benchmarks/{GROWTH.name}")
    parser.add_argument("--plot", type=Path, help="the chart, PNG; default: beside the output")
    parser.add_argument("--docs", action="store_true", help="write the tables and the chart into docs/ too")
    options = parser.parse_args(arguments)
    growth = uvloop.run(measure(Size(options.size)))
    save_growth(growth, options.output)
    sys.stdout.write(render(growth) + "\n")
    draw(growth, options.plot or options.output.with_suffix(".png"))
    if options.docs:
        write_growth(growth)
    say(f"{growth.seconds:.0f} s; {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
