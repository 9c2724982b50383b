"""A build of the extension with sanitizers, apart from the one that is in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BUILT = Path("build/fuzz")
RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}


def built(sanitizers: str) -> tuple[Path, str]:
    """(the extension, the sanitizers in it); without any where the compiler has none, or they do not load.

    Args:
        sanitizers: as the compiler names them, with commas; "" for none.

    Raises:
        RuntimeError: it does not compile even without.
    """
    said = ""
    for wanted in dict.fromkeys((sanitizers, "")):
        directory = BUILT / (wanted.replace(",", "-") or "plain")
        command = [
            sys.executable,
            "setup.py",
            "-q",
            "build_ext",
            f"--build-lib={directory}",
            f"--build-temp={directory}",
        ]
        settings = {"HELIX_FAST_SANITIZE": wanted, "HELIX_FAST_REQUIRE_EXTENSION": "1"}
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        found = sorted(directory.glob("helix_fast/_codec.*"))
        if done.returncode == 0 and found and loads(wanted):
            return found[0], wanted
        print(f"no build with {wanted or 'anything'}:\n{said[-2000:]}", file=sys.stderr)
    raise RuntimeError("the extension does not compile")


def loads(sanitizers: str) -> bool:
    """Whether this interpreter starts with the sanitizers' libraries."""
    command = [sys.executable, "-c", "pass"]
    settings = {**os.environ, **environment(sanitizers)}
    return subprocess.run(command, env=settings, capture_output=True, check=False).returncode == 0


def environment(sanitizers: str) -> dict[str, str]:
    """What the environment of a process needs that loads an extension with these sanitizers."""
    if not sanitizers:
        return {}
    libraries = [library(RUNTIMES[name]) for name in sanitizers.split(",") if name in RUNTIMES]
    return {
        # Their libraries must come before everything else in the process.
        "LD_PRELOAD": " ".join(libraries),
        # The interpreter keeps objects until its end, which is no leak.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        # Each object from malloc, with a guarded zone around it: in the interpreter's arenas no overrun would be seen.
        "PYTHONMALLOC": "malloc",
    }


def library(name: str) -> str:
    """Where the compiler keeps a library."""
    command = [os.environ.get("CC", "cc"), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
