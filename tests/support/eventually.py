"""Waiting for what only the server knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 30.0) -> None:
    """Wait until an asynchronous condition is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"the condition did not come true within {seconds:g} s"
        await asyncio.sleep(0.01)
