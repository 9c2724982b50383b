"""Distinct chunks for the tests of streams, and what a reader has read of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from helix_fast import StoredChunk, UnknownChunk
from helix_fast.interfaces import ResumableReader
from helix_fast.streams.chunks import StreamChunk


def number(n: int, **more: Any) -> dict[str, Any]:
    """A chunk that differs from all others."""
    return {"type": "number", "n": n, **more}


def numbers(values: Iterable[int]) -> list[dict[str, Any]]:
    return [number(n) for n in values]


def number_of(chunk: StreamChunk) -> int:
    assert isinstance(chunk, UnknownChunk)
    value = chunk.data["n"]
    assert isinstance(value, int)
    return value


async def take(reader: ResumableReader | None, count: int, *, seconds: float = 10) -> list[StoredChunk]:
    """The next `count` chunks of a reader; TimeoutError if they do not arrive."""
    assert reader is not None
    found: list[StoredChunk] = []

    async def read() -> None:
        while len(found) < count:
            found.append(await reader.__anext__())

    await asyncio.wait_for(read(), seconds)
    return found


async def rest(reader: ResumableReader | None, *, seconds: float | None = 60) -> list[StoredChunk]:
    """All chunks of a reader up to the end of its stream; TimeoutError if it does not end. `None`: no bound."""
    assert reader is not None
    found: list[StoredChunk] = []

    async def read() -> None:
        async for stored in reader:
            found.append(stored)  # noqa: PERF401  the chunks before an error are wanted

    await asyncio.wait_for(read(), seconds)
    return found


def sequences(stored: Iterable[StoredChunk]) -> list[int]:
    return [one.sequence for one in stored]
