"""The demo as people run it: processes of its own, on real servers, also when it or its server is hurt half-way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helix_fast import connect
from helix_fast.embedded.supervisor import TEMPORARY_PREFIX
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until

pytestmark = pytest.mark.faults

KEYS = [
    "sessions", "chunks_written", "chunks_read", "resumes", "lost", "duplicated", "out_of_order",
    "chunks_per_second", "latency_p50_ms", "latency_p99_ms", "text_identical",
]  # fmt: skip
TEXT = 'Zwölf Boxkämpfer jagen Viktor — 日本語, emoji 🎈🎈, tabs\tand\r\nline breaks, "quotes" and \\ too.\n' * 12
MOST_CONNECTIONS = 10
DEFAULT_STREAM_LENGTH = 10_000


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Demo:
    """One `helix-fast demo` in a process of its own, with a temporary directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helix_fast.cli", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory)},
        )

    def finish(self, seconds: float = 60) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=seconds)
        return self.process.returncode, stdout, stderr

    def report(self, seconds: float = 60) -> dict[str, Any]:
        code, stdout, stderr = self.finish(seconds)
        assert (code, stderr) == (0, "")
        report: dict[str, Any] = json.loads(stdout)
        return report

    def directories(self) -> list[Path]:
        return list(self.directory.glob(TEMPORARY_PREFIX + "*"))

    async def until_serving(self) -> list[psutil.Process]:
        """Wait for the demo's server; returns it and its supervisor."""
        found: list[psutil.Process] = []

        def serving() -> bool:
            found[:] = [
                process
                for process in psutil.process_iter(["cmdline", "cwd"])
                if process.pid != self.process.pid
                and any(str(path) in f"{process.info['cmdline']}{process.info['cwd']}" for path in self.directories())
            ]
            return bool(found)

        await until(serving, what="the demo's server")
        supervisors = {process.ppid() for process in found} - {1}
        assert supervisors
        return found + [psutil.Process(pid) for pid in supervisors]

    async def until_gone(self, processes: list[psutil.Process]) -> None:
        """Within 5 seconds, all of it together."""

        def gone() -> bool:
            return not self.directories() and not any(map(alive, processes))

        await until(gone, seconds=5, what="the end of the server and its directory")


@pytest.fixture
def started() -> Iterator[list[Demo]]:
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        with demo.process:
            demo.process.kill()


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return str(path)


def assert_faultless(report: dict[str, Any], sessions: int) -> None:
    assert list(report) == KEYS
    assert report["sessions"] == sessions
    assert (report["lost"], report["duplicated"], report["out_of_order"]) == (0, 0, 0)
    assert report["text_identical"] is True
    assert report["chunks_read"] == report["chunks_written"]
    assert report["resumes"] >= sessions
    assert 0 < report["latency_p50_ms"] <= report["latency_p99_ms"]
    assert report["chunks_per_second"] > 0


def keys_stored(server: ServerProcess) -> int:
    return int(server.ask(b"DBSIZE").strip(b":\r\n"))


def test_small_run_prints_one_json_object_and_reads_every_byte(short_path: Path, text_file: str) -> None:
    report = Demo(short_path, "--json", "--sessions", "20", "--text", text_file).report()
    assert_faultless(report, 20)


async def test_agents_run_by_an_executor_lose_nothing_and_leave_nothing(
    short_path: Path, text_file: str, fresh_server: ServerProcess
) -> None:
    assert_faultless(Demo(short_path, "--agents", "--json", "--sessions", "20", "--text", text_file).report(), 20)
    demo = Demo(short_path, "--agents", "--json", "--sessions", "5", "--text", text_file, "--url", fresh_server.url)
    assert_faultless(await asyncio.to_thread(demo.report), 5)
    left = fresh_server.ask(b"KEYS *")  # what is known of calls stays for two minutes
    assert left.count(b"helix-demo") == left.count(b":operations:")


def test_summary_for_people_names_what_was_counted(short_path: Path, text_file: str) -> None:
    code, stdout, stderr = Demo(short_path, "--sessions", "3", "--text", text_file).finish()
    assert (code, stderr) == (0, "")
    for words in ("chunks written", "resumed", "lost", "duplicated", "out of order", "chunks/s", "p50", "p99", "yes"):
        assert words in stdout


def test_rate_paces_the_agents(short_path: Path) -> None:
    text = short_path / "text.txt"
    text.write_text("one two three four five six seven eight nine ten")
    began = time.monotonic()
    report = Demo(short_path, "--json", "--sessions", "2", "--rate", "10", "--text", str(text)).report()
    assert_faultless(report, 2)
    assert time.monotonic() - began > 0.09 * report["chunks_written"] / 2


@pytest.mark.thorough
def test_default_run_of_200_sessions_writes_100_000_chunks_and_loses_nothing(short_path: Path) -> None:
    demo = Demo(short_path, "--json")
    report = demo.report(seconds=110)
    assert_faultless(report, 200)
    assert report["chunks_written"] >= 100_000
    assert not demo.directories()


@pytest.mark.parametrize("sessions", [500, pytest.param(2000, marks=pytest.mark.thorough)])
async def test_sessions_share_at_most_10_connections_and_leave_no_keys(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo], sessions: int
) -> None:
    text = short_path / "text.txt"
    text.write_text("one two three four five six seven eight nine ten")
    demo = Demo(short_path, "--json", "--sessions", str(sessions), "--text", str(text), "--url", fresh_server.url)
    started.append(demo)
    most = 0

    def ended() -> bool:
        nonlocal most
        clients = fresh_server.ask(b"CLIENT LIST", timeout=30).split(b"\n")
        most = max(most, sum(line.startswith(b"id=") for line in clients) - 1)  # without the one that asks
        return demo.process.poll() is not None

    await until(ended, seconds=110, what="the end of the demo")
    assert_faultless(demo.report(), sessions)
    assert 0 < most <= MOST_CONNECTIONS
    assert keys_stored(fresh_server) == 0


async def test_kill_9_leaves_no_server_and_no_directory(short_path: Path, started: list[Demo]) -> None:
    demo = Demo(short_path, "--json", "--rate", "20")
    started.append(demo)
    serving = await demo.until_serving()
    demo.process.kill()
    demo.process.wait(10)
    await demo.until_gone(serving)


async def test_ctrl_c_exits_130_without_a_traceback_and_leaves_no_server(short_path: Path, started: list[Demo]) -> None:
    demo = Demo(short_path, "--rate", "20")
    started.append(demo)
    serving = await demo.until_serving()
    demo.process.send_signal(signal.SIGINT)
    assert demo.finish(10) == (130, "", "")
    await demo.until_gone(serving)


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted_run_deletes_its_streams_from_a_server_that_stays(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo], signal_number: int, code: int
) -> None:
    demo = Demo(short_path, "--rate", "20", "--url", fresh_server.url)
    started.append(demo)
    await until(lambda: keys_stored(fresh_server) >= 400, what="the demo's streams")
    demo.process.send_signal(signal_number)
    assert demo.finish(15) == (code, "", "")
    assert keys_stored(fresh_server) == 0


async def test_every_key_has_a_ttl_while_the_demo_runs(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo]
) -> None:
    demo = Demo(short_path, "--sessions", "10", "--rate", "20", "--url", fresh_server.url)
    started.append(demo)
    await until(lambda: keys_stored(fresh_server) >= 20, what="the demo's streams")
    keys = [line for line in fresh_server.ask(b"KEYS *").split(b"\r\n") if line.startswith(b"helix-demo:")]
    assert len(keys) >= 20
    assert all(int(fresh_server.ask(b'TTL "' + key + b'"').strip(b":\r\n")) > 0 for key in keys)


async def test_nothing_is_trimmed_that_a_reader_may_still_want(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo]
) -> None:
    demo = Demo(short_path, "--sessions", "1", "--url", fresh_server.url)
    started.append(demo)
    await until(lambda: keys_stored(fresh_server) >= 2, what="the demo's stream")
    key = fresh_server.ask(b"KEYS *:meta").split(b"\r\n")[2].decode()
    async with connect(fresh_server.url, key_prefix=key.partition("stream:")[0]) as helix:
        kept = 0
        while kept <= DEFAULT_STREAM_LENGTH * 1.2:
            assert demo.process.poll() is None
            info = await helix.streams.get_info("agent-00000")
            assert info is not None
            kept = info.chunk_count
            assert info.first_sequence == 1


async def test_streams_that_vanish_half_way_exit_1(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo]
) -> None:
    demo = Demo(short_path, "--json", "--sessions", "10", "--rate", "50", "--url", fresh_server.url)
    started.append(demo)
    await until(lambda: fresh_server.ask(b"KEYS *:meta").count(b":meta") == 10, what="the demo's streams")
    fresh_server.ask(b"FLUSHALL")
    code, stdout, _stderr = demo.finish(60)
    assert code == 1
    assert json.loads(stdout)["text_identical"] is False


async def test_server_that_dies_half_way_is_told_in_one_line(
    short_path: Path, fresh_server: ServerProcess, started: list[Demo]
) -> None:
    demo = Demo(short_path, "--json", "--sessions", "10", "--rate", "50", "--url", fresh_server.url)
    started.append(demo)
    await until(lambda: keys_stored(fresh_server) >= 20, what="the demo's streams")
    fresh_server.kill()
    code, stdout, stderr = demo.finish(60)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("helix-fast: ")
    assert stderr.count("\n") == 1
    assert f"127.0.0.1:{fresh_server.port}" in stderr
