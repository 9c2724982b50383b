"""Run the contract suite on every server program that is found, and print a table: what passed, and what is missing.

Each server is tried alone, under the rights that docs/operations.md names and no others, and as a cluster; where
``make test-integrations`` has its environment, LangGraph's conformance suite runs on it too. Looked for: the packaged
Valkey, what ``.ci/fetch_servers.py`` has put into build/servers, redis-server and valkey-server on PATH, and what
HELIX_TEST_SERVERS names (paths, separated by colons). Further arguments go to pytest.
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
# The oldest that is supported, those of Debian's releases, a newer one, and the one that comes with the package.
WANTED = ("Redis 6.2", "Redis 7.0", "Redis 8.0", "Redis 8.2", "Valkey 8.1", "Valkey 9.1")
# What to run it as: the option of pytest, and what the table calls it.
ROLES = {"redis-server": "one server", "rights": "one server, documented rights", "cluster": "cluster"}
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
FRAMEWORKS = ROOT / "build" / "integrations" / "bin" / "python"
CONFORMANCE = "tests/integrations/langgraph/test_conformance.py"


def found() -> dict[str, str]:
    """Path of every server program, once each, by what it says it is; the oldest first."""
    paths = [find_server_binary(), *os.environ.get("HELIX_TEST_SERVERS", "").split(":")]
    paths += map(str, (ROOT / "build" / "servers" / "bin").glob("*"))
    paths += [shutil.which(name) or "" for name in ("redis-server", "valkey-server")]
    servers: dict[str, str] = {}
    for path in filter(None, paths):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"^(\w+) server v=([\d.]+)", said)
        if version is not None:
            servers.setdefault(f"{version[1]} {version[2]}", path)
    return dict(sorted(servers.items(), key=lambda each: [int(n) if n.isdigit() else n for n in each[0].split(".")]))


def run(python: str, backend: str, path: str, words: list[str]) -> tuple[str, bool]:
    """What pytest counted, and whether all of it passed."""
    options = ["-q", "-n", "auto", f"--backend={backend}", f"--redis-server={path}"]
    command = [python, "-m", "pytest", *options, *words]
    started = time.monotonic()
    private = {**os.environ, BINARY_VARIABLE: path}
    done = subprocess.run(command, cwd=ROOT, env=private, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["nothing was run"]
    if done.returncode:
        print("\n".join(lines[-40:]), done.stderr, sep="\n", file=sys.stderr)
    counts = ", ".join(f"{number} {what}" for number, what in COUNTS.findall(lines[-1])) or lines[-1]
    return f"{counts} in {time.monotonic() - started:.0f} s", done.returncode == 0


def main() -> int:
    """0 where every server that was found passed."""
    good = True
    rows = [("server", "as", "contract", "LangGraph's conformance")]
    servers = found()
    for name, path in servers.items():
        for backend, role in ROLES.items():
            print(f"{name}, {role}...", file=sys.stderr, flush=True)
            contract, passed = run(
                sys.executable, backend, path, ["-m", "backend and not soak", "tests", *sys.argv[1:]]
            )
            conformance, conforms = "not installed: make test-integrations", True
            if FRAMEWORKS.exists():
                conformance, conforms = run(str(FRAMEWORKS), backend, path, ["--frameworks", CONFORMANCE])
            rows.append((name, role, contract, conformance))
            print("  ", contract, conformance, sep="; ", file=sys.stderr, flush=True)
            good = good and passed and conforms
    missing = [wanted for wanted in WANTED if not any(name.startswith(f"{wanted}.") for name in servers)]
    rows += [
        (each, "-", "not found: see .ci/fetch_servers.py, or name it in HELIX_TEST_SERVERS", "-") for each in missing
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
