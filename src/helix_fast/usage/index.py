"""UsageIndex: the sessions that have usage, in 64 sorted sets by expiry. Nothing here scans the server's keys."""

from __future__ import annotations

import functools
import time
import zlib
from collections import OrderedDict
from typing import Final

from helix_fast.index import IdPage, read_rows
from helix_fast.keys import index_shard, usage_index
from helix_fast.lua import script
from helix_fast.requests import Requests

_INDEX: Final = script("usage", "usage_index")
# Scores of sessions that never expire: above any time, and different, so that they need not all be on one page.
_FOREVER: Final = 4 * 10**15
# On a cluster a session is listed for a tenth of its TTL longer than it lives, and listed again after such a tenth.
_SLACK: Final = 10
_REMEMBERED: Final = 10_000


def forever(session_id: str) -> int:
    """Score of a session that never expires."""
    return _FOREVER + zlib.crc32(session_id.encode())


class UsageIndex:
    """The index as one store uses it.

    On a single server, the scripts that record and delete update it in the same step. On a cluster it is in other slots
    than the session's keys. There, :meth:`list_session` is called before a write, so that a crash in between hides no
    session. A deleted session stays listed until it would have expired, because other processes remember that it is
    listed; readers check that it still exists.
    """

    def __init__(self, requests: Requests, prefix: str) -> None:
        self._requests = requests
        self._prefix = prefix
        self._listed: OrderedDict[str, float] = OrderedDict()

    def key(self, session_id: str) -> bytes:
        """The shard that lists a session."""
        return usage_index(self._prefix, index_shard(session_id))

    async def list_session(self, session_id: str, ttl: int) -> None:
        """List a session, unless this process has done so lately. ``ttl`` in seconds; 0: forever."""
        now = time.monotonic()
        if self._listed.get(session_id, 0.0) > now:
            return
        slack = ttl // _SLACK
        lifetime = ttl + slack + 1 if ttl else 0
        shard = f"{index_shard(session_id):02d}"
        await self._requests.run(_INDEX, shard, [self.key(session_id)], [lifetime, session_id, forever(session_id)])
        self._listed[session_id] = now + slack if ttl else float("inf")
        self._listed.move_to_end(session_id)
        if len(self._listed) > _REMEMBERED:
            self._listed.popitem(last=False)

    async def page(self, limit: int | None, cursor: str | None) -> IdPage:
        """The page behind a cursor, in one wave of requests to all remaining shards.

        Raises:
            InvalidArgumentError: a limit below 1, an invalid cursor.
        """
        self._requests.check_loop()
        rows, following = await read_rows(
            self._requests, functools.partial(usage_index, self._prefix), limit, cursor, "find_session_ids"
        )
        found = IdPage(row.id for row in rows)
        found.cursor = following
        return found
