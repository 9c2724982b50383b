"""`helix-fast doctor`: is everything here that helix-fast wants, and does the server do what it needs?"""

from __future__ import annotations

import importlib.util
import platform
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import PackageNotFoundError, version

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helix_fast import codec, connect
from helix_fast.connect import Helix
from helix_fast.embedded import find_server_binary
from helix_fast.errors import EmbeddedServerUnavailableError, HelixError, StoreResponseError

from .common import DEFAULT_URL, JsonOption, UrlOption, run

FAULTY = 1
ROUND_TRIPS = 100
PROBE_CHUNKS = 100


class Finding(msgspec.Struct):
    """One thing that was looked at. ``level`` is ``ok``, ``warning`` (works, but not as well) or ``error``."""

    name: str
    level: str
    detail: str


def look_at_installation() -> Iterator[Finding]:
    """What can be told without a server."""
    try:
        own = version("helix-fast")
    except PackageNotFoundError:
        own = "not installed"
    yield Finding("helix-fast", "ok", f"{own}, Python {platform.python_version()}, {platform.system()}")
    yield (
        Finding("codec", "ok", "compiled")
        if codec.ACCELERATED
        else Finding("codec", "warning", "plain Python, slower: install a wheel, or a C compiler and Python's headers")
    )
    yield (
        Finding("event loop", "ok", "uvloop is installed")
        if importlib.util.find_spec("uvloop")
        else Finding("event loop", "warning", "asyncio, slower: pip install 'helix-fast[uvloop]'")
    )
    try:
        yield Finding("embedded server", "ok", find_server_binary().rpartition("/")[2])
    except EmbeddedServerUnavailableError as error:
        yield Finding("embedded server", "warning", f"{error}; {error.hint}")


async def look_at_server(helix: Helix) -> AsyncIterator[Finding]:
    """What the server says of itself, and whether a stream goes through it unharmed."""
    streams = helix.streams
    try:
        info = settings_of(await streams.command("", b"INFO"))
        yield server_version(info)
    except StoreResponseError as error:
        info = {}
        yield Finding("server", "warning", f"does not tell what it is: {error}")

    began = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        await streams.command("", b"PING")
    yield Finding("round trip", "ok", f"{1000 * (time.perf_counter() - began) / ROUND_TRIPS:.2f} ms")

    if info:
        yield memory_policy(info)
        yield (
            Finding("persistence", "ok", "append-only file")
            if info.get("aof_enabled") == "1"
            else Finding("persistence", "warning", "no append-only file: a restart loses what was acknowledged")
        )
    yield await pass_a_stream_through(helix)


def server_version(info: dict[str, str]) -> Finding:
    """Whether the server is new enough."""
    kind, number = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    least = (7, 2) if kind == "Valkey" else (6, 2)
    if tuple(map(int, re.findall(r"\d+", number)[:2])) < least:
        return Finding("server", "error", f"{kind} {number}, {least[0]}.{least[1]} is needed")
    return Finding("server", "ok", f"{kind} {number}")


def memory_policy(info: dict[str, str]) -> Finding:
    """Whether a full server refuses writes, which writers are told, or throws away what was acknowledged."""
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory", "0") != "0" and policy != "noeviction":
        return Finding("memory", "warning", f"maxmemory-policy is {policy}: a full server throws streams away")
    return Finding("memory", "ok", f"{info.get('used_memory_human', '?')} used, nothing is thrown away")


async def pass_a_stream_through(helix: Helix) -> Finding:
    """Write, push, read and delete a stream."""
    name = f"doctor-{secrets.token_hex(4)}"
    try:
        async with await helix.streams.create_writer(name, "doctor") as writer:
            for number in range(PROBE_CHUNKS):
                writer.send_text(f"{number} ")
        await helix.streams.end_stream(name)
        reader = await helix.streams.create_resumable_reader(name)
        read = [] if reader is None else [stored.sequence async for stored in reader]
        await helix.streams.delete_stream(name)
    except StoreResponseError as error:
        return Finding("stream", "error", f"the server refused: {error}")
    except HelixError as error:
        return Finding("stream", "error", f"{error}; {error.hint}")
    if read != list(range(1, PROBE_CHUNKS + 1)):
        return Finding("stream", "error", f"{PROBE_CHUNKS} chunks written, {len(read)} read")
    return Finding("stream", "ok", f"{PROBE_CHUNKS} chunks written, read and deleted")


def settings_of(reply: bytes) -> dict[str, str]:
    """The lines ``name:value`` of INFO."""
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}


def show(findings: list[Finding]) -> None:
    """Print the findings as a table."""
    table = Table(show_header=False)
    styles = {"ok": "green", "warning": "yellow", "error": "bold red"}
    for finding in findings:
        table.add_row(finding.name, Text(finding.level, styles[finding.level]), Text(finding.detail))
    Console().print(table)


def doctor(url: UrlOption = DEFAULT_URL, json: JsonOption = False) -> None:
    """Check the installation and the server. Exit code 1 if something does not work; a warning is no failure."""

    async def work() -> int:
        findings = list(look_at_installation())
        async with connect(url, key_prefix=f"helix-doctor:{secrets.token_hex(4)}:") as helix:
            findings += [finding async for finding in look_at_server(helix)]
        if json:
            sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
        else:
            show(findings)
        return FAULTY if any(finding.level == "error" for finding in findings) else 0

    run(work)
