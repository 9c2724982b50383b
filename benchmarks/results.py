"""``results.json``: the results of a run of the benchmarks, and the machine that it ran on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import msgspec

from helix_fast import codec

from .measure import Result
from .payloads import DEFAULT

PACKAGES: Final = (
    *("helix-fast", "redis", "hiredis", "msgspec", "pydantic", "uvloop"),
    *("coredis", "valkey-glide", "resumable-stream", "starlette", "uvicorn", "httptools", "sse-starlette"),
)
_RESERVED: Final = frozenset({"machine", "versions", "size", "payload", "taken_at", "seconds", "peers", "failed"})


class Peer(msgspec.Struct):
    """Another client, or ours beside it, under one load. ``ratio``: ours to it, in the same turns; ``note``: what is
    not the same work."""

    load: str
    name: str
    value: float
    unit: str
    ratio: float
    runs: list[float]
    note: str = ""


class Results(msgspec.Struct, kw_only=True):
    """A run. In the file the measures stand beside these fields, by their keys."""

    size: str
    payload: str = DEFAULT.name
    measures: dict[str, Result]
    failed: dict[str, str] = {}
    peers: list[Peer] = []
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    taken_at: str = ""
    seconds: float = 0.0


class ResultsFileError(Exception):
    """A file that is no results file."""


def describe_machine() -> dict[str, Any]:
    """The machine, and how busy it was at the start."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_versions(server: str) -> dict[str, str]:
    """Versions of all that takes part."""
    found = {"python": platform.python_version(), "server": server}
    found["codec"] = "compiled" if codec.ACCELERATED else "plain Python"
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def now() -> str:
    """The time, for ``taken_at``."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def encode(results: Results) -> bytes:
    """The file's content."""
    wire: dict[str, Any] = {key: msgspec.to_builtins(result) for key, result in results.measures.items()}
    rest = msgspec.to_builtins(results)
    del rest["measures"]
    return msgspec.json.format(msgspec.json.encode({**wire, **rest}), indent=2) + b"\n"


def decode(data: bytes) -> Results:
    """Read a file's content.

    Raises:
        ResultsFileError: it is no such file.
    """
    try:
        wire = msgspec.json.decode(data, type=dict[str, Any])
        measures = {key: value for key, value in wire.items() if key not in _RESERVED}
        rest = {key: value for key, value in wire.items() if key in _RESERVED}
        if not isinstance(rest.get("peers"), list):
            rest.pop("peers", None)  # written before peers were a list; the gate does not compare them
        return msgspec.convert({**rest, "measures": measures}, Results)
    except msgspec.MsgspecError as error:
        raise ResultsFileError(str(error)) from error


def save(results: Results, path: Path) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(encode(results))
    draft.replace(path)


def added(results: Results, path: Path) -> Results:
    """A run, and the other measures of the file, where that is of a run of the same size and payload."""
    try:
        before = load(path)
    except ResultsFileError:
        return results
    if (before.size, before.payload) != (results.size, results.payload):
        return results
    before.measures |= results.measures
    before.failed = {key: why for key, why in before.failed.items() if key not in results.measures} | results.failed
    before.versions |= results.versions
    before.seconds = round(before.seconds + results.seconds, 1)
    return before


def load(path: Path) -> Results:
    """Read the file. ResultsFileError where there is none, or it is none."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ResultsFileError(f"{path}: {error.strerror}") from error
    except ResultsFileError as error:
        raise ResultsFileError(f"{path}: {error}") from error
