"""`helix-fast demo`: agents stream a real text at once, readers drop off and resume, and every byte is compared."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from helix_fast import connect
from helix_fast.agents import AgentExecutor
from helix_fast.connect import Helix
from helix_fast.errors import HelixError, StoreConnectionError

from .common import DEFAULT_URL, JsonOption, UrlOption, fail, run, together
from .output import counted, print_json, printable
from .playback import Session, cut, script_of, slice_length

REFRESH_SECONDS = 0.1
CLEAN_UP_SECONDS = 5.0
TTL_SECONDS = 3600  # the streams of a killed demo expire after this time
STREAMS_DELETED_AT_ONCE = 500
DIFFERENT = 1


class DemoReport(msgspec.Struct, kw_only=True):
    """The results of a run; the keys of ``--json``. Latencies are None if no reader was connected to be measured."""

    sessions: int
    chunks_written: int
    chunks_read: int
    resumes: int
    lost: int
    duplicated: int
    out_of_order: int
    chunks_per_second: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    text_identical: bool

    @property
    def faultless(self) -> bool:
        """Whether nothing was lost, duplicated, out of order or changed."""
        return self.text_identical and not (self.lost or self.duplicated or self.out_of_order)


def summarize(sessions: Sequence[Session], seconds: float) -> DemoReport:
    """Add up the sessions of a run that took so many seconds."""
    latencies = sorted(latency for session in sessions for latency in session.latencies)
    written = sum(session.written for session in sessions)
    return DemoReport(
        sessions=len(sessions),
        chunks_written=written,
        chunks_read=sum(session.received for session in sessions),
        resumes=sum(session.resumes for session in sessions),
        lost=sum(session.lost for session in sessions),
        duplicated=sum(session.duplicated for session in sessions),
        out_of_order=sum(session.out_of_order for session in sessions),
        chunks_per_second=round(written / max(seconds, 1e-9), 1),
        latency_p50_ms=percentile_ms(latencies, 0.50),
        latency_p99_ms=percentile_ms(latencies, 0.99),
        text_identical=all(session.identical and session.trouble is None for session in sessions),
    )


def percentile_ms(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of the ordered seconds do not exceed (nearest rank), in milliseconds."""
    if not ordered:
        return None
    return round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)


def standard_text() -> str:
    """The prose of ``pydoc_data.topics``, which every CPython includes."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: Path | None) -> str:
    """The text to stream. Exits with one line on stderr if the file is unreadable or empty."""
    if path is None:
        return standard_text()
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}", "give --text an existing text file")
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8 (byte {error.start})", "give --text a text file in UTF-8")
    if not text:
        fail(f"{path} is empty", "give --text a file with some text")
    return text


def make_sessions(text: str, count: int, rate: float, seed: int) -> list[Session]:
    """The sessions of a run; the same for the same text, count and seed."""
    tokens = cut(text)
    length = slice_length(len(tokens), count)
    sessions = []
    for number in range(count):
        chance = random.Random(f"{seed}:{number}")  # noqa: S311  repeatable, not secret
        events = script_of(tokens, number * len(tokens) // count, length, chance)
        sessions.append(Session(number, events, chance, rate))
    return sessions


async def play(url: str, sessions: Sequence[Session], *, quiet: bool, runs: bool = False) -> DemoReport:
    """Play all sessions over one Helix, as runs of an executor or each with a writer; then delete what they left."""
    prefix = f"helix-demo:{secrets.token_hex(4)}:"
    # No trimming: it would remove chunks that a slow reader has not read yet.
    options: Any = {"streams": {"max_stream_length": None, "ttl": TTL_SECONDS}, "state": {"ttl": TTL_SECONDS}}
    async with connect(url, key_prefix=prefix, **options) as helix:
        helix.streams.on("error", lambda _error: None)  # the sessions raise them
        reachable = True
        try:
            began = time.perf_counter()
            async with contextlib.AsyncExitStack() as stack:
                if not quiet:
                    watching = asyncio.ensure_future(watch(sessions, began))
                    stack.push_async_callback(stop, watching)
                if runs:
                    # On a server that stays, locks would leave their counters behind for a year.
                    locks = helix.locks if url == DEFAULT_URL else None
                    executor = AgentExecutor(helix.state, helix.streams, lock_manager=locks)
                    stack.push_async_callback(executor.drain, 0)
                    await together(*(session.play_as_run(helix.streams, executor) for session in sessions))
                else:
                    await together(*(session.play(helix.streams) for session in sessions))
            return summarize(sessions, time.perf_counter() - began)
        except StoreConnectionError:
            reachable = False
            raise
        finally:
            if reachable and url != DEFAULT_URL:  # that server and its data end with this process
                await delete_streams(helix, sessions, runs=runs)


async def delete_streams(helix: Helix, sessions: Sequence[Session], *, runs: bool = False) -> None:
    """Delete streams, and sessions of runs, from a server that stays; the TTL deletes what takes too long."""

    async def delete_all() -> None:
        for start in range(0, len(sessions), STREAMS_DELETED_AT_ONCE):
            part = sessions[start : start + STREAMS_DELETED_AT_ONCE]
            await asyncio.gather(*(helix.streams.delete_stream(session.stream_id) for session in part))
            if runs:
                await asyncio.gather(*(helix.state.delete_session(session.name) for session in part))

    with contextlib.suppress(HelixError, asyncio.TimeoutError):
        await asyncio.wait_for(delete_all(), CLEAN_UP_SECONDS)


async def stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def watch(sessions: Sequence[Session], began: float) -> None:
    """Show the progress on stderr until cancelled, if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:>9,.0f} chunks/s  {task.fields[resumes]:,} resumes"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        total = sum(len(session.events) for session in sessions)
        bar = progress.add_task(counted(len(sessions), "agent"), total=total, speed=0.0, resumes=0)
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            received = sum(session.received for session in sessions)
            resumes = sum(session.resumes for session in sessions)
            speed = received / (time.perf_counter() - began)
            progress.update(bar, completed=received, speed=speed, resumes=resumes, refresh=True)


def show(report: DemoReport, sessions: Sequence[Session]) -> None:
    """Print the summary, and on stderr the first stream error, if any."""
    table = Table(title="helix-fast demo", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "agents, one stream and one reader each": f"{report.sessions:,}",
        "chunks written": f"{report.chunks_written:,}",
        "chunks read": f"{report.chunks_read:,}",
        "readers dropped and resumed": f"{report.resumes:,}",
        "lost": f"{report.lost:,}",
        "duplicated": f"{report.duplicated:,}",
        "out of order": f"{report.out_of_order:,}",
        "chunks/s": f"{report.chunks_per_second:,.0f}",
        "latency write → read, p50": _milliseconds(report.latency_p50_ms),
        "latency write → read, p99": _milliseconds(report.latency_p99_ms),
        "every text identical, byte by byte": "yes" if report.text_identical else "NO",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    troubled = [session for session in sessions if session.trouble is not None]
    if troubled:
        first = troubled[0]
        broke = f"{counted(len(troubled), 'stream')} broke, the first {first.stream_id}: {first.trouble}"
        sys.stderr.write(f"helix-fast: {printable(broke)}\n")


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def demo(
    url: UrlOption = DEFAULT_URL,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="Text to stream, UTF-8. Default: Python's own help.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Agents that stream at once.")] = 200,
    rate: Annotated[float, typer.Option(min=0, help="Chunks per second of each agent; 0: no limit.")] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Seed of all random choices: the same seed disconnects readers at the same places.")
    ] = 0,
    agents: Annotated[
        bool, typer.Option("--agents", help="Run the agents by an executor, each in a session of its own.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Stream a real text through a real server, drop and resume its readers, and compare every byte.

    Exit code 0 only if nothing was lost, duplicated, out of order or changed.
    """
    if not math.isfinite(rate):
        fail(f"--rate {rate} is no rate", "give chunks a second, or 0")
    played = make_sessions(read_text(text), sessions, rate, seed)

    async def work() -> int:
        report = await play(url, played, quiet=json, runs=agents)
        if json:
            print_json(report)
        else:
            show(report, played)
        return 0 if report.faultless else DIFFERENT

    run(work)
