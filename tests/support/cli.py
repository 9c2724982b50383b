"""The command line in a process of its own, forked from one that has imported it: an import takes most of a second."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``helix-fast`` with these arguments; ``env`` is added to the environment.

    What Python itself reads when it starts, its encodings among it, is without effect: see ``new_interpreter``.
    """
    with tempfile.TemporaryDirectory(prefix="hf-") as folder, socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(_parent())
        link.sendall(json.dumps([folder, arguments, {**os.environ, **(env or {})}]).encode() + b"\n")
        status = link.recv(16)
        out, err = (Path(folder, name).read_text("utf-8") for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(["helix-fast", *arguments], int(status), out, err)


def new_interpreter(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same in a process that starts as a user's."""
    return subprocess.run(
        [sys.executable, "-m", "helix_fast.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


@cache
def _parent() -> str:
    """Socket of the process that forks; it ends with this one."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    path = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hf-")), "s"))
    process = stack.enter_context(
        subprocess.Popen([sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    return path


def _serve(path: str) -> None:
    """Fork for each connection, and return in the fork that shall be the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    if os.fork():
        os.write(1, b"listening\n")
        os.read(0, 1)  # until the tests end
        os.killpg(0, signal.SIGKILL)
    while True:
        link, _ = listener.accept()
        if not os.fork():
            break
        link.close()
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with link.makefile("r", encoding="utf-8") as lines:
        folder, arguments, environment = json.loads(lines.readline())
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        link.sendall(b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    link.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["helix-fast", *arguments]
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, f"{folder}/stdout", os.O_WRONLY | os.O_CREAT),
        (2, f"{folder}/stderr", os.O_WRONLY | os.O_CREAT),
    ):
        file = os.open(name, flags, 0o600)
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    os.setpgid(0, 0)
    from helix_fast.cli import main
    from helix_fast.cli.app import app  # noqa: F401

    for name in ("pydantic.type_adapter", "pydantic.json_schema", "pydoc_data.topics", "uvloop"):  # by commands
        with contextlib.suppress(ImportError):
            import_module(name)
    _serve(sys.argv[1])
    main()
