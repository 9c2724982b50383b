"""LoopBinding: which event loop, of which process, some connections belong to. No sockets.

Connections live and die with the event loop that made them. The rule for all stores: a closed loop is followed by the
next one to use the store, with new connections; a loop that is still open is not, nor is one on the other side of a
fork, where both processes would read from one socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final

from helix_fast.errors import InvalidArgumentError

_CLOSE_SECONDS: Final = 10.0
"""How long ``close`` waits for the thread of another loop: that thread may wait for ours."""
running_loop: Final = asyncio._get_running_loop
"""The running event loop; None outside of one, as in the child of a process that forked within one. Written in C."""
_bindings: Final[weakref.WeakSet[LoopBinding]] = weakref.WeakSet()  # those that a fork has to reach


class LoopBinding:
    """The event loop of a topology.

    Args:
        renew: makes the connections anew, in place: their loop is closed.
        abandon: drops the connections from outside of their loop.

    Attributes:
        loop: the event loop; None before the first use, and after a fork.
        forked: the connections are those of the parent process.
    """

    def __init__(self, renew: Callable[[], None], abandon: Callable[[], None]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.forked: bool = False
        self._renew = renew
        self._abandon = abandon
        self._thread = 0
        _bindings.add(self)

    def check(self) -> asyncio.AbstractEventLoop:
        """Check that the running event loop may use the connections, and return it. The first one takes them.

        Raises:
            InvalidArgumentError: it may not, or none is running.
        """
        loop = running_loop()
        if loop is None or loop is not self.loop:
            return self._enter(loop)
        return loop

    def check_part(self, loop: asyncio.AbstractEventLoop, what: str) -> None:
        """Check that ``loop``, on which a reader or writer was made, is the running one, and still that of the store.

        Raises:
            InvalidArgumentError: it is not; ``what`` names the part.
        """
        if running_loop() is loop and self.loop is loop:
            return
        self.check()
        raise InvalidArgumentError(
            f"the event loop of this {what} is closed", hint=f"open another {what}, on the event loop that runs now"
        )

    def _enter(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        if self.forked:
            raise InvalidArgumentError(
                "a store was used on both sides of a fork",
                hint="make the stores of a process after the fork, or use them first after it",
            )
        if loop is None:
            raise InvalidArgumentError(
                "no event loop is running here", hint="call it from a coroutine, or from a function that one calls"
            )
        if self.loop is not None:
            if not self.loop.is_closed():
                where = "event loop" if self._thread == threading.get_ident() else "thread"
                raise InvalidArgumentError(
                    f"a store was used from a second {where}, while the event loop of the first is open",
                    hint="make one store for each event loop; one whose loop is closed goes on with the next",
                )
            self._renew()
        self.loop = loop
        self._thread = threading.get_ident()
        return loop

    async def close(self, close: Callable[[], Coroutine[Any, Any, None]], abandon: Callable[[], None]) -> None:
        """Close something that uses the connections, wherever its event loop is.

        Args:
            close: what to do on that loop, or on the running one where that one is closed.
            abandon: what to do where that loop cannot be had: it is open and stopped, or the parent's process has it.
        """
        bound = self.loop
        if self.forked:
            abandon()
        elif bound is None or bound is running_loop():
            await close()
        elif bound.is_closed():
            self.check()
            await close()
        elif bound.is_running():
            closing = asyncio.run_coroutine_threadsafe(close(), bound)
            waiting = asyncio.wrap_future(closing)
            done, _ = await asyncio.wait([waiting], timeout=_CLOSE_SECONDS)
            if done:
                waiting.result()
        else:
            abandon()

    def leave_to_parent(self) -> None:
        """In the child of a fork: close our copies of the sockets, before a finalizer does more than that."""
        if self.loop is not None:
            self.loop = None
            self.forked = True
            self._abandon()


def follow(loop: asyncio.AbstractEventLoop, what: str) -> asyncio.AbstractEventLoop:
    """The running event loop, for something that was made on ``loop`` and goes on with the next when that is closed.

    Raises:
        InvalidArgumentError: ``loop`` is open, and not the one that is running; ``what`` names the thing.
    """
    running = running_loop()
    if running is None or (running is not loop and not loop.is_closed()):
        raise InvalidArgumentError(f"a {what} was used outside of its event loop", hint="use it where it was made")
    return running


async def cancel(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel tasks and wait for their end. Those of a closed event loop have ended with it."""
    loop = asyncio.get_running_loop()
    live = [task for task in tasks if task is not None and not task.done() and task.get_loop() is loop]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)


def discard(transport: Any, *, forked: bool) -> None:
    """Close the socket of a transport whose event loop is not at hand.

    A transport closes its socket by a call on its loop. After a fork the loop's selector is shared with the parent, and
    must not even be told to forget the socket; closing our copy of it does not reach the connection.
    """
    if transport is None:
        return
    if not forked:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            transport.abort()
    inner: Any = getattr(transport, "_ssl_protocol", None)
    plain: Any = transport if inner is None else inner._transport
    if getattr(plain, "_sock", None) is None:
        return  # no transport of asyncio's: uvloop closes its own with the loop, and one in memory has no socket
    plain._sock.close()
    transport._closing = transport._closed = plain._closing = True  # or finalizers, redis-py's too, call the loop
    if forked or plain._loop.is_closed():
        plain._sock = None


def _forked() -> None:
    for binding in list(_bindings):
        binding.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)
