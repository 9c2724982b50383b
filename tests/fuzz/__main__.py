"""`make fuzz`: python -m tests.fuzz [--seconds 120] [--engine hypothesis] [--seed N] [--sanitizers address,undefined]

Builds the extension with sanitizers beside the usual one, where the compiler can, runs programs on it and on the plain
codec, and tells what was called. Where they differ or memory is misused: status 1, and how to run that program again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

from tests.fuzz.codec_target import SIGNATURES, CodecTarget
from tests.fuzz.engines import for_seconds, with_atheris
from tests.fuzz.sanitized import BUILT, built, environment

LAST = BUILT / "last-program"


def load(path: Path) -> ModuleType:
    """The extension in this file, whatever other one stands in the package."""
    spec = importlib.util.spec_from_file_location("helix_fast._codec", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(target: CodecTarget, began: float) -> None:
    seconds = time.monotonic() - began
    calls = target.returned.total() + target.raised.total()
    print(f"{'entry point':<24}{'returned':>10}{'raised':>10}")
    for name in sorted({*SIGNATURES, *target.returned, *target.raised}):
        print(f"{name:<24}{target.returned[name]:>10}{target.raised[name]:>10}")
    print(f"{target.programs} programs, {calls} calls on both codecs in {seconds:.0f} s", flush=True)


def work(options: argparse.Namespace) -> int:
    """The child: runs programs on the extension that it is told."""
    if options.engine == "atheris":
        with importlib.import_module("atheris").instrument_imports(include=["helix_fast.codec.plain"]):
            from helix_fast.codec import plain
    else:
        from helix_fast.codec import plain
    target = CodecTarget(load(options.extension), plain)
    began = time.monotonic()
    if options.replay:
        target.run(options.replay.read_bytes())
        report(target, began)
        return 0
    # A sanitizer ends the process on the spot: what it was running then must stand in a file before.
    with LAST.open("wb", buffering=0) as last:

        def run(data: bytes) -> None:
            last.seek(0)
            last.write(data)
            last.truncate()
            target.run(data)

        try:
            (with_atheris if options.engine == "atheris" else for_seconds)(run, options.seconds, options.seed)
        finally:
            report(target, began)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzzes the compiled codec against its plain twin."
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to run; default: 120")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument(
        "--seed", type=int, default=None, help="the same seed brings the same programs; default: a new one"
    )
    parser.add_argument("--sanitizers", default="address,undefined", help="'' for none")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the one program in this file")
    parser.add_argument("--extension", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.extension:
        return work(options)
    if options.seed is None:
        options.seed = random.SystemRandom().getrandbits(32)
    extension, sanitizers = built("" if options.engine == "atheris" else options.sanitizers)
    print(f"engine {options.engine}, seed {options.seed}, sanitizers: {sanitizers or 'none'}", flush=True)
    again = [sys.executable, "-m", "tests.fuzz", f"--extension={extension}", f"--engine={options.engine}"]
    again += [f"--seconds={options.seconds}", f"--seed={options.seed}"]
    again += [f"--replay={options.replay}"] if options.replay else []
    # The package itself needs no extension there, and is not to say that it has none.
    settings = {**os.environ, "HELIX_FAST_PURE": "1", **environment(sanitizers)}
    status = subprocess.run(again, env=settings, check=False).returncode
    if status and not options.replay:
        print(f"FAILED. The last program again: python -m tests.fuzz --replay {LAST}")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
