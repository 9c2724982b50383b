"""Slices: long work of the event loop in parts, between which other tasks run. Shared by the products."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

SLICE_SECONDS: Final = 0.0005
"""Other tasks wait at most for a slice and for the piece of work in which it ended."""


class Slices:
    """The slices of one piece of work, which begins when this is made.

    >>> async def add(numbers):
    ...     slices, total = Slices(), 0
    ...     for number in numbers:
    ...         total += number
    ...         if slices.over:
    ...             await slices.next()
    ...     return total
    >>> asyncio.run(add(range(1000)))
    499500
    """

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + SLICE_SECONDS

    @property
    def over(self) -> bool:
        """Whether other tasks have waited long enough."""
        return perf_counter() >= self._end

    async def next(self) -> None:
        """Let other tasks run, then begin the next slice."""
        await asyncio.sleep(0)
        self._end = perf_counter() + SLICE_SECONDS
