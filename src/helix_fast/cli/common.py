"""What the commands share: options, the event loop, error output."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, NoReturn

import typer

from helix_fast.errors import HelixError

from .output import printable

DEFAULT_URL = "embedded://"
NOTHING_THERE = "embedded:// is a new, empty server each time: name the server of your program by --url or HELIX_URL"
USAGE_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="HELIX_URL",
        help="URL of the server: redis://, rediss://, unix://, redis+cluster://, redis+sentinel:// or embedded://.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
PrefixOption = Annotated[str, typer.Option("--prefix", help="Prefix of the keys.")]


def examples(*lines: str) -> str:
    """The examples at the end of a command's ``--help``, one a line, not wrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def where_else(url: str) -> str:
    """The hint for an id under which nothing is stored."""
    return NOTHING_THERE if url == DEFAULT_URL else "check the id, --prefix and --url"


def fail(message: str, hint: str = "", code: int = USAGE_ERROR, *, see: str = "") -> NoReturn:
    """Print the error, its hint and the page about it as one line on stderr, and exit with ``code``."""
    text = message if not hint or hint in message else f"{message.rstrip('.')}; {hint}"
    text += f" ({see})" if see else ""
    # An error quotes what others have stored.
    sys.stderr.write("helix-fast: " + printable(" ".join(text.split())) + "\n")
    raise typer.Exit(code)


def run(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a command's coroutine, on uvloop where it is installed, and exit with the code that it returns.

    A HelixError becomes one line on stderr and exit code 2, Ctrl-C exit code 130.
    """
    # Background errors of the stores are the command's to print; no log line may come between its output.
    logging.getLogger("helix_fast").addHandler(logging.NullHandler())
    try:
        code = _run_loop(_until_terminated(work))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    except HelixError as error:
        fail(str(error), error.hint, see=error.help_url)
    raise typer.Exit(code)


def _run_loop(work: Coroutine[Any, Any, int]) -> int:
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        return uvloop.run(work)
    return asyncio.run(work)


async def _until_terminated(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run it; SIGTERM cancels it as Ctrl-C does, so that it cleans up."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work()


async def together(*work: Awaitable[None]) -> None:
    """Wait for all. The first failure, or a cancellation, cancels the others and waits for their end."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
