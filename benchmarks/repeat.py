"""One side of one measure again and again, for a profiler: ``python -m benchmarks.repeat P2 --times 9``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvloop

from .__main__ import chosen
from .measure import FULL, QUICK, TINY, Measure, Size, timed_run
from .payloads import DEFAULT, payload_of
from .table import number


async def repeat(measure: Measure, side: str, times: int) -> None:
    """Print the result of each run."""
    await measure.open()
    try:
        for _ in range(times):
            value = await timed_run(measure.ours if side == "ours" else measure.baseline)
            sys.stdout.write(f"{measure.key} {side} {number(value)} {measure.unit}\n")
            sys.stdout.flush()
    finally:
        await measure.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeat", description=__doc__)
    parser.add_argument("measure", help="P1, or another")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--baseline", dest="side", action="store_const", const="baseline", default="ours")
    parser.add_argument("--quick", dest="size", action="store_const", const=QUICK, default=FULL)
    parser.add_argument("--tiny", dest="size", action="store_const", const=TINY)
    parser.add_argument("--payload", default=DEFAULT.name)
    options = parser.parse_args(arguments)
    try:
        (kind,) = chosen(options.measure)
        size = Size(options.size, payload_of(options.payload))
    except ValueError as error:
        parser.error(str(error))
    uvloop.run(repeat(kind(size), options.side, options.times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
