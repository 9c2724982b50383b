"""The picture of `helix-fast usage --plot`: tokens over time, stacked by model. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from helix_fast import codec
from helix_fast.usage.encoding import encode_entry
from helix_fast.usage.rollup_schema import build_rollup
from helix_fast.usage.schema import UsageEntry

from .inspect import shown

BARS = 60
# Models beyond the number of distinguishable colours are drawn as one.
MODELS = 9


def bars(entries: Sequence[UsageEntry]) -> tuple[list[float], float, dict[str, list[int]]]:
    """Begin of each bar (Unix milliseconds), their width, and for each model its tokens in each bar; largest first."""
    times = [entry.timestamp or 0 for entry in entries]
    first, last = min(times, default=0), max(times, default=0)
    width = max(1.0, (last - first + 1) / BARS)
    parts = [codec.Rollup() for _ in range(int((last - first) / width) + 1)]
    for time, entry in zip(times, entries, strict=True):
        parts[int((time - first) / width)].add([encode_entry(entry, 0).wire])
    series: dict[str, list[int]] = {}
    for at, part in enumerate(parts):
        for model, tokens in build_rollup("", part.export()).by_model.items():
            series.setdefault(model, [0] * len(parts))[at] = tokens.total
    ranked = sorted(series.items(), key=lambda item: -sum(item[1]))
    kept = dict(ranked[:MODELS])
    if len(ranked) > MODELS:
        kept["other models"] = [sum(column) for column in zip(*(row for _name, row in ranked[MODELS:]), strict=True)]
    return [first + at * width for at in range(len(parts))], width, kept


def draw(session_id: str, entries: Sequence[UsageEntry], path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    begins, width, series = bars(entries)
    zone = datetime.now().astimezone().tzinfo or timezone.utc
    at = date2num([datetime.fromtimestamp(begin / 1000, zone) for begin in begins])  # type: ignore[no-untyped-call]
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    base = [0] * len(begins)
    for model, counts in series.items():
        # A dollar sign would begin a formula.
        label = shown(model).replace("$", r"\$")
        axes.bar(at, counts, width=width / 86_400_000, bottom=base, align="edge", label=label)
        base = [low + count for low, count in zip(base, counts, strict=True)]
    locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("tokens")
    axes.set_title("Tokens of session " + shown(session_id).replace("$", r"\$"))
    if series:
        axes.legend()
    figure.savefig(path, format="png", dpi=120)
