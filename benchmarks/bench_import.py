"""Importing: P12."""

from __future__ import annotations

import asyncio
import statistics
import sys

from .measure import Measure
from .targets import TARGETS
from .under_pytest import benchmark_of

# Neither side's time includes the interpreter's start. `-I`: nothing from the current or the user's directory.
PROGRAM = "import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"


async def import_ms(module: str) -> float:
    """Milliseconds of an import in a new process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", PROGRAM.format(module=module), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"importing {module} failed")
    return float(output) * 1000


class Import(Measure):
    """The median of several new processes, with compiled bytecode."""

    key = "P12"
    what = "import helix_fast"
    against = "import redis.asyncio"
    unit = "ms"
    target, reach = TARGETS["P12"]
    needs_server = False

    async def prepare(self) -> None:
        self.times = self.size.pick(3, 1, 1)
        await import_ms("helix_fast, redis.asyncio")

    async def ours(self) -> float:
        return statistics.median([await import_ms("helix_fast") for _ in range(self.times)])

    async def baseline(self) -> float:
        return statistics.median([await import_ms("redis.asyncio") for _ in range(self.times)])


MEASURES = (Import,)
test_import = benchmark_of(*MEASURES)
