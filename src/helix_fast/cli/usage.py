"""`helix-fast usage SESSION`: what a session has used, by model and by tool, as a table, as JSON or as a picture."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helix_fast import connect
from helix_fast.usage.rollup_schema import CallTotals, TokenTotals, UsageRollup
from helix_fast.usage.schema import UsageEntry
from helix_fast.usage.store import RedisUsageStore

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, fail, run, where_else
from .inspect import moment, shown
from .output import counted, print_json


async def token_entries(usage: RedisUsageStore, rollup: UsageRollup) -> list[UsageEntry]:
    """The token entries of all sessions of a rollup."""
    sessions = list(rollup.by_session or [rollup.session_id])
    found = await asyncio.gather(*(usage.get_entries(session, kinds=["tokens"]) for session in sessions))
    return [entry for entries in found for entry in entries]


def number(value: float) -> str:
    """A number with thousands separators: 1,234 or 1,234.5."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.1f}"


def cost(part: TokenTotals) -> str:
    """The sum of what is known, which is less than the cost where some calls have none."""
    if not part.priced_calls:
        return "?"
    return f"{'' if part.priced_calls == part.calls else '>='}{part.cost:,.6g}"


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def models_table(rollup: UsageRollup) -> Table:
    """Tokens by model, the most used first, with a total."""
    costs = ["cost"] if rollup.tokens.priced_calls else []
    table = _table("tokens by model", "model", "calls", "prompt", "cached", "completion", "reasoning", "total", *costs)

    def add(name: str, part: TokenTotals) -> None:
        counts = (part.calls, part.prompt, part.cached, part.completion, part.reasoning, part.total)
        table.add_row(Text(shown(name)), *map(number, counts), *(cost(part) for _ in costs))

    for name, part in sorted(rollup.by_model.items(), key=lambda item: -item[1].total):
        add(name, part)
    if len(rollup.by_model) > 1:
        table.add_section()
        add("all", rollup.tokens)
    return table


def calls_table(title: str, first: str, parts: dict[str, CallTotals]) -> Table:
    """Calls of tools or runs of sub-agents, the most called first."""
    table = _table(title, first, "calls", "successes", "failures", "ms", "ms/call", "longest ms")
    for name, part in sorted(parts.items(), key=lambda item: -item[1].calls):
        numbers = (part.calls, part.successes, part.failures, part.total_duration_ms)
        table.add_row(
            Text(shown(name)),
            *map(number, numbers),
            number(round(part.total_duration_ms / part.calls, 1)),
            "" if part.max_duration_ms is None else number(part.max_duration_ms),
        )
    return table


def custom_table(rollup: UsageRollup) -> Table:
    """Custom values by type."""
    table = _table("custom", "type", "count", "sum", "min", "max")
    for name, part in rollup.custom.items():
        table.add_row(Text(shown(name)), *map(number, (part.count, part.sum, part.min, part.max)))
    return table


def show(rollup: UsageRollup, console: Console) -> None:
    """Print a rollup as tables."""
    sessions = "" if rollup.by_session is None else f" and {len(rollup.by_session) - 1:,} below it"
    begun, ended = moment(rollup.first_timestamp), moment(rollup.last_timestamp)
    entries = counted(rollup.entry_count, "entry", "entries")
    times = "" if begun is None else f", {begun} to {ended}"
    console.print(Text(shown(f"session {rollup.session_id}{sessions}: {entries}{times}")))
    if rollup.by_model:
        console.print(models_table(rollup))
    if rollup.tool_stats.by_tool:
        console.print(calls_table("tools", "tool", rollup.tool_stats.by_tool))
    if rollup.sub_agent_stats.by_type:
        console.print(calls_table("sub-agents", "agent type", rollup.sub_agent_stats.by_type))
    if rollup.custom:
        console.print(custom_table(rollup))
    for kind, count in rollup.other_kinds.items():
        console.print(
            Text(shown(f"{counted(count, 'entry', 'entries')} of kind {kind}, which this version does not know"))
        )
    if rollup.malformed_count:
        console.print(Text(f"{counted(rollup.malformed_count, 'stored entry', 'stored entries')} cannot be counted"))
    if rollup.missing_sessions:
        console.print(Text(shown("no usage of " + ", ".join(rollup.missing_sessions))))


def usage(
    session: Annotated[str, typer.Argument(help="Id of the session.")],
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    include_sub_agents: Annotated[
        bool, typer.Option("--include-sub-agents", help="Add the usage of its sub-agents, at every depth.")
    ] = False,
    json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw tokens over time, stacked by model, into this PNG file.")
    ] = None,
) -> None:
    """Show what a session has used: tokens by model, calls by tool, sub-agents and custom values."""
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs matplotlib", "pip install 'helix-fast[plot]'")

    async def work() -> int:
        async with connect(url, key_prefix=prefix) as helix:
            rollup = await helix.usage.get_rollup(session, include_sub_agents=include_sub_agents)
            if rollup is None:
                fail(f"no usage is recorded for {session!r}", where_else(url))
            entries = [] if plot is None else await token_entries(helix.usage, rollup)
        if plot is not None:
            from .usage_plot import draw

            try:
                draw(rollup.session_id, entries, plot)
            except (OSError, ValueError) as error:
                fail(f"cannot write {plot}: {error}")
        if json:
            print_json(rollup)
        else:
            show(rollup, Console())
        return 0

    run(work)
