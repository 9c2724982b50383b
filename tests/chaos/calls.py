"""The calls of a program: each has a bound, and its time is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from helix_fast import HelixError

from .journal import Journal

T = TypeVar("T")


class HungError(Exception):
    """A call did not come back within its bound; the program ends, and says so."""


class Calls:
    """Waits for calls. ``bound``: seconds within which each must answer or raise, faults included."""

    def __init__(self, journal: Journal, bound: float) -> None:
        self._journal = journal
        self._bound = bound
        self._count = self._failed = 0
        self._longest = 0.0

    async def wait(self, op: str, call: Awaitable[T]) -> T:
        """The call's answer, or its error."""
        began = time.monotonic()
        self._count += 1
        try:
            return await asyncio.wait_for(call, self._bound)
        except asyncio.TimeoutError:
            self._journal.write("hung", op=op, seconds=self._bound)
            raise HungError(op) from None
        except HelixError:
            self._failed += 1
            raise
        finally:
            self._longest = max(self._longest, time.monotonic() - began)

    def report(self) -> None:
        """Write down how it was so far."""
        self._journal.write("calls", count=self._count, failed=self._failed, longest=self._longest)
        self._count = self._failed = 0
