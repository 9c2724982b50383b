"""Agents for the tests: async generator functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from helix_fast.agents import Messages, Output, RunContext, RunHandle


async def greeter(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Greets, and leaves something of everything."""
    yield "Hello "
    yield {"type": "thinking", "content": "whom?"}
    yield "world"
    yield {"kind": "tokens", "model": "m", "tokens": {"prompt": 3, "completion": 4}, "id": f"response-{context.run_id}"}
    yield Messages([{"role": "assistant", "content": "Hello world"}])
    yield Output({"said": message})


async def counter(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Counts until it is stopped."""
    number = 0
    while True:
        number += 1
        yield f"{number} "
        await asyncio.sleep(0.002)


async def broken(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Fails after its first words."""
    yield "Well, "
    yield Messages([{"role": "assistant", "content": "Well, "}])
    raise ValueError(message)


async def becomes(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait until a condition that asks a store is true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


async def texts(handle: RunHandle) -> list[str]:
    """The text of a run's stream, to its end."""
    return [stored.chunk.delta async for stored in handle.stream() if stored.chunk.type == "text_delta"]  # type: ignore[union-attr]


async def counted(handle: RunHandle) -> None:
    """Wait for the first text."""
    async for stored in handle.stream():
        if stored.chunk.type == "text_delta":
            return
