"""Pages of a session's usage entries; while one page is summed, the server reads the next ones.

A script reads the first page and returns which list it is from. It costs the server some five times as much as a plain
LRANGE, so the following pages are plain and prefetched. Each LRANGE is followed, in the same write, by a call of the
script without entries: the script ran before the page was read and again after it, so the page is of the same list. As
a further check, each page begins with the last entry of the page before. After a failed check the prefetched pages are
dropped, and the script reads on from the last page that passed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

from helix_fast import codec
from helix_fast.errors import HelixError, StoreConnectionError
from helix_fast.keys import UsageKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.unparsed import Unparsed

from . import totals as usage_totals
from .totals import Cursor, StoredRollup

READ: Final = script("usage", "usage_read")
# Entries that the script reads: few if plain pages follow; otherwise some 2.5 MB, so that no reply blocks the server
# for long.
FIRST_PAGE: Final = 500
PAGE: Final = 10_000
# Plain pages: about so many bytes each, and so many in flight.
PLAIN_BYTES: Final = 512 << 10
MAX_PLAIN: Final = 10_000
AHEAD: Final = 3


class Page(NamedTuple):
    """Consecutive entries."""

    anew: bool
    """Whether the list is another than that of the cursor; then the page is its first."""
    nonce: bytes
    length: int
    """Of the whole list."""
    start: int
    """Entries before the page. More than the cursor's only with totals."""
    entries: list[bytes]
    totals: StoredRollup | None = None
    """The sums of the entries before the page, if the list was to be read from its beginning."""
    unparsed: codec.StringArray | None = None
    """In place of ``entries``, which is empty then: its first string is the last entry of the page before."""


class _Prefetch:
    """A plain page in flight."""

    __slots__ = ("checked", "count", "entries", "start")

    def __init__(self, start: int, count: int) -> None:
        self.start = start
        self.count = count
        self.entries: Any = None
        self.checked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_entries(self, reply: Any) -> None:
        """The reply to LRANGE."""
        self.entries = reply

    def on_check(self, reply: Any) -> None:
        """The reply to the script."""
        if not self.checked.done():
            self.checked.set_result(reply)

    async def result(self) -> tuple[list[bytes] | codec.StringArray, Any]:
        """The entries, with the last one of the page before; and the reply of the script."""
        check = await self.checked
        for reply in (self.entries, check):
            if isinstance(reply, HelixError):
                raise reply
        return codec.StringArray(self.entries.reply) if isinstance(self.entries, Unparsed) else self.entries, check


class Pages:
    """The pages of one session's entries, for one reader from its first page to its last.

    Args:
        requests: the store's.
        session_id, keys: whose entries.
        totals: whether to read stored totals in place of the entries that they cover.
        unparsed: whether pages may be ``unparsed``.
    """

    def __init__(
        self, requests: Requests, session_id: str, keys: UsageKeys, *, totals: bool = False, unparsed: bool = False
    ) -> None:
        self._requests = requests
        self._session_id = session_id
        self._keys = [keys.entries, keys.ids]
        self._totals = [keys.totals] if totals else []
        self._in_flight: deque[_Prefetch] = deque()
        self._prefetches = True
        self._unparsed = unparsed
        self._longest = PAGE  # entries that a page of the script may have, as far as the link has let pages pass
        # of the plain pages: arguments of their check, length of the list, next entry to request, entries of a page
        self._check: list[bytes | int] = []
        self._length = self._next = self._count = 0
        self._last = b""  # the last entry of the page before

    async def next(self, cursor: Cursor) -> Page | None:
        """The page with the entry behind a cursor, empty at the end of the list; None if there is no list.

        Args:
            cursor: the end of the page before, or further on in the same list. A page that was not prefetched
                begins there.

        Raises:
            StoreError.
        """
        if self._in_flight:
            page = await self._next_prefetched()
            if page is not None:
                return page
            self._in_flight.clear()
            self._prefetches = False
        asked = cursor.read
        keys = self._keys
        stored_format: list[bytes | int] = []
        if self._totals and not asked:
            keys = keys + self._totals
            stored_format.append(usage_totals.FORMAT)

        async def attempt() -> Any:
            """After a failure the next page is half as long: a bad link passes small replies."""
            count = min(self._longest, FIRST_PAGE if self._prefetches else PAGE)
            args = [asked, cursor.nonce, cursor.digest, count, *stored_format]
            try:
                return await self._requests.run(READ, self._session_id, keys, args, retry_timeout=0)
            except StoreConnectionError:
                self._longest = max(1, count // 2)
                raise

        reply: Any = await self._requests.retrying(attempt, self._session_id)
        self._longest = min(PAGE, 2 * self._longest)
        if reply is None:
            return None
        nonce, length, start, entries, *stored = reply
        totals = None
        if stored:
            totals = usage_totals.restored(nonce, start, *stored)
            if totals is None:  # unusable: read all entries
                self._totals = []
                return await self.next(cursor)
        page = Page(start < asked, nonce, length, start, entries, totals)
        if self._prefetches and entries and start + len(entries) < length:
            self._start_prefetch(cursor, page)
        return page

    def _start_prefetch(self, cursor: Cursor, page: Page) -> None:
        """Request the first pages after this one."""
        reached = Cursor()
        if page.start:
            reached.first, reached.read = (page.totals.cursor if page.totals else cursor).first, page.start
        reached.move(page.nonce, page.entries)
        self._check = [reached.read, reached.nonce, reached.digest, 0]
        self._length, self._next, self._last = page.length, reached.read, page.entries[-1]
        size = sum(map(len, page.entries)) // len(page.entries) + 1
        self._count = max(1, min(MAX_PLAIN, PLAIN_BYTES // size))
        self._prefetch()

    def _prefetch(self) -> None:
        topology = self._requests.topology
        while len(self._in_flight) < AHEAD and self._next < self._length:
            prefetch = _Prefetch(self._next, min(self._count, self._length - self._next))
            last = prefetch.start + prefetch.count - 1
            try:
                # Not redirected to another node: there the check could be executed before the page is read.
                read = codec.frame_command([b"LRANGE", self._keys[0], prefetch.start - 1, last])
                topology.send(self._session_id, read, prefetch.on_entries, follow=False, unparsed=self._unparsed)
                check = READ.frame(self._keys, self._check)
                topology.send(self._session_id, check, prefetch.on_check, follow=False)
            except HelixError as error:
                prefetch.on_check(error)
            self._next += prefetch.count
            self._in_flight.append(prefetch)

    async def _next_prefetched(self) -> Page | None:
        """The next plain page; None if it failed, or is not of the same list."""
        prefetch = self._in_flight.popleft()
        try:
            entries, check = await self._requests.observed(prefetch.result(), self._session_id, "LRANGE")
        except HelixError:
            return None
        if check is None or check[2] != self._check[0]:
            return None
        if len(entries) != prefetch.count + 1:
            return None
        if isinstance(entries, list):
            first, newest, unparsed = entries[0], entries[-1], None
        else:
            first, newest, unparsed, entries = entries.first, entries.last, entries, []
        if first != self._last:
            return None
        del entries[:1]
        self._last = newest
        self._length = check[1]
        self._prefetch()
        return Page(False, check[0], check[1], prefetch.start, entries, unparsed=unparsed)
