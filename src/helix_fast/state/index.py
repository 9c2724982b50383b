"""SessionIndex: which sessions there are. It is written after a session, and what is read from it is checked."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from helix_fast.errors import HelixError
from helix_fast.index import Row, SessionIdPage, read_rows
from helix_fast.keys import index_shard, session_index
from helix_fast.lua import Argument, script
from helix_fast.requests import Requests

_LIST: Final = script("state", "state_list")
_UNLIST: Final = script("state", "state_unlist")
_REMEMBERED: Final = 10_000
# A session is listed for a tenth of its TTL longer than it lives, and listed again after such a tenth.
_SLACK: Final = 10
_KEPT_SECONDS: Final = 3600.0  # without a TTL
_CHECKED_AT_ONCE: Final = 1000


class SessionIndex:
    """The index as one store uses it.

    On a single server the script that writes a session lists it in the same step, and the one that deletes it takes it
    out. On a cluster the index is in other slots than the session: there it is listed after the write, and a deleted
    session is found by a reader, who takes it out.

    Args:
        ttl: seconds from its last write until a session expires; 0: never.
        report: gets errors of listing on a cluster: the write itself has succeeded.
    """

    def __init__(self, requests: Requests, prefix: str, ttl: int, report: Callable[[HelixError], None]) -> None:
        self._requests = requests
        self._key = functools.partial(session_index, prefix)
        self._ttl = ttl
        self._report = report
        self._listed: OrderedDict[str, float] = OrderedDict()

    def key(self, session_id: str) -> bytes:
        """The shard that lists a session."""
        return self._key(index_shard(session_id))

    def lists(self, session_id: str) -> bool:
        """Whether this process has listed the session lately."""
        return self._listed.get(session_id, 0.0) > asyncio.get_running_loop().time()

    def remember(self, session_id: str) -> None:
        """The session has been listed now."""
        slack = self._ttl / _SLACK if self._ttl else _KEPT_SECONDS
        self._listed[session_id] = asyncio.get_running_loop().time() + slack
        self._listed.move_to_end(session_id)
        if len(self._listed) > _REMEMBERED:
            self._listed.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        self._listed.pop(session_id, None)

    async def list_session(self, session_id: str, *, created: bool, ttl: int | None = None) -> None:
        """List a session that was just written, on a cluster. An error is reported: a later write lists it again.

        Args:
            ttl: its own; None: the store's.
        """
        lifetime = self._ttl if ttl is None else ttl
        if ttl is not None and self._ttl and ttl > self._ttl:
            lifetime = 0  # other processes list it by the store's TTL: until a reader finds that it is gone
        shard = f"{index_shard(session_id):02d}"
        args: list[Argument] = [lifetime, session_id, "1" if created else "0"]
        try:
            await self._requests.run(_LIST, shard, [self.key(session_id)], args)
        except HelixError as error:
            self._report(error)
        else:
            self.remember(session_id)

    async def page(
        self, limit: int | None, cursor: str | None, exists: Callable[[str], Awaitable[bool]]
    ) -> SessionIdPage:
        """The sessions behind a cursor that exist; those that do not are taken out of the index."""
        found = SessionIdPage()
        while True:
            most = None if limit is None else limit - len(found)
            rows, cursor = await read_rows(self._requests, self._key, most, cursor, "list_sessions")
            gone: list[Row] = []
            for first in range(0, len(rows), _CHECKED_AT_ONCE):
                part = rows[first : first + _CHECKED_AT_ONCE]
                there = await asyncio.gather(*(exists(row.id) for row in part))
                found += [row.id for row, alive in zip(part, there, strict=True) if alive]
                gone += [row for row, alive in zip(part, there, strict=True) if not alive]
            await self._take_out(gone)
            if cursor is None or limit is None or len(found) >= limit:
                found.cursor = cursor
                return found

    async def _take_out(self, rows: list[Row]) -> None:
        """Take out what does not exist, unless it was listed anew since the rows were read."""
        shards: defaultdict[int, list[Argument]] = defaultdict(list)
        for row in rows:
            self.forget(row.id)
            shards[row.shard] += [row.member, row.score]
        await asyncio.gather(
            *(self._requests.run(_UNLIST, f"{shard:02d}", [self._key(shard)], args) for shard, args in shards.items())
        )
