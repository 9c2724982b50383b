"""Waiting in tests: for a condition, never for a time; and what to do where times are the subject."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from helix_fast.errors import HelixError

T = TypeVar("T")
FAILURES = (AssertionError, HelixError, asyncio.TimeoutError, pytest.fail.Exception)


async def until(condition: Callable[[], bool], *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Wait until `condition()` is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        await asyncio.sleep(0.01)


async def quickest(attempt: Callable[[], Awaitable[float]], *, below: float, attempts: int = 10) -> None:
    """Run `attempt`, which returns seconds, until one run stays below a limit; AssertionError where none does.

    For "it is woken, not polled": a busy machine is late now and then, polling is late each time.
    """
    taken = []
    for _ in range(attempts):
        taken.append(await attempt())
        if taken[-1] < below:
            return
    raise AssertionError(f"never below {below:g} s: {taken}")


async def steady(
    attempt: Callable[[int], Awaitable[T]],
    *,
    stall: float = 0.05,
    probe: Callable[[], Awaitable[object]] | None = None,
) -> T:
    """Run `attempt(scale)`; run it again, slower, where it failed while the machine stalled.

    For tests whose subject is a course of time, as renewal at a third of a TTL: `attempt` multiplies each of its times
    by `scale` (1, 2, 4, 8, 16). A failure counts where no stall was longer than `stall` times `scale`, and at last.

    Args:
        attempt: the test's body; it may run several times.
        stall: seconds for which the event loop, or the probe, may stand still at scale 1.
        probe: a request to the server under test, on a connection that the attempt leaves alone.
    """
    for scale in (1, 2, 4, 8):
        with contextlib.suppress(_StalledError):
            async with _watched(stall * scale, probe):
                return await attempt(scale)
    return await attempt(16)


class _StalledError(Exception):
    """The attempt failed, and the machine had stalled."""


@contextlib.asynccontextmanager
async def _watched(stall: float, probe: Callable[[], Awaitable[object]] | None) -> AsyncIterator[None]:
    longest = 0.0
    began = time.monotonic()

    async def watch() -> None:
        nonlocal longest, began
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            if probe is not None:
                await probe()
            longest = max(longest, time.monotonic() - began)

    watcher = asyncio.create_task(watch())
    try:
        yield
    except FAILURES as error:
        if max(longest, time.monotonic() - began) < stall:
            raise
        raise _StalledError from error
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
