"""Cores that do not fall asleep between a request and its reply.

On an otherwise idle machine much of a round trip is the time in which sleeping cores wake up, which says little of the
software. Here something of the lowest priority keeps them awake: it gives way to anything else.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

POSSIBLE: Final = hasattr(os, "SCHED_IDLE")
_SPIN: Final = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep all cores awake. Linux only: see POSSIBLE."""
    spinning = [subprocess.Popen([sys.executable, "-S", "-c", _SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()
