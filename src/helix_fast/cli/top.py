"""`helix-fast top`: what runs in a store, at a glance in a terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from helix_fast import connect
from helix_fast.web.lookups import Listing, Lookups, Row

from .common import DEFAULT_URL, NOTHING_THERE, JsonOption, PrefixOption, UrlOption, run
from .inspect import amount, shown
from .output import counted, print_json

STYLES = {"failed": "red", "lost": "bold red", "running": "green", "active": "green", "interrupted": "yellow"}


def status_of(row: Row) -> Text:
    """The status, coloured."""
    status = "lost" if row.lost else row.status or "idle"
    return Text(shown(status), STYLES.get(status, ""))


def table_of(found: Listing, speeds: dict[str, float] | None, height: int) -> Table:
    """The sessions, as many as fit."""
    table = Table(expand=True, box=None, pad_edge=False)
    table.add_column("session", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("status", no_wrap=True)
    table.add_column("chunks", justify="right", no_wrap=True)
    if speeds is not None:
        table.add_column("a second", justify="right", no_wrap=True)
    table.add_column("last write", justify="right", no_wrap=True)
    table.add_column("lock: left, holder", ratio=2, no_wrap=True, overflow="ellipsis")
    now = time.time() * 1000
    for row in found.rows[:height]:
        ago = "" if row.updated_at is None else f"{max(0, now - row.updated_at) / 1000:.0f} s ago"
        lock = "" if row.owner is None else f"{(row.lock_ms or 0) / 1000:.0f} s, {shown(row.owner)}"
        speed = "" if speeds is None or not speeds.get(row.id) else f"{speeds[row.id]:,.0f}"
        table.add_row(
            Text(shown(row.id)),
            status_of(row),
            f"{row.chunks:,}" if row.chunks else "",
            *([] if speeds is None else [speed]),
            ago,
            Text(lock),
        )
    return table


def summary_of(found: Listing, server: dict[str, Any], speeds: dict[str, float] | None) -> Text:
    """The first line: how much there is, and how the server is. A first look knows no speeds."""
    live = sum(row.live for row in found.rows)
    parts = [counted(found.total, "session"), f"{live} live"]
    if speeds is not None:
        parts.append(f"{sum(speeds.values()):,.0f} chunks a second")
    if "used_memory" in server:
        parts.append(f"memory {amount(int(server['used_memory']))}")
        parts.append(counted(int(server.get("connected_clients", 0)), "client"))
        parts.append(f"{server.get('instantaneous_ops_per_sec', '?')} requests a second")
    return Text(shown(" · ".join(parts)), "bold")


class Speeds:
    """Chunks a second of each session, between two looks."""

    def __init__(self) -> None:
        self._before: dict[str, int] | None = None
        self._at = 0.0

    def of(self, rows: list[Row]) -> dict[str, float] | None:
        """Those of the rows; None at the first look."""
        before, self._before = self._before, {row.id: row.chunks for row in rows}
        now = time.monotonic()
        passed, self._at = now - self._at, now
        if before is None:
            return None
        return {
            row.id: (row.chunks - before[row.id]) / passed
            for row in rows
            if row.chunks > before.get(row.id, row.chunks)
        }


def top(
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two updates.", min=0.2)] = 2.0,
    status: Annotated[str, typer.Option(help="Only sessions of this status: live, running, failed…")] = "",
    once: Annotated[bool, typer.Option("--once", help="Print the list once, and exit.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the sessions and streams of a store, the live ones first, until Ctrl-C.

    With --json, or without a terminal, it prints the list once.
    """

    async def work() -> int:
        console = Console()
        async with connect(url, key_prefix=prefix) as helix:
            lookups, speeds = Lookups(helix), Speeds()

            async def look() -> Group:
                found, server = await asyncio.gather(lookups.listing("", status, 1000), lookups.server())
                pace = speeds.of(found.rows)
                height = max(3, console.height - 3) if console.is_terminal else len(found.rows)
                return Group(summary_of(found, server, pace), table_of(found, pace, height))

            if json:
                print_json(await lookups.listing("", status, 1_000_000))
            elif once or not console.is_terminal:
                console.print(await look())
            else:
                with Live(await look(), console=console, screen=True, auto_refresh=False) as live:
                    while True:
                        await asyncio.sleep(every)
                        live.update(await look(), refresh=True)
        if url == DEFAULT_URL and not json:
            sys.stderr.write(f"helix-fast: {NOTHING_THERE}\n")
        return 0

    run(work)
