"""The regression gate: ``python -m benchmarks.compare OLD NEW``.

Exit code 1 if a ratio got worse by more than 15 %, or a measure is missing; 2 if the two files cannot be compared.
Ratios where more is better must not fall; those where less is better (latency, memory) must not rise.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from .measure import Result
from .results import Results, ResultsFileError, load

ALLOWED: Final = 0.15


class Change(msgspec.Struct):
    """How a measure's ratio moved: ``gain`` is new / old where more is better, else old / new."""

    key: str
    old: float | None
    new: float | None
    gain: float | None
    fell: bool


def gain_of(old: Result, new: Result) -> float:
    """Above 1: better; below 1: worse, whichever way the measure counts."""
    better, worse = (new.ratio, old.ratio) if new.reach == "at least" else (old.ratio, new.ratio)
    if not (math.isfinite(better) and math.isfinite(worse)):
        return 0.0
    return better / worse if worse > 0 else math.inf


def compare(old: Results, new: Results, allowed: float = ALLOWED) -> list[Change]:
    """The changes, measure by measure. A measure that vanished or failed has fallen; a new one has not."""
    changes = []
    for key in sorted({*old.measures, *new.measures}, key=order):
        before, after = old.measures.get(key), new.measures.get(key)
        if after is None or before is None:
            ratio_old = before.ratio if before else None
            changes.append(Change(key, ratio_old, after.ratio if after else None, None, fell=after is None))
            continue
        gain = gain_of(before, after)
        changes.append(Change(key, before.ratio, after.ratio, gain, fell=gain < 1 - allowed))
    return changes


def order(key: str) -> tuple[int, str]:
    """The sort key of a measure: P2 comes before P10."""
    digits = key[1:].partition("-")[0]
    return (int(digits) if digits.isdigit() else 0, key)


def report(changes: Sequence[Change]) -> str:
    """The changes as a table."""
    lines = [f"{'measure':12} {'old':>9} {'new':>9} {'change':>8}"]
    for change in changes:
        moved = "" if change.gain is None else f"{(change.gain - 1) * 100:+.1f} %"
        verdict = ""
        if change.fell:
            verdict = "MISSING" if change.new is None else "FELL"
        lines.append(f"{change.key:12} {_ratio(change.old)} {_ratio(change.new)} {moved:>8} {verdict}".rstrip())
    return "\n".join(lines)


def _ratio(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two files and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--allowed", type=float, default=ALLOWED, help="share that a ratio may fall by (0.15)")
    options = parser.parse_args(arguments)
    try:
        old, new = load(options.old), load(options.new)
    except ResultsFileError as error:
        sys.stderr.write(f"compare: {error}\n")
        return 2
    if old.size != new.size:
        sys.stderr.write(f"compare: a {old.size} run and a {new.size} run measure different amounts of data\n")
        return 2
    if old.payload != new.payload:
        sys.stderr.write(f"compare: payloads {old.payload} and {new.payload} are different data\n")
        return 2
    changes = compare(old, new, options.allowed)
    sys.stdout.write(report(changes) + "\n")
    return 1 if any(change.fell for change in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
