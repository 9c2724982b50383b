"""The runner: ``python -m benchmarks [--quick] [--web] [--only P1,P2] [--payload cjk-200] [--output FILE] [--docs]``"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from helix_fast.embedded import EmbeddedServer

from . import (
    bench_codec,
    bench_import,
    bench_locks,
    bench_runs,
    bench_state,
    bench_streams,
    bench_sync,
    bench_usage,
    bench_web,
)
from .compare import order
from .docs import write_results
from .front import take_demo, write_front
from .measure import FULL, QUICK, TINY, Measure, Size, take
from .payloads import DEFAULT, payload_of
from .peers.turns import take_peers
from .probe import Probe
from .results import Results, added, describe_machine, describe_versions, now, save
from .table import render

AREAS: Final = (
    bench_streams,
    bench_usage,
    bench_state,
    bench_locks,
    bench_codec,
    bench_import,
    bench_sync,
    bench_runs,
)

OUTPUT: Final = Path(__file__).parent / "results.json"


def all_measures() -> list[type[Measure]]:
    """Every measure, P1 first."""
    found: list[type[Measure]] = [measure for area in (*AREAS, bench_web) for measure in area.MEASURES]
    return sorted(found, key=lambda measure: order(measure.key))


def chosen(only: str | None, *, web: bool = False) -> list[type[Measure]]:
    """The measures named by ``P1,P9``; or those of web servers; or all others. ValueError for an unknown name."""
    measures = all_measures()
    if only is None:
        return [measure for measure in measures if (measure in bench_web.MEASURES) == web]
    wanted = {name.strip() for name in only.split(",")}
    unknown = wanted - {measure.key for measure in measures}
    if unknown:
        raise ValueError(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(m.key for m in measures)}")
    return [measure for measure in measures if measure.key in wanted]


def say(text: str) -> None:
    """Print progress on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def server_version() -> str:
    """Version of the embedded server."""
    async with EmbeddedServer() as server:
        return Probe(server.socket_path).version()


async def run(size: Size, measures: Sequence[type[Measure]], *, peers: bool) -> Results:
    """Take the measures one after the other. A failure is reported, and does not stop the others."""
    started = time.perf_counter()
    versions = describe_versions(await server_version())
    results = Results(size=size.name, payload=size.payload.name, measures={}, versions=versions)
    results.machine, results.taken_at = describe_machine(), now()
    for measure in measures:
        try:
            result = await take(measure(size), say)
        except Exception as error:
            results.failed[measure.key] = f"{type(error).__name__}: {error}"
            say(f"{measure.key} FAILED: {results.failed[measure.key]}")
            continue
        results.measures[measure.key] = result
        say(f"{measure.key} {result.ratio:.2f} ({result.seconds:.1f} s)")
    if peers:
        began = time.perf_counter()
        results.peers = await take_peers(size, say)
        say(f"peers ({time.perf_counter() - began:.1f} s)")
    results.seconds = round(time.perf_counter() - started, 1)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; the exit code is 1 if one could not be measured; ratios do not change it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "--quick", dest="size", action="store_const", const=QUICK, default=FULL, help="less data, <1 min"
    )
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY, help="see that everything works")
    parser.add_argument("--web", action="store_true", help="those of web servers alone, added to what the file has")
    parser.add_argument("--only", metavar="P1,P2", help="these measures alone")
    parser.add_argument("--payload", default=DEFAULT.name, help="the text of every chunk, such as cjk-200")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave other clients out")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: benchmarks/{OUTPUT.name}")
    parser.add_argument("--docs", action="store_true", help="write the results into the documentation and README.md")
    options = parser.parse_args(arguments)
    try:
        measures = chosen(options.only, web=options.web)
        size = Size(options.size, payload_of(options.payload))
    except ValueError as error:
        parser.error(str(error))
    results = uvloop.run(run(size, measures, peers=options.peers and not (options.only or options.web)))
    sys.stdout.write(render(results) + "\n")
    if options.web:
        results = added(results, options.output)
    save(results, options.output)
    if options.docs:
        write_results(results)
        write_front(results, take_demo() if results.size == "full" else None)
    say(f"{results.seconds:.0f} s; {options.output}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
