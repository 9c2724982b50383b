"""``growth.json``, its tables and its chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from .page import IMAGES, PAGE, put
from .results import ResultsFileError
from .scaling import ScalingPoint
from .table import Rows, align, markdown, number

CHART: Final = "growth.png"


class StreamsPoint(msgspec.Struct):
    """100 tasks write to this many open streams in turns."""

    streams: int
    chunks_per_second: float
    server_cpu_us: float
    client_cpu_us: float
    open_us: float
    writer_bytes: float
    reader_bytes: float | None


class RollupPoint(msgspec.Struct):
    """A rollup of this many entries: all of them, then 100 new ones."""

    entries: int
    cold_ms: float
    warm_ms: float


class AppendPoint(msgspec.Struct):
    """Appending one message to a conversation of this many."""

    messages: int
    append_us: float


class Growth(msgspec.Struct, kw_only=True):
    """``growth.json``."""

    size: str
    streams: list[StreamsPoint] = []
    rollup: list[RollupPoint] = []
    append: list[AppendPoint] = []
    scaling: list[ScalingPoint] = []
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    taken_at: str = ""
    seconds: float = 0.0


def save_growth(growth: Growth, path: Path) -> None:
    """Write the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(growth), indent=2) + b"\n")


def load_growth(path: Path) -> Growth:
    """Read the file. ResultsFileError if its content is not a Growth."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Growth)
    except msgspec.MsgspecError as error:
        raise ResultsFileError(f"{path}: {error}") from error


def streams_table(growth: Growth) -> Rows:
    """A row for each number of streams."""
    head = ("open streams", "chunks/s", "server µs a chunk", "client µs a chunk", "µs to open one")
    lines: Rows = [(*head, "client bytes a writer", "a reader")]
    for point in growth.streams:
        reader = "-" if point.reader_bytes is None else number(point.reader_bytes)
        costs = (point.chunks_per_second, point.server_cpu_us, point.client_cpu_us, point.open_us, point.writer_bytes)
        lines.append((f"{point.streams:,}", *map(number, costs), reader))
    return lines


def rollup_table(growth: Growth) -> Rows:
    """A row for each number of entries."""
    lines: Rows = [("usage entries", "cold rollup ms", "µs an entry", "100 new ones ms")]
    for point in growth.rollup:
        each = number(point.cold_ms * 1000 / point.entries)
        lines.append((f"{point.entries:,}", number(point.cold_ms), each, number(point.warm_ms)))
    return lines


def append_table(growth: Growth) -> Rows:
    """A row for each number of messages."""
    lines: Rows = [("messages stored", "append_messages µs")]
    return lines + [(f"{point.messages:,}", number(point.append_us)) for point in growth.append]


def scaling_table(growth: Growth) -> Rows:
    """A row for each number of nodes."""
    head = ("nodes", "chunks/s", "server µs a chunk", "client µs a chunk")
    lines: Rows = [(*head, "chunks by node", "connections by node", "all nodes at work together")]
    for point in growth.scaling:
        chunks = " / ".join(f"{share.chunks:,}" for share in point.shares)
        connections = " / ".join(str(share.connections) for share in point.shares)
        costs = map(number, (point.chunks_per_second, point.server_cpu_us, point.client_cpu_us))
        lines.append((str(point.nodes), *costs, chunks, connections, f"{point.busy_together:.0%} of the time"))
    return lines


def render(growth: Growth) -> str:
    """The tables as plain text."""
    tables = (streams_table(growth), rollup_table(growth), append_table(growth), scaling_table(growth))
    return "\n\n".join([*map(align, tables), about_growth(growth)])


def about_growth(growth: Growth) -> str:
    """One line: machine, date and versions."""
    machine = growth.machine
    return (
        f"{growth.size} run of {growth.taken_at}, {growth.seconds:.0f} s; {machine.get('cpu')}, "
        f"{machine.get('cores')} cores; " + ", ".join(f"{name} {version}" for name, version in growth.versions.items())
    )


def write_growth(growth: Growth, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Write a run into the documentation: tables between the markers ``growth`` and ``cluster``, and the chart."""
    tables = (streams_table(growth), rollup_table(growth), append_table(growth))
    chart = f"![Growth by streams, entries and messages]({images.name}/{CHART})"
    parts = [about_growth(growth) + ".", *(markdown(table, set(range(len(table[0])))) for table in tables), chart]
    put("growth", "\n\n".join(parts), page)
    put("cluster", markdown(scaling_table(growth), {0, 1, 2, 3}), page)
    draw(growth, images / CHART)


def draw(growth: Growth, path: Path) -> None:
    """The chart, PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 10), layout="constrained")
    axes: Any = figure.subplots(3, 2)
    points = growth.streams
    counts = [point.streams for point in points]
    _line(axes[0][0], "chunks/s by open streams", counts, {"": [point.chunks_per_second for point in points]})
    costs = {"server": [point.server_cpu_us for point in points], "client": [point.client_cpu_us for point in points]}
    _line(axes[0][1], "CPU of a chunk (µs) by open streams", counts, costs)
    memory = {"writer": [p.writer_bytes / 1024 for p in points], "reader": [_kib(p.reader_bytes) for p in points]}
    _line(axes[1][0], "client memory (KiB) of an open writer and reader, by open streams", counts, memory)
    _line(axes[1][1], "time to open a stream (µs) by open streams", counts, {"": [p.open_us for p in points]})
    entries = [point.entries for point in growth.rollup]
    times = {"cold": [p.cold_ms for p in growth.rollup], "100 new": [p.warm_ms for p in growth.rollup]}
    _line(axes[2][0], "rollup (ms) by entries", entries, times, log=True)
    messages = [point.messages for point in growth.append]
    _line(axes[2][1], "append_messages (µs) by messages stored", messages, {"": [p.append_us for p in growth.append]})
    # An empty conversation has its place on the axis too.
    axes[2][1].set_xscale("symlog", linthresh=100)
    axes[2][1].set_xlim(left=-10)
    axes[2][1].set_xticks(messages)
    axes[2][1].minorticks_off()
    axes[2][1].xaxis.set_major_formatter("{x:,.10g}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _kib(size: float | None) -> float:
    """KiB; NaN, a gap in the chart, if it was not measured."""
    return math.nan if size is None else size / 1024


def _line(axes: Any, title: str, xs: Sequence[float], lines: dict[str, list[float]], *, log: bool = False) -> None:
    for label, ys in lines.items():
        axes.plot(xs, ys, marker="o", label=label or None)
    axes.set_xscale("log")
    axes.set_xticks(xs)
    axes.minorticks_off()
    if log:
        axes.set_yscale("log")
    else:
        most = max((y for ys in lines.values() for y in ys if not math.isnan(y)), default=1.0)
        axes.set_ylim(0, most * 1.1 or 1.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.10g}")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    if len(lines) > 1:
        axes.legend()
