"""``make chaos``: topologies under a nemesis, their journals checked, and a table. Exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .arena import ARENAS
from .conductor import one_run
from .findings import Findings

COLUMNS = {
    "acknowledged": "acked",
    "lost": "lost",
    "lost, reported": "reported",
    "lost with its producer": "writer dead",
    "lost in silence": "silent",
    "stored twice": "doubled",
    "out of order": "disorder",
    "two contents": "2 contents",
    "read": "read",
    "gaps": "gaps",
    "hung": "hung",
}


def table(rows: dict[str, tuple[float, Counter[str], Findings]]) -> str:
    """A line for each topology."""
    lines = [["topology", "seconds", "faults", *COLUMNS.values(), "longest call", "broken"]]
    for name, (seconds, done, found) in rows.items():
        broken = sum(len(examples) for examples in found.violations(ARENAS[name].allowed).values())
        counts = [f"{found.counts[what]:,}" for what in COLUMNS]
        lines.append([name, f"{seconds:.0f}", str(done.total()), *counts, f"{found.longest:.1f} s", str(broken)])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])  # the numbers to the right
        for line in lines
    )


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
    seed = random.SystemRandom().randrange(1 << 30) if options.seed is None else options.seed
    rounds = max(1, round(options.seconds / options.round / len(names)))
    length = min(options.round, options.seconds / len(names))
    rows: dict[str, tuple[float, Counter[str], Findings]] = {name: (0.0, Counter[str](), Findings()) for name in names}
    failed: list[str] = []
    for number in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory(prefix="hf-chaos-", ignore_cleanup_errors=True) as directory:
                began = time.monotonic()
                found, done = asyncio.run(one_run(name, seed + number, length, Path(directory)))
                broken = found.violations(ARENAS[name].allowed)
                verdict = "BROKEN" if broken else "ok"
                print(
                    f"{name} seed {seed + number}: {found.counts['acknowledged']} acknowledged, "
                    f"{found.counts['lost']} lost, {done.total()} faults in {time.monotonic() - began:.0f} s: "
                    f"{verdict}",
                    flush=True,
                )
                if broken:
                    failed.append(name)
                    for what, examples in broken.items():
                        print(f"  {what}: {found.counts[what]}", *examples, sep="\n    ", flush=True)
                    print(f"  again: python -m tests.chaos --only {name} --seed {seed + number} --seconds {length:g}")
                    if options.keep:
                        _keep(Path(directory), options.keep / f"{name}-{seed + number}")
            seconds, all_done, all_found = rows[name]
            all_done.update(done)
            all_found.add(found)
            rows[name] = (seconds + length, all_done, all_found)
    print(table(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
