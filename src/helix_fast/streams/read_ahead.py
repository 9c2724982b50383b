"""Read-ahead for catching up: plain XRANGE pages, one of them prefetched."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.requests import Requests
from helix_fast.transport.lane import settle


class ReadAhead:
    """The entries after one entry, a page at a time; while one page is decoded the server reads the next.

    Args:
        store: sends the requests.
        stream_id: names the stream.
        key: of its log.
    """

    __slots__ = ("_key", "_page", "_prefetched", "_requests", "_stream_id")

    def __init__(self, requests: Requests, stream_id: str, key: bytes) -> None:
        self._requests = requests
        self._stream_id = stream_id
        self._key = key
        self._page: tuple[bytes, int] | None = None
        self._prefetched: asyncio.Future[Any] | None = None

    async def prefetch(self, entry_id: bytes, count: int) -> None:
        """Request the ``count`` entries after ``entry_id``, which will be read next; returns when that was sent."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._requests.topology.send(
                self._stream_id, codec.frame_command(self._command(entry_id, count)), partial(settle, reply)
            )
        except HelixError:
            return  # closed: the next read raises it
        self._page, self._prefetched = (entry_id, count), reply
        await asyncio.sleep(0)

    async def read(self, entry_id: bytes, count: int) -> list[list[Any]]:
        """The next ``count`` entries after ``entry_id``, or fewer at the end of the log, in the form of XRANGE.

        Raises:
            StoreConnectionError: the server could not be reached for the retry time.
        """
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None and self._page == (entry_id, count):
            entries = await prefetched
            if isinstance(entries, list):
                return entries
            # An error does not matter: the page is requested again, with retries.
        found: list[list[Any]] = await self._requests.command(self._stream_id, *self._command(entry_id, count))
        return found

    def _command(self, entry_id: bytes, count: int) -> tuple[bytes | int, ...]:
        return b"XRANGE", self._key, b"(" + entry_id, b"+", b"COUNT", count
