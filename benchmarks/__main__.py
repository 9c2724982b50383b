"""The runner: ``python -m benchmarks [--quick] [--only P1,P2] [--output FILE]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from helix_fast.embedded import EmbeddedServer

from . import bench_codec, bench_import, bench_locks, bench_state, bench_streams, bench_usage
from .compare import order
from .measure import FULL, QUICK, TINY, Measure, Size, take
from .peers import take_peers
from .probe import Probe
from .results import Results, describe_machine, describe_versions, now, save
from .table import render

AREAS: Final = (bench_streams, bench_usage, bench_state, bench_locks, bench_codec, bench_import)
OUTPUT: Final = Path(__file__).parent / "results.json"


def all_measures() -> list[type[Measure]]:
    """Every measure, P1 first."""
    found: list[type[Measure]] = [measure for area in AREAS for measure in area.MEASURES]
    return sorted(found, key=lambda measure: order(measure.key))


def chosen(only: str | None) -> list[type[Measure]]:
    """The measures named by ``P1,P9``, or all. ValueError for a name that is none."""
    measures = all_measures()
    if only is None:
        return measures
    wanted = {name.strip() for name in only.split(",")}
    unknown = wanted - {measure.key for measure in measures}
    if unknown:
        raise ValueError(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(m.key for m in measures)}")
    return [measure for measure in measures if measure.key in wanted]


def say(text: str) -> None:
    """Progress, apart from the table."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def server_version() -> str:
    """Of the embedded server."""
    async with EmbeddedServer() as server:
        return Probe(server.socket_path).version()


async def run(size: Size, measures: Sequence[type[Measure]], *, peers: bool) -> Results:
    """Take the measures, one after the other. One that fails is told, and the others are taken all the same."""
    versions = describe_versions(await server_version())
    results = Results(size=size.name, measures={}, machine=describe_machine(), versions=versions, taken_at=now())
    for measure in measures:
        began = time.perf_counter()
        try:
            result = await take(measure(size), say)
        except Exception as error:
            results.failed[measure.key] = f"{type(error).__name__}: {error}"
            say(f"{measure.key} FAILED: {results.failed[measure.key]}")
            continue
        results.measures[measure.key] = result
        say(f"{measure.key} {result.ratio:.2f} ({time.perf_counter() - began:.1f} s)")
    if peers:
        results.peers = await take_peers(size, say)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; the exit code is 1 where one of them failed to measure, whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "--quick", dest="size", action="store_const", const=QUICK, default=FULL, help="less data, <1 min"
    )
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY, help="see that everything works")
    parser.add_argument("--only", metavar="P1,P2", help="these measures alone")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave other clients out")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: benchmarks/{OUTPUT.name}")
    options = parser.parse_args(arguments)
    try:
        measures = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    began = time.perf_counter()
    results = uvloop.run(run(Size(options.size), measures, peers=options.peers and options.only is None))
    save(results, options.output)
    sys.stdout.write(render(results) + "\n")
    say(f"{time.perf_counter() - began:.0f} s; {options.output}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
