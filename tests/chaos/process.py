"""The main of each program's process, which a server of forks makes: see ``conductor``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from .calls import HungError
from .locking import hold
from .net import join
from .program import Order, Program
from .storing import audit, converse, record
from .streaming import produce, read

KINDS: dict[str, Callable[[Program], Coroutine[Any, Any, None]]] = {
    "producer": produce,
    "reader": read,
    "talker": converse,
    "recorder": record,
    "auditor": audit,
    "holder": hold,
}


def run(order: Order) -> None:
    """The main of each process."""
    from helix_fast.embedded.supervisor import die_with_parent

    if sys.platform == "linux":
        die_with_parent(os.getppid(), signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if order.network_of:
        join(order.network_of)
    program = Program(order)
    status = 1
    try:
        asyncio.run(KINDS[order.kind](program))
        status = 0
    except HungError:
        status = 3
    except BaseException:
        program.journal.write("crashed", text=traceback.format_exc()[-2000:])
    os._exit(status)
