"""`helix-fast doctor`: checks the installation and the server."""

from __future__ import annotations

import importlib.util
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import msgspec
import typer

from helix_fast import codec, connect
from helix_fast.embedded import find_server_binary
from helix_fast.errors import EmbeddedServerUnavailableError, HelixError, InvalidArgumentError, StoreResponseError

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, run
from .diagnosis import kind_of, look_at_server, settings_of
from .findings import Finding, show
from .output import print_json, printable

FAULTY = 1
PROBE_SECONDS: Final = 2.0  # less than a probe's own limit, so that it tells why


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


class Probe(msgspec.Struct):
    """What ``--probe --json`` prints.

    Attributes:
        ok: whether the server answers and takes writes.
        detail: what it is, or why not.
        ms: time for a connection and two questions.
    """

    ok: bool
    detail: str
    ms: float


async def ask_once(url: str, prefix: str) -> Probe:
    """Whether the server answers and is a primary; asked once, without retries, and nothing is written.

    Raises:
        InvalidArgumentError: ``url`` or ``prefix`` is invalid.
    """
    began = time.perf_counter()
    try:
        async with connect(url, key_prefix=prefix, timeout=PROBE_SECONDS, retry_timeout=0) as helix:
            command = helix.state._requests.command
            await command("", b"PING")
            try:
                info = settings_of(await command("", b"INFO"))
            except StoreResponseError:  # a user who may not ask
                info = {}
        role, loading = info.get("role", "master"), info.get("loading", "0")
        ok, detail = role == "master" and loading == "0", " ".join(kind_of(info)).strip()
        if not ok:
            detail += ": it is a replica" if role != "master" else ": it is still loading"
    except InvalidArgumentError:
        raise
    except HelixError as error:
        ok, detail = False, str(error)
    return Probe(ok, detail, round(1000 * (time.perf_counter() - began), 1))


def doctor(
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    json: JsonOption = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Only check that the server answers and is a primary: one line, for readiness probes."
        ),
    ] = False,
) -> None:
    """Check the installation and the server: connection, version, rights, cluster, memory, persistence, latency.

    Writes and deletes one stream under the prefix; changes nothing else. Exit code 1 if something does not work; a
    warning is no failure. With --probe it writes nothing, and answers within seconds.
    """

    async def probing() -> int:
        found = await ask_once(url, prefix)
        if json:
            print_json(found)
        else:
            sys.stdout.write(f"{'ok' if found.ok else 'not ok'}: {printable(found.detail)} ({found.ms:.1f} ms)\n")
        return 0 if found.ok else FAULTY

    if probe:
        run(probing)

    async def work() -> int:
        findings = await examine(url, prefix)
        if json:
            print_json(findings)
        else:
            show(findings)
        return FAULTY if any(finding.level == "error" for finding in findings) else 0

    run(work)
