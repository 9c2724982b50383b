"""The main of each program's process, which a server of forks makes: see ``conductor``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from .calls import HungError
from .locking import hold
from .net import join
from .program import Order, Program
from .running import run_agents
from .storing import audit, converse, record
from .streaming import produce, read

KINDS: dict[str, Callable[[Program], Coroutine[Any, Any, None]]] = {
    "producer": produce,
    "reader": read,
    "talker": converse,
    "recorder": record,
    "auditor": audit,
    "holder": hold,
    "runner": run_agents,
}


def _frames(waiting: Any) -> Iterator[str]:
    """Where a coroutine waits, and where that which it awaits does, to the innermost."""
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        yield f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else repr(waiting)[:200]
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)


async def _work(program: Program) -> None:
    def where() -> None:
        for task in asyncio.all_tasks():
            program.journal.write(
                "task", name=task.get_name(), task=repr(task)[:300], frames=list(_frames(task.get_coro()))
            )

    # Asked where it stands, when it does not end.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, where)
    await KINDS[program.order.kind](program)


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
        asyncio.run(_work(program))
        status = 0
    except HungError:
        status = 3
    except BaseException:
        program.journal.write("crashed", text=traceback.format_exc()[-2000:])
    os._exit(status)
