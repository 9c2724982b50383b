"""The background event loop: one per process, started by its first call, shared by all threads. No stores here.

A thread puts its call into a queue and waits on a lock. Only the first of the calls that wait wakes the loop, so the
calls of many threads begin in one turn of it and leave in one write. Calls that have finished are waked one after the
other: each thread wakes the next. Waking all of them at once would have them compete for the interpreter's lock, which
doubles the context switches of a call. The next calls of these threads wait for the last of them, which wakes the loop:
so twice as many leave in one write. Where that chain is slow or breaks off, a timer of the loop goes on in its place.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, TypeVar

from helix_fast.errors import InvalidArgumentError, StoreClosedError

T = TypeVar("T")
_STOP_SECONDS: Final = 5.0
"""How long the end of the interpreter waits for the loop."""
_WAKE_SECONDS: Final = 0.001
"""After this time the loop wakes a thread itself and begins what waits: the thread that should is slow, or gone."""
_SIGNAL_SECONDS: Final = 0.5
"""At most so long a thread waits without looking for signals, and for whether its call has finished."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background event loop and wait for it: its result, or what it raises.

    It may be called from any thread, also from one with a running event loop, which is blocked meanwhile. The coroutine
    runs in a copy of the caller's context. A KeyboardInterrupt, or another exception of a signal handler, cancels the
    coroutine, waits for its end and goes up.

    Raises:
        InvalidArgumentError: it was called on the background event loop, which cannot wait for itself.
        StoreClosedError: the interpreter exits.
    """
    loop = _current
    try:
        if loop is None:
            loop = background()
        elif loop.thread_id == threading.get_ident():
            raise InvalidArgumentError(
                "a blocking call on the background event loop, which it would wait for",
                hint="callbacks of the synchronous stores run there: hand the work to another thread",
            )
    except BaseException:
        coroutine.close()
        raise
    return loop.run(coroutine)


def call(function: Callable[[], T]) -> T:
    """Call a plain function on the background event loop and wait for its result. Raises as ``run``."""
    return run(_called(function))


def post(function: Callable[[], object]) -> None:
    """Call a plain function on the background event loop without waiting, in order with the thread's other calls.

    What it raises is lost. On the background event loop itself it is called later, too.

    Raises:
        StoreClosedError: the interpreter exits.
    """
    (_current or background()).post(function)


def close_at_exit(opened: Any) -> None:
    """Have something be closed, by awaiting its ``close()``, if it is still there when the interpreter exits."""
    _open.add(opened)


def drain_at_exit(executor: Any) -> None:
    """Have an executor interrupt its runs, by awaiting its ``drain(0)``, before that."""
    _executors.add(executor)


def background() -> BackgroundLoop:
    """The event loop of this process; started if there is none.

    Raises:
        StoreClosedError: the interpreter exits.
    """
    global _current  # noqa: PLW0603  one per process is the point
    with _starting:
        if _current is None:
            if _exited:
                raise _exiting()
            _current = BackgroundLoop()
        return _current


async def _called(function: Callable[[], T]) -> T:
    return function()


class _Call:
    """A coroutine, and the thread that waits for it."""

    __slots__ = ("abandoned", "context", "coroutine", "done", "finished", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self.coroutine = coroutine
        self.context = context
        self.task: asyncio.Task[Any] | None = None
        self.abandoned = False  # nobody asks for its result
        self.finished = False
        self.done = allocate_lock()
        self.done.acquire()

    def wait(self) -> None:
        """Wait until it has finished."""
        # A signal that comes just before the thread waits does not interrupt it: its handler runs at the next timeout.
        # And a thread that was interrupted while it woke this one may not have done so.
        while not self.done.acquire(True, _SIGNAL_SECONDS) and not self.finished:
            pass


class BackgroundLoop:
    """An event loop in a daemon thread; uvloop where that is installed.

    Attributes:
        loop: the event loop.
        thread_id: of its thread.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = _new_loop()
        self.thread_id: int = 0
        self._calls: deque[_Call | Callable[[], object]] = deque()
        self._woken = False  # the loop will look into the queue
        self._finished: deque[_Call] = deque()  # their threads are to be waked
        self._waking = self._watching = False
        self._stopped = False
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="helix-fast-sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # from an atexit function, on Python 3.12 and later
            self.loop.close()
            raise _exiting() from error
        started.wait()

    @property
    def running(self) -> bool:
        """Whether this is the loop of this process."""
        return self is _current

    # in the threads of callers

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See the function ``run``."""
        call = _Call(coroutine, copy_context())
        try:
            self._put(call)
            call.wait()
        except BaseException:  # of a signal handler: KeyboardInterrupt, a time limit of Celery…
            if not self._stopped:
                self._cancel(call)
            elif call.task is None:
                coroutine.close()
            raise
        finally:
            self._wake_next()
        task = call.task
        if task is None or (task.cancelled() and self._stopped):
            raise _exiting()
        return task.result()  # type: ignore[no-any-return]

    def post(self, function: Callable[[], object]) -> None:
        """See the function ``post``."""
        self._put(function)

    def _put(self, item: _Call | Callable[[], object]) -> None:
        if self._stopped:
            raise _exiting()
        self._calls.append(item)
        if not self._woken and not self._finished:  # else the last thread to be waked wakes the loop
            self._wake_loop()

    def _wake_loop(self) -> None:
        self._woken = True
        try:
            self._soon(self._begin)
        except BaseException:
            if not self._stopped:  # a signal handler raised, perhaps before the loop was woken
                self._soon(self._begin)
            raise

    def _soon(self, function: Callable[[], object]) -> None:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError as error:  # it was closed
            raise _exiting() from error

    def _cancel(self, call: _Call) -> None:
        call.abandoned = True
        ended = threading.Event()
        self._soon(partial(self._cancel_here, call, ended))
        while not ended.wait(_SIGNAL_SECONDS):  # another interruption leaves the call to itself
            pass

    def _wake_next(self) -> None:
        try:
            call = self._finished.popleft()
        except IndexError:
            if self._calls and not self._woken and not self._stopped:
                self._wake_loop()
        else:
            call.done.release()

    # on the loop

    def _serve(self, started: threading.Event) -> None:
        self.thread_id = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set)
        try:
            self.loop.run_forever()
        finally:
            self._end()

    def _begin(self) -> None:
        self._woken = False  # first: what is put from now on wakes the loop again
        calls = self._calls
        while calls:
            item = calls.popleft()
            if isinstance(item, _Call):
                item.task = item.context.run(self.loop.create_task, item.coroutine)
                item.task.add_done_callback(partial(self._finish, item))
            else:
                with contextlib.suppress(Exception):
                    item()

    def _finish(self, call: _Call, task: asyncio.Task[Any]) -> None:
        if call.abandoned and not task.cancelled():
            task.exception()  # looked at, or asyncio logs it as never retrieved
        call.finished = True
        self._finished.append(call)
        if not self._waking:
            self._waking = True
            self.loop.call_soon(self._wake)  # after the others that finish in this turn

    def _wake(self) -> None:
        self._waking = False
        self._wake_next()
        if not self._watching:  # threads leave it to this chain to wake the loop, which may break off
            self._watching = True
            self.loop.call_later(_WAKE_SECONDS, self._watch)

    def _watch(self) -> None:
        self._watching = False
        self._begin()
        if self._finished:
            self._wake()

    def _cancel_here(self, call: _Call, ended: threading.Event) -> None:
        self._begin()  # it may be in the queue still
        if call.task is None:  # the thread was interrupted before that
            call.coroutine.close()
            ended.set()
        elif call.task.done():
            ended.set()
        else:
            call.task.add_done_callback(lambda _task: ended.set())
            call.task.cancel()

    # the end

    def stop(self) -> None:
        """Cancel all calls and end the thread. Calls from now on are refused."""
        if self._stopped or not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_SECONDS)

    def _end(self) -> None:
        self._stopped = True
        self._begin()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            self.loop.run_until_complete(asyncio.wait_for(_ended(tasks), _STOP_SECONDS / 2))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            for _ in range(3):  # transports that were closed just now
                self.loop.run_until_complete(asyncio.sleep(0))
        while self._finished:
            self._wake_next()
        self.loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _exiting() -> StoreClosedError:
    return StoreClosedError(
        "the interpreter exits: the background event loop has ended", hint="close stores before that"
    )


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_current: BackgroundLoop | None = None
_exited = False
_starting = threading.Lock()
_open: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""What is closed when the interpreter exits: its ``close()`` is a coroutine."""
_executors: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""Whose runs are interrupted before that."""
_parents: Final[list[BackgroundLoop]] = []
"""The loops of the processes from which this one was forked: not to be finalized, as they share their sockets."""


def _forked() -> None:
    global _current, _starting  # noqa: PLW0603
    _starting = threading.Lock()  # another thread of the parent may have held it
    if _current is not None:
        _parents.append(_current)
        _current = None
    _open.clear()
    _executors.clear()


def _exit() -> None:
    global _current, _exited  # noqa: PLW0603
    _exited = True
    loop = _current
    if loop is None:
        return
    with contextlib.suppress(Exception):
        loop.run(asyncio.wait_for(_drained([*_executors]), _STOP_SECONDS))
    with contextlib.suppress(Exception):
        loop.run(asyncio.wait_for(_closed([*_open]), _STOP_SECONDS))
    _current = None
    loop.stop()


async def _drained(executors: list[Any]) -> None:
    await asyncio.gather(*(executor.drain(0) for executor in executors), return_exceptions=True)


async def _closed(helixes: list[Any]) -> None:
    await asyncio.gather(*(helix.close() for helix in helixes), return_exceptions=True)


atexit.register(_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)
