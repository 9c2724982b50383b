"""Client and server on one core.

On a virtual machine, waking a process on another core takes some 20 µs, twice in a round trip. For two processes that
take turns this is most of the time, and says little about the software. On one core it does not occur.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

POSSIBLE: Final = hasattr(os, "sched_setaffinity")


@contextlib.contextmanager
def one_core(server: int) -> Iterator[None]:
    """Keep this process and that of a server on the same core. Linux only: see POSSIBLE.

    Args:
        server: its process id.
    """
    before = {process: os.sched_getaffinity(process) for process in (0, server)}
    try:
        for process in before:
            os.sched_setaffinity(process, {min(before[0])})
        yield
    finally:
        for process, cores in before.items():
            os.sched_setaffinity(process, cores)
