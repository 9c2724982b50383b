"""How long a reader waits for a push before it reads the log. A timer and a buffer of pushes; no I/O."""

from __future__ import annotations

import asyncio
import weakref
from typing import Final

from helix_fast import codec

FIRST_PAUSE: Final = 0.05
"""Seconds of silence before the first look for what nobody pushes; the pauses before the next ones double."""


class Silence:
    """Has the log read when nothing was pushed for a while: a push may be lost, or never have been sent.

    Args:
        pushes: marked stale then.
        longest: seconds. Only where a store of another kind writes, which may push nothing, a silence is shorter.
    """

    __slots__ = ("__weakref__", "_length", "_longest", "_loop", "_pushes", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, pushes: codec.PushBuffer, longest: float) -> None:
        self._loop = loop
        self._pushes = pushes
        self._length = self._longest = longest
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The reader begins to wait, untimed. One timer serves many waits: a live chunk must not pay for its own."""
        self._start(self._length)

    def _start(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, _tick, weakref.ref(self))
        self._pushes.timed = True

    def look_soon(self, seconds: float = FIRST_PAUSE) -> None:
        """Another store's entry was found, or a lease that has run out: look again after so much silence."""
        self._length = min(seconds, self._longest)
        self.stop()

    def stop(self) -> None:
        """Stop the timer; the next wait starts it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._forget()

    def _forget(self) -> None:
        self._timer = None
        self._pushes.timed = False

    def tick(self) -> None:
        """The timer has run out: have the log read if this wait has lasted long enough."""
        self._forget()
        waiter = self._pushes.waiter
        if waiter is None or waiter.done():
            return
        left = self._pushes.since + self._length - self._loop.time()
        if left <= 0.001:
            self._length = min(2 * self._length, self._longest)
            self._pushes.mark_stale()
        else:
            self._start(left)


def _tick(reference: weakref.ref[Silence]) -> None:
    silence = reference()
    if silence is not None:
        silence.tick()
