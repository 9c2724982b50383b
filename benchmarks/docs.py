"""Writes the numbers of a run into docs/performance.md, and its chart into the README: ``python -m benchmarks.docs``.

Numbers there are never typed by hand: they come from ``results.json`` or ``growth.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .growth_report import load_growth, write_growth
from .page import IMAGES, PAGE, ROOT, MarkerError, put
from .projection import MONTHLY, assumptions, monthly_table, projection_table
from .results import Results, ResultsFileError, load
from .table import about, markdown, measures_table, payloads_table, peers_table

RESULTS: Final = ROOT / "benchmarks" / "results.json"
GROWTH: Final = ROOT / "benchmarks" / "growth.json"


def results_markdown(results: Results) -> str:
    """The tables of ``make bench``."""
    parts = [about(results) + ".", markdown(measures_table(results), {2, 3, 5, 6, 8})]
    payloads = payloads_table(results)
    if payloads:
        parts.append("Ratios by payload (kind of text and its bytes):")
        parts.append(markdown(payloads, set(range(1, len(payloads[0])))))
    peers = peers_table(results)
    if peers:
        parts.append("Other clients under the same load, in turns with ours:")
        parts.append(markdown(peers, {2, 4}))
    parts += [f"{key} could not be measured: {reason}" for key, reason in results.failed.items()]
    return "\n\n".join(parts)


def write_results(results: Results, path: Path = PAGE) -> None:
    """Write a run of the benchmarks into the page, and the projection to larger machines."""
    put("results", results_markdown(results), path)
    table = projection_table(results)
    costs = monthly_table(results)
    if costs:
        put("monthly", MONTHLY + "\n\n" + markdown(costs, {1, 2, 3, 4}), path)
    if table:
        put("projection", assumptions(results) + "\n\n" + markdown(table, {1, 2, 3, 5, 6, 7, 8, 9}), path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files of runs into the page; a part without a file stays as it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.docs", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--growth", type=Path, default=GROWTH)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    try:
        if options.results.exists():
            results = load(options.results)
            write_results(results, options.page)
            if options.page == PAGE:
                from .front import write_front

                write_front(results)
        if options.growth.exists():
            write_growth(load_growth(options.growth), options.page, options.images)
    except (ResultsFileError, MarkerError) as error:
        sys.stderr.write(f"benchmarks.docs: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
