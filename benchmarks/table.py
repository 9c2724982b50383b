"""The results as one table of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from .compare import order
from .measure import Result
from .results import Results

HEAD = ("", "what", "ours", "baseline", "unit", "ratio", "target", "reached")


def number(value: float) -> str:
    """A number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def rows(key: str, result: Result) -> list[tuple[str, ...]]:
    """A measure's row, and under it its further conditions and variants."""
    sign = "≥" if result.reach == "at least" else "≤"
    found: list[tuple[str, ...]] = [
        (
            key, result.what, number(result.ours), number(result.baseline), result.unit,
            f"{result.ratio:.2f}", f"{sign} {result.target:g}", "yes" if result.reached else "NO",
        )
    ]  # fmt: skip
    for part in result.also:
        sign = "≥" if part.reach == "at least" else "≤"
        limit = "" if part.limit is None else f"{sign} {part.limit:g}"
        verdict = "" if part.limit is None else "yes" if part.reached else "NO"
        found.append(("", f"  {part.what}", number(part.value), "", part.unit, "", limit, verdict))
    for name, variant in result.variants.items():
        ours, baseline = number(variant.ours), number(variant.baseline)
        found.append(("", f"  {name}", ours, baseline, result.unit, f"{variant.ratio:.2f}", "", ""))
    return found


def render(results: Results) -> str:
    """The whole table."""
    lines: list[tuple[str, ...]] = [HEAD]
    for key in sorted(results.measures, key=order):
        lines += rows(key, results.measures[key])
    text = align(lines)
    for name, peer in results.peers.items():
        unit = peer.get("unit", "")
        text += "\n" + f"peer {name}: {number(float(peer['value']))} {unit} ({peer['what']})"
    for key, reason in results.failed.items():
        text += f"\n{key} FAILED: {reason}"
    return text


def align(lines: Sequence[tuple[str, ...]]) -> str:
    """Columns of one width, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = {2, 3, 5, 6}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
