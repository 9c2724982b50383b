"""Reading a list of usage entries page by page, while the server is at work on the pages after it.

One script is the judge of which list this is: it answers a page together with what it was read from. That costs the
server some five times as much as a plain LRANGE, so it reads only the first page. The ones after it are plain, asked
for ahead, and each is followed, in the same write, by a call of the script without entries: the list was the one begun
with before a page was read, and still is afterwards. A page also begins with the last entry of the page before.
Whatever does not look like that is dropped, and the script reads on from the last place that is certain.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import Any, Final, NamedTuple

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.keys import UsageKeys
from helix_fast.lua import script
from helix_fast.store import RedisStore

from . import totals as usage_totals

READ: Final = script("usage", "usage_read")
# Entries that the script reads: few where plain pages follow. Where they cannot, some 2.5 MB, so that no reply holds
# the server up for long.
FIRST_PAGE: Final = 500
PAGE: Final = 10_000
# Plain pages: bytes of each, about, and how many are on their way.
PLAIN_BYTES: Final = 512 << 10
MAX_PLAIN: Final = 10_000
AHEAD: Final = 3


class Place:
    """How far a list has been read: entries, and what tells this life of the list from another."""

    __slots__ = ("digest", "first", "nonce", "read")

    def __init__(self) -> None:
        self.read = 0
        self.nonce = b""
        self.first = b""
        self.digest = b""

    def move(self, nonce: bytes, entries: list[bytes]) -> None:
        """These entries were read too."""
        self.nonce = nonce
        if entries:
            if not self.read:
                self.first = entries[0]
            self.read += len(entries)
            self.digest = hashlib.sha1(self.first + entries[-1], usedforsecurity=False).hexdigest().encode()


class Totals(NamedTuple):
    """What somebody has added up before."""

    place: Place
    """Behind the last entry that they cover."""
    rollup: codec.Rollup


class Page(NamedTuple):
    """Entries that follow each other."""

    anew: bool
    """Whether the list is another than the one of the place that was asked for; then it is read from its beginning."""
    nonce: bytes
    length: int
    """Of the whole list."""
    start: int
    """Place of the first of the entries; beyond the place that was asked for only where there are totals."""
    entries: list[bytes]
    totals: Totals | None = None
    """What the entries before the page add up to, where the list was to be read from its beginning."""


class _Plain:
    """A plain page on its way."""

    __slots__ = ("checked", "count", "entries", "start")

    def __init__(self, start: int, count: int) -> None:
        self.start = start
        self.count = count
        self.entries: Any = None
        self.checked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def came(self, reply: Any) -> None:
        """The reply to LRANGE."""
        self.entries = reply

    def check(self, reply: Any) -> None:
        """The reply to the script."""
        if not self.checked.done():
            self.checked.set_result(reply)

    async def landed(self) -> tuple[list[bytes], Any]:
        """The entries, that before the first one included, and what the script said after them."""
        check = await self.checked
        for reply in (self.entries, check):
            if isinstance(reply, HelixError):
                raise reply
        return self.entries, check


class Pages:
    """The pages of one session's entries, for one reader from its first page to its last.

    Args:
        store: the way to the server. session_id, keys: whose entries.
        totals: whether stored totals will do in place of the entries that they cover.
    """

    def __init__(self, store: RedisStore, session_id: str, keys: UsageKeys, *, totals: bool = False) -> None:
        self._store = store
        self._session_id = session_id
        self._keys = [keys.entries, keys.ids]
        self._totals = [keys.totals] if totals else []  # where they are wanted
        self._flying: deque[_Plain] = deque()
        self._plain = True
        # of the plain pages: what tells their list from another, its length, the next entry to ask for, the last had
        self._check: list[bytes | int] = []
        self._length = self._next = self._count = 0
        self._last = b""

    async def next(self, place: Place) -> Page | None:
        """A page with the entry at a place, if there is one yet; None where the list is gone.

        Args:
            place: where the page before has ended, or further on in the same list. Without plain pages on their way,
                the page begins just there.

        Raises:
            StoreError.
        """
        if self._flying:
            page = await self._land()
            if page is not None:
                return page
            self._flying.clear()
            self._plain = False
        asked = place.read
        count = FIRST_PAGE if self._plain else PAGE
        keys = self._keys
        args: list[bytes | int] = [asked, place.nonce, place.digest, count]
        if self._totals and not asked:
            keys = keys + self._totals
            args.append(usage_totals.FORMAT)
        reply: Any = await self._store.run(READ, self._session_id, keys, args)
        if reply is None:
            return None
        nonce, length, start, entries, *stored = reply
        totals = None
        if stored:
            totals = _restored(nonce, start, *stored)
            if totals is None:  # of no use: all is read, and they are not asked for again
                self._totals = []
                return await self.next(place)
        page = Page(start < asked, nonce, length, start, entries, totals)
        if self._plain and entries and start + len(entries) < length:
            self._take_off(place, page)
        return page

    def _take_off(self, place: Place, page: Page) -> None:
        """Ask for the pages after this one."""
        reached = Place()
        if page.start:
            reached.first, reached.read = (page.totals.place if page.totals else place).first, page.start
        reached.move(page.nonce, page.entries)
        self._check = [reached.read, reached.nonce, reached.digest, 0]
        self._length, self._next, self._last = page.length, reached.read, page.entries[-1]
        size = sum(map(len, page.entries)) // len(page.entries) + 1
        self._count = max(1, min(MAX_PLAIN, PLAIN_BYTES // size))
        self._ask()

    def _ask(self) -> None:
        topology = self._store.topology
        while len(self._flying) < AHEAD and self._next < self._length:
            plain = _Plain(self._next, min(self._count, self._length - self._next))
            last = plain.start + plain.count - 1
            try:
                # Not to be followed to another node: there the check could come before the page.
                for frame, on_reply in (
                    (codec.frame_command([b"LRANGE", self._keys[0], plain.start - 1, last]), plain.came),
                    (READ.frame(self._keys, self._check), plain.check),
                ):
                    topology.send(self._session_id, frame, on_reply, follow=False)
            except HelixError as error:
                plain.check(error)
            self._next += plain.count
            self._flying.append(plain)

    async def _land(self) -> Page | None:
        """The next plain page; None where something is amiss, or another list is there now."""
        plain = self._flying.popleft()
        try:
            entries, check = await self._store.observed(plain.landed(), self._session_id, "LRANGE")
        except HelixError:
            return None
        if check is None or check[2] != self._check[0]:
            return None
        if len(entries) != plain.count + 1 or entries[0] != self._last:
            return None
        del entries[0]
        self._last = entries[-1]
        self._length = check[1]
        self._ask()
        return Page(False, check[0], check[1], plain.start, entries)


def _restored(nonce: bytes, count: int, sums: bytes, digest: bytes, first: bytes) -> Totals | None:
    rollup = usage_totals.load(sums, count)
    if rollup is None:
        return None
    place = Place()
    place.read, place.nonce, place.digest, place.first = count, nonce, digest, first
    return Totals(place, rollup)
