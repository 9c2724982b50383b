"""`helix-fast bench`: chunks/s and latencies of the user's own server, by number of streams."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from helix_fast import connect
from helix_fast.errors import HelixError
from helix_fast.streams.chunks import TextDeltaChunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.writer import StreamWriter

from .common import DEFAULT_URL, JsonOption, UrlOption, fail, run, together
from .demo import percentile_ms
from .output import counted, print_json, printable

STREAMS: Final = (1, 10, 100, 1000)
TEXT: Final = "Hello, "
# The keys of a killed run expire after this time.
TTL_SECONDS: Final = 600
# The pace of a model, limited to LIVE_SHARE of the rate that the server has just reached.
CHUNKS_PER_SECOND: Final = 20.0
LIVE_SHARE: Final = 0.25
WRONG: Final = 1
CLEAN_UP_SECONDS: Final = 30.0


class BenchPoint(msgspec.Struct, kw_only=True):
    """The results for one number of streams; latencies in milliseconds.

    Attributes:
        chunks_per_second: at full speed, each writer awaiting each acknowledgement before its next write.
        ack_*: from ``write`` to the acknowledgement under that load.
        live_chunks_per_second: at the pace of a model, with a live reader for each stream.
        read_*: from ``write`` to the reader's loop at that pace.
    """

    streams: int
    chunks: int
    chunks_per_second: float
    ack_p50_ms: float | None
    ack_p95_ms: float | None
    ack_p99_ms: float | None
    live_chunks: int
    live_chunks_per_second: float
    read_p50_ms: float | None
    read_p95_ms: float | None
    read_p99_ms: float | None


class BenchReport(msgspec.Struct):
    """The keys of ``--json``."""

    chunk_bytes: int
    points: list[BenchPoint]


class WrongCountError(Exception):
    """The server or a reader has fewer or more chunks than were written: the results are void."""


class Load:
    """Both loads (full speed, live) for one number of streams, on its own streams.

    Args:
        streams: the store.
        count: streams at once.
        seconds: duration of each load.
    """

    def __init__(self, streams: RedisStreamManager, count: int, seconds: float) -> None:
        self._streams = streams
        self._names = [f"bench-{count}-{number}" for number in range(count)]
        self._seconds = seconds
        self._writers: list[StreamWriter] = []

    async def take(self) -> BenchPoint:
        """Run both loads; compare every count with the server's."""
        self._writers = list(
            await asyncio.gather(*(self._streams.create_writer(name, "bench", "assistant") for name in self._names))
        )
        try:
            acks, written, took = await self._full_speed()
            reads, live, live_took = await self._live(written / took)
        finally:
            await self._clean()
        acks.sort()
        reads.sort()
        return BenchPoint(
            streams=len(self._names),
            chunks=written,
            chunks_per_second=round(written / took, 1),
            ack_p50_ms=percentile_ms(acks, 0.50),
            ack_p95_ms=percentile_ms(acks, 0.95),
            ack_p99_ms=percentile_ms(acks, 0.99),
            live_chunks=live,
            live_chunks_per_second=round(live / live_took, 1),
            read_p50_ms=percentile_ms(reads, 0.50),
            read_p95_ms=percentile_ms(reads, 0.95),
            read_p99_ms=percentile_ms(reads, 0.99),
        )

    async def _full_speed(self) -> tuple[list[float], int, float]:
        """Latencies, chunks, seconds."""
        clock = time.perf_counter
        latencies: list[float] = []
        chunks = [0] * len(self._writers)
        end = clock() + self._seconds

        async def write(number: int) -> None:
            writer = self._writers[number]
            now = clock()
            while now < end or not chunks[number]:
                await writer.write(TextDeltaChunk(delta=TEXT))
                chunks[number] += 1
                before, now = now, clock()
                latencies.append(now - before)

        began = clock()
        await together(*map(write, range(len(self._writers))))
        took = clock() - began
        for name, count in zip(self._names, chunks, strict=True):
            await self._check(name, count)
        return latencies, sum(chunks), took

    async def _live(self, speed: float) -> tuple[list[float], int, float]:
        """Latencies, chunks, seconds."""
        clock = time.perf_counter
        count = len(self._names)
        pace = min(CHUNKS_PER_SECOND, LIVE_SHARE * speed / count)
        turns = max(2, int(self._seconds * pace))
        latencies: list[float] = []
        sent: list[list[float]] = [[] for _ in self._names]
        waiting = [asyncio.get_running_loop().create_future() for _ in self._names]

        async def read(number: int) -> None:
            before = await self._last(self._names[number])
            reader = await self._streams.create_resumable_reader(self._names[number], from_sequence=before)
            if reader is None:
                raise WrongCountError(f"stream {self._names[number]} is gone")
            waiting[number].set_result(None)
            got = 0
            async with reader:
                async for stored in reader:
                    latencies.append(clock() - sent[number][stored.sequence - before - 1])
                    got += 1
            if got != turns:
                raise WrongCountError(f"a reader got {got} chunks of {turns}")

        async def write(number: int) -> None:
            await waiting[number]
            begin = clock() + number / count / pace
            for turn in range(turns):
                wait = begin + turn / pace - clock()
                if wait > 0:
                    await asyncio.sleep(wait)
                sent[number].append(clock())
                await self._writers[number].write(TextDeltaChunk(delta=TEXT))
            await self._streams.end_stream(self._names[number])

        await together(*map(read, range(count)), *map(write, range(count)))
        took = max(times[-1] for times in sent) - min(times[0] for times in sent)
        return latencies, turns * count, took + 1 / pace / count

    async def _last(self, name: str) -> int:
        info = await self._streams.get_info(name)
        return -1 if info is None else info.last_sequence

    async def _check(self, name: str, count: int) -> None:
        last = await self._last(name)
        if last != count:
            raise WrongCountError(f"the server holds {last} chunks of stream {name}, {count} were acknowledged")

    async def _clean(self) -> None:
        async def clean() -> None:
            await asyncio.gather(*(writer.close() for writer in self._writers), return_exceptions=True)
            await asyncio.gather(*map(self._streams.delete_stream, self._names))

        # If the server is unreachable, the TTL deletes the streams.
        with contextlib.suppress(HelixError, asyncio.TimeoutError):
            await asyncio.wait_for(clean(), CLEAN_UP_SECONDS)


async def measure(
    url: str, counts: Sequence[int], seconds: float, say: Callable[[str], None] = lambda _text: None
) -> BenchReport:
    """Measure on the server of ``url``, under a random key prefix, and delete the keys.

    Args:
        counts: numbers of streams.
        seconds: duration of each load; each number of streams has two.
        say: called with a progress line before each number of streams.

    Raises:
        WrongCountError: a chunk was lost or duplicated.
        StoreConnectionError and others: as ``connect`` and the stores raise them.
    """
    prefix = f"helix-bench:{secrets.token_hex(4)}:"
    points = []
    async with connect(url, key_prefix=prefix, streams={"ttl": TTL_SECONDS}) as helix:
        helix.streams.on("error", lambda _error: None)  # the writes raise them
        for count in counts:
            say(counted(count, "stream"))
            points.append(await Load(helix.streams, count, seconds).take())
    size = len(
        msgspec.json.encode(TextDeltaChunk(delta=TEXT, agent_id="bench", agent_type="assistant", timestamp=10**12))
    )
    return BenchReport(chunk_bytes=size, points=points)


def show(report: BenchReport) -> Table:
    """The report as a table."""
    table = Table(
        title=f"helix-fast bench, chunks of {report.chunk_bytes} bytes",
        title_justify="left",
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
    )
    names = (
        "streams",
        "\nchunks/s",
        "ack ms\np50",
        "\np95",
        "\np99",
        "live\nchunks/s",
        "read ms\np50",
        "\np95",
        "\np99",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for point in report.points:
        table.add_row(
            f"{point.streams:,}",
            f"{point.chunks_per_second:,.0f}",
            *map(_milliseconds, (point.ack_p50_ms, point.ack_p95_ms, point.ack_p99_ms)),
            f"{point.live_chunks_per_second:,.0f}",
            *map(_milliseconds, (point.read_p50_ms, point.read_p95_ms, point.read_p99_ms)),
        )
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw(report: BenchReport, path: Path) -> None:
    """Chunks/s by number of streams, and below them the latencies. Needs matplotlib.

    Raises:
        OSError, ValueError: the file cannot be written, or its suffix is no image format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    counts = [point.streams for point in report.points]
    rates = [point.chunks_per_second for point in report.points]
    upper.plot(counts, rates, marker="o")
    for count, rate in zip(counts, rates, strict=True):
        upper.annotate(f"{rate:,.0f}", (count, rate), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    upper.set_title(f"chunks/s (of {report.chunk_bytes} bytes, each acknowledged) by number of streams")
    for what, color in (("ack", "tab:blue"), ("read", "tab:orange")):
        for part, line in (("p50", "-"), ("p99", "--")):
            values = [getattr(point, f"{what}_{part}_ms") for point in report.points]
            lower.plot(counts, values, marker="o", color=color, linestyle=line, label=f"{what} {part}")
    lower.set_title("latency (ms): ack under full load, read by a live reader at the pace of models")
    lower.set_xlabel("streams")
    lower.set_yscale("log")
    lower.legend()
    for axes in (upper, lower):
        axes.set_xscale("log")
        axes.set_xticks(counts)
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.yaxis.set_major_formatter("{x:,.10g}")
    upper.set_ylim(0, max(rates, default=1.0) * 1.15)
    figure.savefig(path, dpi=110)


def bench(
    url: UrlOption = DEFAULT_URL,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure each load for a quarter of a second, not for three seconds.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw chunks/s and latencies by number of streams into this PNG file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure throughput and latency on a server, with 1, 10, 100 and 1 000 streams.

    On keys of its own, which it deletes. Exit code 0 only if every chunk was stored and read once.
    """
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs matplotlib", "pip install 'helix-fast[plot]'")
    if plot is not None and not plot.parent.is_dir():
        fail(f"cannot write {plot}: no such directory", "make it first")
    quiet = json or not sys.stderr.isatty()

    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(text + "\n")

    async def work() -> int:
        try:
            report = await measure(url, STREAMS, 0.25 if quick else 3.0, say)
        except WrongCountError as error:
            sys.stderr.write(printable(f"helix-fast: {error}\n"))
            return WRONG
        if plot is not None:
            try:
                draw(report, plot)
            except (OSError, ValueError) as error:
                fail(f"cannot write {plot}: {error}")
        if json:
            print_json(report)
        else:
            Console().print(show(report))
        return 0

    run(work)
