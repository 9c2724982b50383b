"""`helix-fast doctor`: checks the installation and the server."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from helix_fast import codec, connect
from helix_fast.embedded import find_server_binary
from helix_fast.errors import EmbeddedServerUnavailableError, HelixError, InvalidArgumentError

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, run
from .diagnosis import look_at_server
from .findings import Finding, show
from .output import print_json

FAULTY = 1


def look_at_installation() -> Iterator[Finding]:
    """The findings that need no server."""
    try:
        own = version("helix-fast")
    except PackageNotFoundError:
        own = "not installed"
    yield Finding("helix-fast", "ok", f"{own}, Python {platform.python_version()}, {platform.system()}")
    yield (
        Finding("codec", "ok", "compiled")
        if codec.ACCELERATED
        else Finding(
            "codec", "warning", "plain Python, slower", "install a wheel, or a C compiler and Python's headers"
        )
    )
    yield (
        Finding("event loop", "ok", "uvloop is installed")
        if importlib.util.find_spec("uvloop")
        else Finding("event loop", "warning", "asyncio, slower", "pip install 'helix-fast[uvloop]'")
    )
    try:
        yield Finding("embedded server", "ok", find_server_binary().rpartition("/")[2])
    except EmbeddedServerUnavailableError as error:
        yield Finding("embedded server", "warning", str(error), error.hint)


async def examine(url: str, prefix: str) -> list[Finding]:
    """All findings. An error that prevents further questions to the server is the last of them.

    Raises:
        InvalidArgumentError: ``url`` or ``prefix`` is invalid.
    """
    findings = list(look_at_installation())
    try:
        async with connect(url, key_prefix=prefix) as helix:
            findings.append(Finding("connection", "ok", "stands, and the credentials are right"))
            findings += [finding async for finding in look_at_server(helix, prefix, temporary=url == DEFAULT_URL)]
    except InvalidArgumentError:
        raise
    except HelixError as error:
        findings.append(Finding("connection", "error", str(error), error.hint, error.help_url))
    return findings


def doctor(url: UrlOption = DEFAULT_URL, prefix: PrefixOption = "helix:", json: JsonOption = False) -> None:
    """Check the installation and the server: connection, version, rights, cluster, memory, persistence, latency.

    Writes and deletes one stream under the prefix; changes nothing else. Exit code 1 if something does not work; a
    warning is no failure.
    """

    async def work() -> int:
        findings = await examine(url, prefix)
        if json:
            print_json(findings)
        else:
            show(findings)
        return FAULTY if any(finding.level == "error" for finding in findings) else 0

    run(work)
