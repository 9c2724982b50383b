"""What agents that are plain generator functions need: a thread for each, and a context whose calls block."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from helix_fast.agents import context as _context

from .base import Blocking, Flag

_ENDED: Final = object()
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Running(Blocking[_context.RunContext]):
    """What a thread reads of its run without waiting."""

    @property
    def stop_requested(self) -> Flag:
        """Set, and true, when the run is to stop; ``stop_reason`` tells why."""
        return Flag(self._async.stop_requested)


async def in_thread(source: Generator[Any, None, None]) -> AsyncGenerator[Any, None]:
    """The items of a generator, whose steps run in a thread of its own; when the run stops, the step under way ends."""
    thread = _Thread()
    last = False
    step = thread.call(partial(next, source, _ENDED))
    try:
        while not last:
            try:
                item = await asyncio.shield(step)
            except asyncio.CancelledError:
                last = True
                item = await asyncio.shield(step)  # cancelled here, it has not ended within the grace: it is left alone
            if item is _ENDED:
                return
            yield item
            if not last:
                step = thread.call(partial(next, source, _ENDED))
    finally:
        closed = thread.call(source.close)
        thread.end()
        if step.done():
            await asyncio.shield(closed)


class _Thread:
    """A thread that calls functions one after the other, for the tasks of an event loop."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        serve = partial(copy_context().run, self._serve)
        threading.Thread(target=serve, name="helix-fast-agent", daemon=True).start()

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function there; its result."""
        called: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put((function, called))
        return called

    def end(self) -> None:
        """End the thread after its calls."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            function, called = item
            value: Any = None
            failure: BaseException | None = None
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001  it fails the run
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                called.get_loop().call_soon_threadsafe(_settle, called, value, failure)


def _settle(called: asyncio.Future[Any], value: Any, failure: BaseException | None) -> None:
    if failure is None:
        called.set_result(value)
        return
    # SystemExit would end the loop
    called.set_exception(failure if isinstance(failure, Exception) else RuntimeError(f"the agent raised {failure!r}"))
    called.exception()  # looked at: nobody may wait for it any more
