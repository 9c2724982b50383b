"""Plain servers for tests: on a TCP port or a unix socket, killed, frozen and started again at the same place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from helix_fast.embedded import find_server_binary

from .waiting import until

LONGEST_SOCKET_PATH = 100


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One server program. `directory` holds its data, its log and, without `tcp`, its socket.

    Args:
        directory: existing directory; for a unix socket its path must be short.
        tcp: listen on 127.0.0.1, on a free port that stays the same over restarts.
        options: settings as in `redis.conf`, over ours (no persistence).
        binary: server program; the packaged Valkey by default.
    """

    def __init__(
        self, directory: Path, *, tcp: bool = False, options: Mapping[str, str] | None = None, binary: str | None = None
    ) -> None:
        self.directory = directory
        self.port: int = free_port() if tcp else 0
        self.socket_path: str = "" if tcp else str(directory / "s.sock")
        assert len(self.socket_path) <= LONGEST_SOCKET_PATH, f"too long for a socket: {self.socket_path}"
        self._binary = binary or find_server_binary()
        self._options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(directory),
            "save": "",
            "appendonly": "no",
            **({} if tcp else {"unixsocket": self.socket_path, "unixsocketperm": "700"}),
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return "unix://" + quote(self.socket_path) if self.socket_path else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return (self.directory / "server.log").read_text("utf-8", "replace")

    def move_to(self, port: int) -> None:
        """Listen on another port, from the next start on."""
        self.port = port
        self._options["port"] = str(port)

    def command(self) -> list[str]:
        """What is run."""
        return [self._binary, *(part for name, value in self._options.items() for part in (f"--{name}", value))]

    async def start(self) -> None:
        assert not self.running, "the server runs already"
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A killed test run leaves no server behind; its own session keeps Ctrl-C away from it.
                preexec_fn=_dying_with_us(),  # noqa: PLW1509
                start_new_session=True,
            )
        await until(lambda: not self.running or self.answers(), seconds=30, what="the server's first answer")
        assert self.running, f"the server did not start: {self.log()[-500:]}"

    def answers(self) -> bool:
        try:
            reply = self.ask(b"PING")
        except OSError:
            return False
        return reply.startswith((b"+PONG", b"-NOAUTH"))

    def ask(self, command: bytes, *, timeout: float = 5.0) -> bytes:
        """Send one inline command over a connection of its own; returns the first bytes of the raw reply."""
        with socket.socket(socket.AF_UNIX if self.socket_path else socket.AF_INET) as connection:
            connection.settimeout(timeout)
            connection.connect(self.socket_path or ("127.0.0.1", self.port))
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)

    def kill(self) -> None:
        """`kill -9`, and wait for the end: nothing is saved, no connection is said goodbye to."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Start again on the same address and directory after `kill`, or after a proper stop where it still runs."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self.resume()
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _dying_with_us() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    from helix_fast.embedded.supervisor import die_with_parent

    parent = os.getpid()
    return lambda: die_with_parent(parent, signal.SIGKILL)
