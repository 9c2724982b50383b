"""``make chaos``: topologies under a nemesis, their journals checked, and a table. Exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from .arenas import ARENAS
from .conductor import one_run
from .findings import Findings
from .net import enter

COLUMNS = {
    "acknowledged": "acked",
    "trimmed": "trimmed",
    "lost": "lost",
    "lost, reported": "reported",
    "lost with its producer": "writer dead",
    "lost in silence": "silent",
    "stored twice": "doubled",
    "out of order": "disorder",
    "two contents": "2 contents",
    "read": "read",
    "gaps": "gaps",
    "messages": "messages",
    "messages lost": "lost",
    "entries": "entries",
    "entries lost": "lost",
    "runs": "runs",
    "runs that failed": "failed",
    "grants": "locks",
    "locked twice": "twice",
    "hung": "hung",
}


class Row:
    """What became of all runs of a topology."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.done: Counter[str] = Counter()
        self.found = Findings()

    def add(self, seconds: float, done: Counter[str], found: Findings) -> None:
        self.seconds += seconds
        self.done.update(done)
        self.found.add(found)


def summary(found: Findings, done: Counter[str], took: float) -> str:
    """A run in a line."""
    counts = found.counts
    return (
        f"{counts['acknowledged']} chunks, {counts['messages']} messages, {counts['entries']} entries acknowledged, "
        f"{counts['lost']}, {counts['messages lost']}, {counts['entries lost']} lost; {counts['runs']} runs; "
        f"{done.total()} faults; {took:.0f} s"
    )


def table(rows: dict[str, Row]) -> str:
    """A line for each topology, and one for the faults that were done to it."""
    lines = [["topology", "seconds", "faults", *COLUMNS.values(), "longest call", "broken"]]
    for name, row in rows.items():
        broken = sum(row.found.counts[what] for what in row.found.violations(ARENAS[name].allowed))
        counts = [f"{row.found.counts[what]:,}" for what in COLUMNS]
        longest = f"{row.found.longest:.1f} s"
        lines.append([name, f"{row.seconds:.0f}", str(row.done.total()), *counts, longest, f"{broken:,}"])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    told = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])  # the numbers to the right
        for line in lines
    ]
    told += [f"{name}: " + ", ".join(f"{what} {n}" for what, n in row.done.most_common()) for name, row in rows.items()]
    return "\n".join(told)


def _keep(directory: Path, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    for journal in directory.glob("*.journal"):
        shutil.copy(journal, where)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of faults, over all topologies; default: 120")
    parser.add_argument("--seed", type=int, help="of the first run; default: a new one")
    parser.add_argument("--only", default="", help=f"topologies, by comma; default: {','.join(ARENAS)}")
    parser.add_argument("--round", type=float, default=20.0, help="seconds of a single run; default: 20")
    parser.add_argument("--keep", type=Path, help="a directory in which the journals of failed runs stay")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(ARENAS)
    skipped = {name: ARENAS[name].missing() for name in names if ARENAS[name].missing()}
    names = [name for name in names if name not in skipped]
    if any(name.startswith("network") for name in names):
        enter(sys.argv[1:])
    seed = random.SystemRandom().randrange(1 << 30) if options.seed is None else options.seed
    rounds = max(1, round(options.seconds / options.round / max(1, len(names))))
    length = min(options.round, options.seconds / max(1, len(names)))
    rows = {name: Row() for name in names}
    for number in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory(prefix="hf-chaos-", ignore_cleanup_errors=True) as directory:
                again = f"--only {name} --seed {seed + number} --seconds {length:g} --round {length:g}"
                began = time.monotonic()
                try:
                    found, done = asyncio.run(one_run(name, seed + number, length, Path(directory)))
                except Exception:
                    # The conductor itself: a server that did not come back, say.
                    traceback.print_exc()
                    found, done = Findings(), Counter[str]()
                    found.broken("crashed", "the conductor")
                rows[name].add(length, done, found)
                broken = found.violations(ARENAS[name].allowed)
                took = time.monotonic() - began
                print(f"{name} seed {seed + number}: {summary(found, done, took)}", flush=True)
                for what, examples in broken.items():
                    print(f"  BROKEN {what}: {found.counts[what]}", *examples, sep="\n    ", flush=True)
                if broken:
                    print(f"  again: python -m tests.chaos {again}", flush=True)
                    if options.keep:
                        _keep(Path(directory), options.keep / f"{name}-{seed + number}")
    print(table(rows))
    for name, missing in skipped.items():
        print(f"{name}: SKIPPED, {missing}")
    return 1 if any(row.found.violations(ARENAS[name].allowed) for name, row in rows.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
