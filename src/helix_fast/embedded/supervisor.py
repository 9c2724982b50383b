"""The supervisor: a small process that starts a private server, and stops it with its last user.

It runs as ``python -I -S supervisor.py``, so only the standard library may enter. A user is a connection: the
kernel closes it however the user's process ends, ``kill -9`` too. The directory's lock is held by this process *and* by
the server it started, so a free lock means that neither lives. Users and supervisor exchange one JSON object a line:
the first user sends its request; the answer is ``ready``, ``failed`` or ``busy`` (another supervisor has the
directory); ``bye`` asks the supervisor to close the connection when everything has been stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

SUPERVISOR_SOCKET = "supervisor.sock"
SERVER_SOCKET = "server.sock"
SERVER_LOG = "server.log"
# Two names: the clean-up after a crash must never delete a directory whose data are kept.
KEPT_LOCK = "lock"
TEMPORARY_LOCK = "temporary.lock"
TEMPORARY_PREFIX = "helix-fast-embedded-"
# sun_path holds 108 bytes on Linux, 104 on macOS, the closing NUL included.
LONGEST_SOCKET_PATH = 103
POLL_SECONDS = 0.005
# On Linux the kernel ends a server whose supervisor was killed; on other systems the next one ends it after this time.
ORPHAN_SECONDS = 1.0
KEPT_STOP_SECONDS = 120.0
PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """Sent to the user when the server cannot be started."""


def socket_directory(directory: Path) -> Path:
    """Return a name of `directory` short enough for a unix socket in it: itself, or a symbolic link made for it.

    Raises OSError if the link cannot be made, or another user has made it.
    """
    if len(os.fsencode(directory / SUPERVISOR_SOCKET)) <= LONGEST_SOCKET_PATH:
        return directory
    link = temporary_root() / f"helix-fast-{os.getuid()}-{sha256(os.fsencode(directory)).hexdigest()[:16]}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(directory)
    if link.lstat().st_uid != os.getuid() or link.readlink() != directory:
        raise FileExistsError(f"{link} is in the way: the short name of {directory} belongs there")
    return link


def temporary_root() -> Path:
    longest = Path(tempfile.gettempdir(), TEMPORARY_PREFIX + "x" * 8, SUPERVISOR_SOCKET)
    fits = len(os.fsencode(longest)) <= LONGEST_SOCKET_PATH
    return longest.parents[1] if fits else Path("/tmp")  # noqa: S108 - see mkdtemp


def connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(str(path))
        return connection
    connection.close()
    return None


def try_lock(path: Path, *, create: bool) -> int | None:
    """Open and lock the file at `path`; returns the descriptor that holds the lock, or None if it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove_stale_directories() -> None:
    """Remove temporary directories whose lock is free: their supervisor and server are both gone."""
    for directory in temporary_root().glob(TEMPORARY_PREFIX + "*"):
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            lock = try_lock(directory / TEMPORARY_LOCK, create=False)
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)


def die_with_parent(parent: int, signum: int) -> None:
    """Ask Linux to send `signum` to this process when its parent ends; runs between fork and exec."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request
        os._exit(1)


class Supervisor:
    """One server, its directory, its users."""

    def __init__(self, first: socket.socket, request: dict[str, Any]) -> None:
        self._binary: str = request["binary"]
        self._options: dict[str, str] = request["options"]
        self._kept = None if request["directory"] is None else Path(request["directory"])
        self._deadline = time.monotonic() + float(request["timeout"])
        self._directory = Path()
        self._sockets = Path()
        self._lock = -1
        self._server: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._ready = False
        self._terminated = False
        self._users: dict[socket.socket, int | None] = {}
        self._leaving: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._add_user(first)

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake_write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the loop
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_terminated", True))
        try:
            if self._own_directory():
                self._start_server()
                self._serve()
        except (StartError, OSError) as error:
            for connection in self._users:
                self._send(connection, {"failed": str(error)})
        finally:
            self._stop()

    def _add_user(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ)
        self._users[connection] = self._watch_process(connection)
        # Ask the server: one that was just killed may not be reaped yet. Without an answer the user retries.
        if self._ready and self._answers(silence=True):
            self._greet(connection)

    def _watch_process(self, connection: socket.socket) -> int | None:
        """Watch the user's process too: a child it forked would keep the connection open after its death."""
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            return None
        try:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            watched = os.pidfd_open(struct.unpack("3i", credentials)[0])
        except OSError:
            return None
        self._selector.register(watched, selectors.EVENT_READ, connection)
        return watched

    def _remove_user(self, connection: socket.socket, *, leaving: bool = False) -> None:
        watched = self._users.pop(connection)
        self._selector.unregister(connection)
        if watched is not None:
            self._selector.unregister(watched)
            os.close(watched)
        if leaving and not self._users:
            self._leaving.append(connection)  # closed at the very end: that is the answer to `bye`
        else:
            connection.close()

    def _on_user(self, connection: socket.socket) -> None:
        said = b""
        with contextlib.suppress(OSError):
            said = connection.recv(4096)
        self._remove_user(connection, leaving=bool(said))

    def _greet(self, connection: socket.socket) -> None:
        assert self._server is not None
        path, pid = str(self._sockets / SERVER_SOCKET), self._server.pid
        self._send(connection, {"ready": path, "directory": str(self._directory), "pid": pid})

    def _send(self, connection: socket.socket, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            connection.send(json.dumps(message).encode() + b"\n")

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake_read:
                self._wake_read.recv(4096)
            elif key.data is not None:  # the process behind a connection ended
                if key.data in self._users:
                    self._remove_user(key.data)
            elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._users:
                self._on_user(key.fileobj)

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._add_user(connection)

    def _own_directory(self) -> bool:
        """Lock the directory; False if another supervisor has it, or if the last user has left."""
        if self._kept is None:
            while self._lock == -1:
                self._directory = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=temporary_root()))
                lock = try_lock(self._directory / TEMPORARY_LOCK, create=True)
                # None: another process took it for stale before it was locked, and removes it.
                self._lock = -1 if lock is None else lock
        else:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept.chmod(0o700)
            self._directory = self._kept
            if not self._lock_kept(self._kept):
                return False
        self._sockets = socket_directory(self._directory)
        for name in (SUPERVISOR_SOCKET, SERVER_SOCKET):  # of a supervisor that was killed
            (self._sockets / name).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._sockets / SUPERVISOR_SOCKET))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        return True

    def _lock_kept(self, directory: Path) -> bool:
        alone_since = time.monotonic()
        while self._users and not self._terminated:
            lock = try_lock(directory / KEPT_LOCK, create=True)
            if lock is not None:
                self._lock = lock
                return True
            sockets = socket_directory(directory)
            other = connect(sockets / SUPERVISOR_SOCKET)
            if other is not None:
                other.close()
                for connection in self._users:
                    self._send(connection, {"busy": True})
                return False
            if time.monotonic() > self._deadline:
                raise StartError(f"{directory} is still in use by a server that is stopping")
            if time.monotonic() - alone_since > ORPHAN_SECONDS:
                alone_since = time.monotonic()
                orphan = connect(sockets / SERVER_SOCKET)
                if orphan is not None:
                    with orphan, contextlib.suppress(OSError):
                        orphan.sendall(b"SHUTDOWN\r\n")
            self._wait(POLL_SECONDS)
        return False

    def _configuration(self) -> bytes:
        kept = self._kept is not None
        settings = {
            "port": "0",
            "unixsocket": str(self._sockets / SERVER_SOCKET),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if kept else "no",
            # Written to the kernel before each reply, to the disk every second: a killed server loses nothing,
            # a machine without power at most the last second.
            "appendfsync": "everysec",
            **self._options,
        }
        quoted = {"unixsocket", "dir"}
        lines = [
            f"{name} {json.dumps(value, ensure_ascii=False) if name in quoted else value}"
            for name, value in settings.items()
        ]
        return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n"

    def _start_server(self) -> None:
        parent = os.getpid()
        death = signal.SIGKILL if self._kept is None else signal.SIGTERM
        with (self._directory / SERVER_LOG).open("wb") as log:
            try:
                self._server = subprocess.Popen(
                    [self._binary, "-"],  # the configuration on stdin: no option, and no password in it, shows in `ps`
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._directory,
                    pass_fds=(self._lock,),
                    preexec_fn=lambda: die_with_parent(parent, death),  # noqa: PLW1509 - one thread only
                )
            except OSError as error:
                raise StartError(f"{self._binary} does not run: {error.strerror or error}") from error
        assert self._server.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._server.stdin as pipe:
            pipe.write(self._configuration())

    def _serve(self) -> None:
        assert self._server is not None
        while (self._users or self._accepted_late()) and not self._terminated:
            if self._server.poll() is not None:
                if not self._ready:
                    raise StartError(self._last_log_line())
                return
            if self._ready:
                self._wait(None)
            elif self._answers():
                self._ready = True
                for connection in self._users:
                    self._greet(connection)
                if self._kept is None:  # now, while no user waits
                    remove_stale_directories()
            elif time.monotonic() > self._deadline:
                raise StartError("it does not answer: " + self._last_log_line())
            else:
                self._wait(POLL_SECONDS)

    def _accepted_late(self) -> bool:
        """Accept users that joined while the last one left; those that leave meanwhile need not wait for the end."""
        self._accept()
        while self._users and self._leaving:
            self._leaving.pop().close()
        return bool(self._users)

    def _answers(self, *, silence: bool = False) -> bool:
        """Return whether the server takes commands; `silence` if it is there but does not answer in time."""
        connection = connect(self._sockets / SERVER_SOCKET)
        if connection is None:
            return False
        connection.settimeout(0.25)
        with connection:
            try:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
            except TimeoutError:
                return silence
            except OSError:
                return False
        return bool(answer) and not answer.startswith(b"-LOADING")

    def _last_log_line(self) -> str:
        said = (self._directory / SERVER_LOG).read_bytes().decode("utf-8", "replace").strip()
        return said.splitlines()[-1].strip() if said else "it ended without a word"

    def _stop(self) -> None:
        if self._listener is not None:
            # First: from here on a new user finds no socket, and starts a supervisor that waits for our lock.
            (self._sockets / SUPERVISOR_SOCKET).unlink(missing_ok=True)
            self._listener.close()
            if self._server is not None:
                self._stop_server(self._server)
            (self._sockets / SERVER_SOCKET).unlink(missing_ok=True)
            if self._sockets != self._directory:
                self._sockets.unlink(missing_ok=True)
        if self._kept is None and self._lock != -1:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _stop_server(self, server: subprocess.Popen[bytes]) -> None:
        if self._kept is not None:
            # Repeated: a server that is writing its first append-only file refuses to shut down.
            give_up = time.monotonic() + KEPT_STOP_SECONDS
            while server.poll() is None and time.monotonic() < give_up:
                server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.5)
        server.kill()  # no effect after its end
        server.wait()


def main() -> NoReturn:
    """Leave the user's process tree, then serve until the last user is gone."""
    first = socket.socket(fileno=os.dup(0))  # our stdin is the user's connection
    with first.makefile("rb") as lines:
        request = json.loads(lines.readline())
    if os.fork():
        os._exit(0)  # the user waits for this process only: it has no other child of ours to reap
    for inherited in (0, 2):  # or the connection would stay open, and the user would wait for its end
        os.dup2(os.open(os.devnull, os.O_RDWR), inherited)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o077)
    Supervisor(first, request).run()
    os._exit(0)


if __name__ == "__main__":
    main()
