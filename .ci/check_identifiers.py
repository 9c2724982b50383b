"""Fails where cibuildwheel, by cibuildwheel.toml, would build other wheels than those that are promised.

Usage: check_identifiers.py [PYTHON], a Python that has cibuildwheel, else this one. Version 3 builds all of them,
version 4 all but those of 3.13t; the release uses both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("cp310", "cp311", "cp312", "cp313", "cp314", "cp314t")
# CPython 3.13t was an experiment, and version 4 has dropped it.
ONLY_VERSION_3 = ("cp313t",)
TARGETS = {
    "linux": ("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
    "macos": ("macosx_x86_64", "macosx_arm64"),
    "windows": ("win_amd64",),
}


def promised(pythons: tuple[str, ...] = (*PYTHONS, *ONLY_VERSION_3)) -> set[str]:
    """The identifiers of all wheels for these Pythons."""
    return {f"{python}-{target}" for python in pythons for targets in TARGETS.values() for target in targets}


def built(python: str) -> set[str]:
    """The identifiers of what the cibuildwheel of this Python would build on Linux, macOS and Windows."""
    command = [python, "-m", "cibuildwheel", "--config-file", "cibuildwheel.toml", "--print-build-identifiers"]
    found: set[str] = set()
    for platform in TARGETS:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CIBW_")}
        if major(python) == 3:
            environment["CIBW_ENABLE"] = "cpython-freethreading"
        done = subprocess.run(
            [*command, "--platform", platform], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found.update(done.stdout.split())
    return found


def major(python: str) -> int:
    """Major version of the cibuildwheel of this Python."""
    ask = "from importlib.metadata import version; print(version('cibuildwheel').split('.')[0])"
    return int(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout)


def problems(python: str) -> list[str]:
    """One line for each wheel that is missing or too many."""
    would, should = built(python), promised(PYTHONS) if major(python) > 3 else promised()
    return [f"missing: {name}" for name in sorted(should - would)] + [
        f"extra: {name}" for name in sorted(would - should)
    ]


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    wrong = problems(asked)
    if wrong:
        sys.exit("\n".join(wrong))
    sys.stdout.write(f"cibuildwheel {major(asked)}: as promised\n")
