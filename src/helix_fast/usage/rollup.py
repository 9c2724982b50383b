"""Rollups of sessions and of trees of sessions: what was added once is kept, only what is new is read.

It is kept in the process, and on the server for processes that have added nothing yet: see usage_totals.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final

from helix_fast import codec
from helix_fast.errors import HelixError, InvalidIdError, StoreError
from helix_fast.keys import UsageKeys, check_id
from helix_fast.store import RedisStore

from . import totals as usage_totals
from .pages import FIRST_PAGE, Pages, Place, Totals
from .rollup_schema import UsageRollup, build_rollup

# A list that is made anew more often than this while it is being read belongs to somebody with another problem.
MAX_RESTARTS: Final = 100
# Entries beyond those stored totals cover from which on new totals are stored: so what they do not cover, but for what
# was recorded since, always fits in the first page of whoever reads them. Fewer save next to nothing.
STORE_EVERY: Final = FIRST_PAGE


class _Sums:
    """What has been added of one session."""

    __slots__ = ("place", "rollup", "stored")

    def __init__(self, totals: Totals | None = None) -> None:
        self.place = Place() if totals is None else totals.place
        self.rollup = codec.Rollup() if totals is None else totals.rollup
        self.stored = self.place.read
        """Entries that stored totals cover, as far as is known here, or that storing them was tried for."""


class RollupReader:
    """Adds up entries as they come, and keeps the sums of the sessions asked for last.

    Args:
        store: the way to the server.
        prefix: of the keys.
        capacity: sessions whose sums are kept; each costs some hundred bytes for each of its models, tools and types.
    """

    def __init__(self, store: RedisStore, prefix: str, capacity: int) -> None:
        self._store = store
        self._prefix = prefix
        self._capacity = capacity
        self._kept: OrderedDict[str, _Sums] = OrderedDict()

    def forget(self, session_id: str) -> None:
        """Drop a session's sums; the next rollup reads all of it."""
        self._kept.pop(session_id, None)

    async def session(self, session_id: str) -> codec.Rollup | None:
        """The sums of one session, in a copy of the caller's own; None where it has no entries.

        An object of sums belongs to one life of the list and only moves forward. The server has checked each reply
        against the place that was asked for; where another task has moved the same sums on meanwhile, the entries that
        both have read are skipped. So concurrent calls never add an entry twice.
        """
        keys = UsageKeys(self._prefix, session_id)
        sums = self._kept.get(session_id) or _Sums()
        pages = Pages(self._store, session_id, keys, totals=True)
        restarts = 0
        while restarts < MAX_RESTARTS:
            page = await pages.next(sums.place)
            if page is None:
                self.forget(session_id)
                return None
            if page.anew:  # another list: deleted, expired or made anew
                sums = _Sums()
                restarts += 1
            if page.totals is not None:
                sums = _Sums(page.totals)
            read = sums.place.read - page.start
            fresh = page.entries[read:] if read else page.entries
            sums.rollup.add(fresh)
            sums.place.move(page.nonce, fresh)
            self._keep(session_id, sums)
            if sums.place.read >= page.length:
                if sums.place.read - sums.stored >= STORE_EVERY:
                    self._store_totals(session_id, keys, sums)
                return sums.rollup.copy()
        raise StoreError(f"the usage of {session_id!r} is deleted again and again while it is being read")

    def _store_totals(self, session_id: str, keys: UsageKeys, sums: _Sums) -> None:
        """Have the totals stored, without waiting for it: whether that is done matters to no result."""
        sums.stored = sums.place.read  # also where it fails: as many entries later, not sooner, it is tried again
        frame = usage_totals.frame(keys, sums.place, sums.rollup)
        if frame is not None:
            with contextlib.suppress(HelixError):  # closed meanwhile
                self._store.topology.send(session_id, frame)

    def _keep(self, session_id: str, sums: _Sums) -> None:
        self._kept[session_id] = sums
        self._kept.move_to_end(session_id)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    async def tree(self, root: str) -> UsageRollup | None:
        """The sums of a session and of all below it; a wave of requests for each level of the tree."""
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
    """Whether an id that some entry names can have entries at all."""
    try:
        check_id(session_id, "session_id")
    except InvalidIdError:
        return False
    return True
