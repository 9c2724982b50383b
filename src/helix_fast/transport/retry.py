"""Retries: which failures are transient, for how long, with which back-off. Callers know what is safe to repeat."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from helix_fast.errors import HelixError, StoreConnectionError, StoreResponseError

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed soon."""
    return isinstance(error, (StoreConnectionError, StoreResponseError)) and error.retryable


class Retry:
    """Retries one operation for ``timeout`` seconds from its first failure, with growing, jittered back-off."""

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout = timeout

    async def run(self, attempt: Callable[[], Awaitable[T]], reachable: Callable[[], bool]) -> T:
        """Call ``attempt`` until it succeeds, fails permanently, or time is up; then the last error goes up.

        ``reachable`` returns whether the server was ever reached. If not, a wrong address is more likely than a passing
        fault, and the first error goes up at once.
        """
        failures = 0
        give_up = 0.0
        while True:
            try:
                return await attempt()
            except HelixError as error:
                now = time.monotonic()
                give_up = give_up or now + self.timeout
                if not is_transient(error) or not reachable() or now >= give_up:
                    raise
            await asyncio.sleep(back_off(failures))
            failures += 1


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row (0 = the first): none, then from 5 ms up to 0.5 s."""
    if failures == 0:
        return 0.0
    ceiling: float = min(0.5, 0.005 * 2 ** min(failures, 10))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
