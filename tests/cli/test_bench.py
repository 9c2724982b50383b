"""`helix-fast bench`: that it counts what it did, leaves nothing behind, and says so in every form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis.asyncio as redis

from helix_fast import connect
from helix_fast.cli.bench import BenchPoint, BenchReport, Load, WrongCountError, draw, measure

pytestmark = pytest.mark.slow

KEYS = {
    "streams", "chunks", "chunks_per_second", "ack_p50_ms", "ack_p95_ms", "ack_p99_ms", "live_chunks",
    "live_chunks_per_second", "read_p50_ms", "read_p95_ms", "read_p99_ms",
}  # fmt: skip


async def keys_left(url: str) -> int:
    async with redis.Redis.from_url(url) as client:
        return int(await client.dbsize())


async def test_every_number_of_streams_is_measured_and_nothing_stays(server_url: str) -> None:
    told: list[str] = []
    report = await measure(server_url, (1, 7), 0.05, told.append)
    assert told == ["1 stream", "7 streams"]
    assert [point.streams for point in report.points] == [1, 7]
    for point in report.points:
        assert point.chunks >= point.streams
        assert point.live_chunks >= 2 * point.streams
        assert point.chunks_per_second > 0
        assert point.ack_p50_ms is not None
        assert point.ack_p99_ms is not None
        assert 0 < point.ack_p50_ms <= point.ack_p99_ms
        assert point.read_p50_ms is not None
    assert await keys_left(server_url) == 0


async def test_chunks_of_somebody_else_are_noticed_and_nothing_stays(server_url: str) -> None:
    async with connect(server_url) as helix:
        async with await helix.streams.create_writer("bench-2-1", "intruder") as writer:
            await writer.write({"type": "text_delta", "delta": "not of the benchmark"})
        with pytest.raises(WrongCountError, match="bench-2-1"):
            await Load(helix.streams, 2, 0.01).take()
    assert await keys_left(server_url) == 0


async def test_live_load_keeps_the_pace_of_models(server_url: str) -> None:
    report = await measure(server_url, (2,), 0.5)
    assert report.points[0].live_chunks == 20
    assert report.points[0].live_chunks_per_second <= 45


def test_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = [
        BenchPoint(
            streams=n, chunks=n, chunks_per_second=n, live_chunks=n, live_chunks_per_second=n,
            ack_p50_ms=1.0, ack_p95_ms=1.0, ack_p99_ms=2.0, read_p50_ms=1.0, read_p95_ms=1.0, read_p99_ms=2.0,
        )
        for n in (1, 10)
    ]  # fmt: skip
    draw(BenchReport(113, points), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_command_prints_json_with_every_number(server_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "helix_fast.cli", "bench", "--quick", "--json", "--url", server_url],
        capture_output=True, text=True, timeout=100, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    wire = json.loads(done.stdout)
    assert [point["streams"] for point in wire["points"]] == [1, 10, 100, 1000]
    assert all(set(point) == KEYS for point in wire["points"])


def test_plot_into_no_directory_is_told_in_one_line() -> None:
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, "-m", "helix_fast.cli", "bench", "--plot", "/nowhere/at/all.png"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "/nowhere/at/all.png" in done.stderr
