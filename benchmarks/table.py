"""The results as tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from .compare import order
from .measure import Result
from .results import Results

Rows = list[tuple[str, ...]]
HEAD = ("", "what", "ours", "baseline", "unit", "ratio", "target", "reached", "took")


def number(value: float) -> str:
    """A number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def rows(key: str, result: Result) -> Rows:
    """A measure's row, and under it its further conditions and variants."""
    sign = "≥" if result.reach == "at least" else "≤"
    found: Rows = [
        (
            key, result.what, number(result.ours), number(result.baseline), result.unit,
            f"{result.ratio:.2f}", f"{sign} {result.target:g}", "yes" if result.reached else "NO",
            f"{result.seconds:.0f} s",
        )
    ]  # fmt: skip
    for part in result.also:
        sign = "≥" if part.reach == "at least" else "≤"
        limit = "" if part.limit is None else f"{sign} {part.limit:g}"
        verdict = "" if part.limit is None else "yes" if part.reached else "NO"
        found.append(("", f"  {part.what}", number(part.value), "", part.unit, "", limit, verdict, ""))
    for name, variant in result.variants.items():
        ours, baseline = number(variant.ours), number(variant.baseline)
        found.append(("", f"  {name}", ours, baseline, result.unit, f"{variant.ratio:.2f}", "", "", ""))
    return found


def measures_table(results: Results) -> Rows:
    """What, ours, baseline, ratio, target, reached."""
    lines: Rows = [HEAD]
    for key in sorted(results.measures, key=order):
        lines += rows(key, results.measures[key])
    return lines


def payloads_table(results: Results) -> Rows:
    """The ratios of the measures by payload; none where no payload but the run's own was taken."""
    keys = [key for key in sorted(results.measures, key=order) if results.measures[key].payloads]
    names = list(dict.fromkeys(name for key in keys for name in results.measures[key].payloads))
    if not names:
        return []
    lines: Rows = [("ratio by payload", *keys)]
    lines.append((f"{results.payload} (target)", *(_with_target(results.measures[key]) for key in keys)))
    for name in names:
        found = [results.measures[key].payloads.get(name) for key in keys]
        lines.append((name, *("" if variant is None else f"{variant.ratio:.2f}" for variant in found)))
    return lines


def _with_target(result: Result) -> str:
    sign = "≥" if result.reach == "at least" else "≤"
    return f"{result.ratio:.2f} ({sign} {result.target:g})"


def peers_table(results: Results) -> Rows:
    """Each load, and who did it."""
    lines: Rows = [("load", "client", "rate", "unit", "ours is", "")]
    for peer in results.peers:
        times = "" if peer.name == "helix-fast" else f"{peer.ratio:.2f} x"
        lines.append((peer.load, peer.name, number(peer.value), peer.unit, times, peer.note))
    return lines if results.peers else []


def render(results: Results) -> str:
    """All tables, and what failed."""
    parts = [align(measures_table(results), right={2, 3, 5, 6, 8})]
    payloads = payloads_table(results)
    if payloads:
        parts.append(align(payloads, right=set(range(1, len(payloads[0])))))
    peers = peers_table(results)
    if peers:
        parts.append(align(peers, right={2, 4}))
    failed = [f"{key} FAILED: {reason}" for key, reason in results.failed.items()]
    parts += ["\n".join(failed)] if failed else []
    parts.append(about(results))
    return "\n\n".join(parts)


def about(results: Results) -> str:
    """Where, when and with what: a line."""
    machine, versions = results.machine, results.versions
    load = ", ".join(str(one) for one in machine.get("load_before", []))
    return (
        f"{results.size} run of {results.taken_at}, {results.seconds:.0f} s, payload {results.payload}; "
        f"{machine.get('cpu')}, {machine.get('cores')} cores, load before {load or 'unknown'}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def align(lines: Sequence[tuple[str, ...]], right: set[int] | None = None) -> str:
    """Columns of one width; those of numbers to the right, all but the first where nothing else is said."""
    to_the_right = set(range(1, len(lines[0]))) if right is None else right
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in to_the_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(lines: Sequence[tuple[str, ...]], right: set[int]) -> str:
    """The same for the documentation."""
    rule = tuple("---:" if column in right else "---" for column in range(len(lines[0])))
    return "\n".join(
        "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in line) + " |"
        for line in (lines[0], rule, *lines[1:])
    )
