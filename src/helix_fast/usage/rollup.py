"""Rollups of sessions and of trees of sessions. Each is cached, so that only new entries are read and added.

The cache is in this process. Rollups are also stored on the server, for processes that have none yet: see totals.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final

from helix_fast import codec
from helix_fast.errors import HelixError, InvalidIdError, StoreError
from helix_fast.keys import UsageKeys, check_id
from helix_fast.requests import Requests

from . import totals as usage_totals
from .pages import FIRST_PAGE, Page, Pages
from .rollup_schema import UsageRollup, build_rollup
from .totals import Cursor, StoredRollup

# Reading gives up on a list that is deleted and made again more often than this meanwhile.
MAX_RESTARTS: Final = 100
# Totals are stored again when they would cover so many entries more. So the entries behind them, except those recorded
# since, always fit into the first page that another process reads. Storing fewer would save next to nothing.
STORE_EVERY: Final = FIRST_PAGE


class _CachedRollup:
    """The rollup of one session's entries up to a cursor."""

    __slots__ = ("cursor", "rollup", "stored")

    def __init__(self, stored: StoredRollup | None = None) -> None:
        self.cursor = Cursor() if stored is None else stored.cursor
        self.rollup = codec.Rollup() if stored is None else stored.rollup
        self.stored = self.cursor.read
        """Entries that the stored totals cover, as far as this process knows; also after a failed try to store them."""


class RollupReader:
    """Adds up entries, and caches the rollups of the sessions used last.

    Args:
        requests: the store's.
        prefix: of the keys.
        capacity: sessions in the cache; each costs some hundred bytes for each of its models, tools and types.
    """

    def __init__(self, requests: Requests, prefix: str, capacity: int) -> None:
        self._requests = requests
        self._prefix = prefix
        self._capacity = capacity
        self._cache: OrderedDict[str, _CachedRollup] = OrderedDict()

    def forget(self, session_id: str) -> None:
        """Remove a session from the cache; its next rollup reads all entries."""
        self._cache.pop(session_id, None)

    async def session(self, session_id: str) -> codec.Rollup | None:
        """A copy of the rollup of one session; None if it has no entries.

        A cached rollup belongs to one life of the list, and only moves forward. The server has checked each page
        against the cursor of its request. If another task has moved the same rollup meanwhile, the entries that both
        have read are skipped. So concurrent calls never add an entry twice.
        """
        keys = UsageKeys(self._prefix, session_id)
        cached = self._cache.get(session_id) or _CachedRollup()
        pages = Pages(self._requests, session_id, keys, totals=True, unparsed=True)
        restarts = 0
        while restarts < MAX_RESTARTS:
            page = await pages.next(cached.cursor)
            if page is None:
                self.forget(session_id)
                return None
            if page.anew:  # the list was deleted, has expired, or was made again
                cached = _CachedRollup()
                restarts += 1
            if page.totals is not None:
                cached = _CachedRollup(page.totals)
            read = cached.cursor.read - page.start
            if page.unparsed is not None:
                self._add_unparsed(cached, page, page.unparsed, read)
            else:
                fresh = page.entries[read:] if read else page.entries
                cached.rollup.add(fresh)
                cached.cursor.move(page.nonce, fresh)
            self._keep(session_id, cached)
            if cached.cursor.read >= page.length:
                if cached.cursor.read - cached.stored >= STORE_EVERY:
                    self._store_totals(session_id, keys, cached)
                return cached.rollup.copy()
        raise StoreError(f"the usage of {session_id!r} is deleted again and again while it is being read")

    def _add_unparsed(self, cached: _CachedRollup, page: Page, strings: codec.StringArray, read: int) -> None:
        """Add a page but for the entries of it that were read, and the last entry of the page before."""
        fresh = len(strings) - 1 - read
        if fresh > 0:
            cached.rollup.add_strings(strings, 1 + read)
            cached.cursor.move_by(page.nonce, fresh, strings.last)

    def _store_totals(self, session_id: str, keys: UsageKeys, cached: _CachedRollup) -> None:
        """Store the totals without waiting: no result depends on it."""
        cached.stored = cached.cursor.read  # also if it fails: the next try is so many entries later, not sooner
        frame = usage_totals.frame(keys, cached.cursor, cached.rollup)
        if frame is not None:
            with contextlib.suppress(HelixError):  # the store may be closed by now
                self._requests.topology.send(session_id, frame)

    def _keep(self, session_id: str, cached: _CachedRollup) -> None:
        self._cache[session_id] = cached
        self._cache.move_to_end(session_id)
        if len(self._cache) > self._capacity:
            self._cache.popitem(last=False)

    async def tree(self, root: str) -> UsageRollup | None:
        """The rollup of a session and of all sessions below it; one wave of requests for each level of the tree."""
        self._requests.check_loop()
        by_session: dict[str, UsageRollup] = {}
        missing: list[str] = []
        seen = {root}
        whole = codec.Rollup()
        level = [root]
        while level:
            found = await asyncio.gather(*(self.session(session_id) for session_id in level))
            below: list[str] = []
            for session_id, rollup in zip(level, found, strict=True):
                if rollup is None:
                    missing.append(session_id)
                    continue
                exported = rollup.export()
                by_session[session_id] = build_rollup(session_id, exported)
                whole.merge(rollup)
                for child in exported[-1]:
                    if child not in seen:
                        seen.add(child)
                        (below if _can_be(child) else missing).append(child)
            if root in missing:
                return None
            level = below
        result = build_rollup(root, whole.export())
        result.by_session = by_session
        result.missing_sessions = missing
        return result


def _can_be(session_id: str) -> bool:
    """Whether the id, which an entry names, is a valid one."""
    try:
        check_id(session_id, "session_id")
    except InvalidIdError:
        return False
    return True
