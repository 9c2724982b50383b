"""Read-ahead for catching up: plain XRANGE pages, one of them prefetched."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, NamedTuple

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.requests import Requests
from helix_fast.transport.lane import settle
from helix_fast.transport.unparsed import Unparsed

FIRST_PAGE: Final = 64
MAX_PAGE: Final = 1024
PAGE_BYTES: Final = 128 << 10


class PageSize:
    """How many entries the next page has: PAGE_BYTES of them, as far as the link has let such pages pass.

    Attributes:
        count: the entries.
    """

    __slots__ = ("_limit", "count")

    def __init__(self) -> None:
        self.count: int = FIRST_PAGE
        self._limit = MAX_PAGE

    def fit(self, entries: int, size: int) -> None:
        """A page of so many entries and bytes has arrived."""
        self._limit = min(MAX_PAGE, 2 * self._limit)
        self.count = max(1, min(self._limit, PAGE_BYTES * entries // max(1, size)))

    def shrink(self) -> None:
        """A page has not arrived: the next one is half as long."""
        self.count = self._limit = max(1, self.count // 2)


class FarPage(NamedTuple):
    """A page, and what its first entries are, as far as they continue the log in the usual form."""

    entries: int
    taken: int
    last: int
    """Sequence of the last chunk in the entries taken."""
    first_id: bytes
    last_id: bytes
    body: bytes


class ReadAhead:
    """The entries after one entry, a page at a time; while one page is decoded the server reads the next.

    Args:
        requests: sends the requests.
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
        try:
            reply = self._request(entry_id, count)
        except HelixError:
            return  # closed: the next read raises it
        self._page, self._prefetched = (entry_id, count), reply
        await asyncio.sleep(0)

    async def read(self, entry_id: bytes, count: int, last: int) -> FarPage | None:
        """The next ``count`` entries after ``entry_id``, or fewer at the end of the log.

        None after any failure: it is not repeated here, since a shorter page may pass where this one did not.

        Args:
            last: sequence of the last chunk before them.
        """
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None and self._page == (entry_id, count):
            reply = await prefetched
        else:
            try:
                request = self._request(entry_id, count)
                reply = await self._requests.observed(request, self._stream_id, "XRANGE")
            except HelixError:
                return None
        if isinstance(reply, Unparsed):
            return FarPage(*codec.merge_page(reply.reply, last))
        if not isinstance(reply, list):
            return None
        taken, top, body = codec.merge_entries(reply, last)
        first, newest = (reply[0][0], reply[taken - 1][0]) if taken else (b"", b"")
        return FarPage(len(reply), taken, top, first, newest, body)

    def _request(self, entry_id: bytes, count: int) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        frame = codec.frame_command(self._command(entry_id, count))
        self._requests.topology.send(self._stream_id, frame, partial(settle, reply), unparsed=True)
        return reply

    def _command(self, entry_id: bytes, count: int) -> tuple[bytes | int, ...]:
        return b"XRANGE", self._key, b"(" + entry_id, b"+", b"COUNT", count
