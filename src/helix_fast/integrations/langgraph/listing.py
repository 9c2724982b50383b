"""Listing: checkpoints of one thread or of all, page by page, those with the largest id first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, TypeVar

from .connection import Connection
from .parts import namespace
from .threads import Stored, Threads

_MOST: Final = 50
Row = tuple[Any, Stored]
T = TypeVar("T")


async def of_thread(
    connection: Connection,
    threads: Threads,
    thread: Any,
    space: str | None,
    only: str,
    before: str,
    first: int | None = None,
) -> AsyncGenerator[Row]:
    """Checkpoints of a thread, each with the thread as the caller names it.

    Args:
        space, only, before: as of ``Threads.page``.
        first: how many are asked for at once, to begin with; twice as many each time after that.
    """
    after, count = b"", min(first or _MOST, _MOST)
    while True:
        page, more = await connection.at_home(threads.page(str(thread), space, only, before, after, count))
        for stored in page:
            yield thread, stored
        if not more:
            return
        before, after = page[-1].id, namespace(page[-1].namespace)
        count = min(2 * count, _MOST)


class _Head:
    """The next checkpoint of a thread. The one with the largest id is the smallest."""

    __slots__ = ("rest", "row")

    def __init__(self, row: Row, rest: AsyncGenerator[Row]) -> None:
        self.row = row
        self.rest = rest

    def __lt__(self, other: _Head) -> bool:
        return self.row[1].id > other.row[1].id


async def newest_first(connection: Connection, threads: Threads, before: str) -> AsyncGenerator[Row]:
    """Checkpoints of all threads. The newest one of each is held at a time."""

    async def begin(thread: str) -> _Head | None:
        rest = of_thread(connection, threads, thread, None, "", before, 1)
        async for row in rest:
            return _Head(row, rest)
        return None

    ids = threads.ids()
    heads: list[_Head] = []
    while page := await connection.at_home(_next(ids)):
        heads += [head for head in await asyncio.gather(*map(begin, page)) if head is not None]
    heapq.heapify(heads)
    while heads:
        head = heads[0]
        yield head.row
        async for row in head.rest:
            head.row = row
            heapq.heapreplace(heads, head)
            break
        else:
            heapq.heappop(heads)


async def first_of(rows: AsyncIterator[T], most: int) -> list[T]:
    """The next rows, some at a time; none at the end."""
    found = []
    async for row in rows:
        found.append(row)
        if len(found) == most:
            break
    return found


async def _next(pages: AsyncIterator[list[str]]) -> list[str]:
    async for page in pages:
        if page:
            return page
    return []
