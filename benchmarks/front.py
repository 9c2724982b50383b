"""The front page: the chart and the demo's table in README.md, from runs: ``python -m benchmarks.front``.

Nothing there is typed by hand. ``make bench BENCH_ARGS=--docs`` writes both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from .docs import RESULTS
from .page import IMAGES, ROOT, MarkerError, put
from .results import Results, ResultsFileError, load
from .table import number

README: Final = ROOT / "README.md"
CHART: Final = "throughput.svg"
LOAD: Final = "1 000 streams, every write awaited"
WIDTH, LEFT, BAR, STEP, TOP = 760, 190, 24, 38, 58
PACE: Final = 5
"""Chunks a second of an agent whose model talks: the second row of the demo."""


class Bar(NamedTuple):
    """A client of the chart."""

    name: str
    rate: float
    times: float  # ours to it, in the same turns


def bars(results: Results) -> list[Bar]:
    """Ours first, then the others by rate. Empty where the run took no peers."""
    shown = ("helix-fast", "redis-py", "valkey-glide")
    found = [
        Bar(peer.name, peer.value, peer.ratio) for peer in results.peers if peer.load == LOAD and peer.name in shown
    ]
    if found and "P2" in results.measures:
        store = results.measures["P2"]
        found.append(Bar("pydantic store", store.baseline, store.ratio))
    return sorted(found, key=lambda bar: -bar.rate)


def where(results: Results) -> str:
    """The machine and the day of a run."""
    machine, versions = results.machine, results.versions
    return (
        f"{machine.get('cpu')}, {machine.get('cores')} cores for server and clients together, "
        f"Python {versions.get('python')}, {versions.get('server')}, {results.taken_at[:10]}"
    )


def chart(results: Results) -> str:
    """The chart as SVG, which follows the reader's light or dark colours."""
    found = bars(results)
    most = max((bar.rate for bar in found), default=1.0)
    height = TOP + STEP * len(found) + 34
    title = "Chunks stored per second: 1,000 streams, each write awaited"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        "<style>text{font:14px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:16px}"
        ".note{font-size:12px;fill:#57606a}.ours{fill:#0a7d55}.theirs{fill:#9aa4af}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9da7b3}.ours{fill:#2ebd85}"
        ".theirs{fill:#5b6670}}</style>",
        f'<text class="title" x="10" y="28">{escape(title)}</text>',
    ]
    for place, bar in enumerate(found):
        top = TOP + place * STEP
        length = max(2.0, (WIDTH - LEFT - 200) * bar.rate / most)
        ours = bar.name == "helix-fast"
        label = number(bar.rate) + ("" if ours else f"  (helix-fast: {bar.times:.1f} x)")
        parts += [
            f'<text x="{LEFT - 10}" y="{top + 17}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect class="{"ours" if ours else "theirs"}" x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" '
            'rx="3"/>',
            f'<text x="{LEFT + length + 8:.0f}" y="{top + 17}">{escape(label)}</text>',
        ]
    parts += [f'<text class="note" x="10" y="{height - 12}">{escape(where(results))}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def chart_markdown(results: Results) -> str:
    """The picture, with its numbers as its text."""
    said = "; ".join(f"{bar.name} {number(bar.rate)}" for bar in bars(results))
    return f"![Chunks stored per second: {said}](docs/images/{CHART})\n\nMeasured on {where(results)}."


class Demo(NamedTuple):
    """The demo's JSON, at full speed and at the pace of a model."""

    full: dict[str, Any]
    paced: dict[str, Any]


def take_demo() -> Demo:
    """Run the demo twice. CalledProcessError if a byte was lost."""

    def run(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "helix_fast.cli", "demo", "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = msgspec.json.decode(done.stdout)
        return found

    return Demo(run(), run("--rate", str(PACE)))


def demo_markdown(demo: Demo, machine: dict[str, Any]) -> str:
    """What the demo prints, and on which machine."""
    full, paced = demo
    rows = {
        "agents, one stream and one reader each": f"{full['sessions']:,}",
        "chunks written": f"{full['chunks_written']:,}",
        "chunks read": f"{full['chunks_read']:,}",
        "readers dropped and resumed": f"{full['resumes']:,}",
        "lost": f"{full['lost']:,}",
        "duplicated": f"{full['duplicated']:,}",
        "out of order": f"{full['out_of_order']:,}",
        "chunks/s": f"{full['chunks_per_second']:,.0f}",
        "latency write → read, p50": f"{full['latency_p50_ms']:.2f} ms",
        "latency write → read, p99": f"{full['latency_p99_ms']:.2f} ms",
        "every text identical, byte by byte": "yes" if full["text_identical"] else "NO",
    }
    left, right = max(map(len, rows)), max(map(len, rows.values()))
    table = [f"┌{'─' * (left + 2)}┬{'─' * (right + 2)}┐"]
    table += [f"│ {name.ljust(left)} │ {value.rjust(right)} │" for name, value in rows.items()]
    table.append(f"└{'─' * (left + 2)}┴{'─' * (right + 2)}┘")
    return "\n".join(
        [
            "```",
            *table,
            "```",
            "",
            "200 agents wrote as fast as they could; server, agents and readers shared",
            f"{machine.get('cores')} cores of {machine.get('cpu')}. At the pace of a model",
            f'(`make demo DEMO_ARGS="--rate {PACE}"`) the latencies were {paced["latency_p50_ms"]:.2f} ms and '
            f"{paced['latency_p99_ms']:.2f} ms there.",
        ]
    )


def write_front(results: Results, demo: Demo | None = None, readme: Path = README, images: Path = IMAGES) -> None:
    """Write the chart, and the demo's table if there is a run of it, into the README. MarkerError without a marker."""
    if bars(results):
        images.mkdir(parents=True, exist_ok=True)
        (images / CHART).write_text(chart(results), "utf-8")
        put("chart", chart_markdown(results), readme)
    if demo is not None:
        put("demo", demo_markdown(demo, results.machine), readme)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and write the front page; the chart is that of the last run of the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--no-demo", dest="demo", action="store_false", help="leave the demo's table as it is")
    options = parser.parse_args(arguments)
    try:
        write_front(load(options.results), take_demo() if options.demo else None)
    except (OSError, ResultsFileError, MarkerError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.front: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
