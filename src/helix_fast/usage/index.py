"""UsageIndex: the sessions that have usage, in 64 sorted sets by expiry. Nothing here scans the server's keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections import OrderedDict
from typing import Any, Final, cast

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError
from helix_fast.keys import INDEX_SHARDS, usage_index, usage_shard
from helix_fast.lua import script
from helix_fast.requests import Requests

_INDEX: Final = script("usage", "usage_index")
_FIND: Final = script("usage", "usage_find")
# Scores of sessions that never expire: above any time, and different, so that they need not all be on one page.
_FOREVER: Final = 4 * 10**15
# On a cluster a session is listed for a tenth of its TTL longer than it lives, and listed again after such a tenth.
_SLACK: Final = 10
_REMEMBERED: Final = 10_000


class SessionIdPage(list[str]):
    """Session ids; ``cursor`` is that of the next page, None at the end."""

    cursor: str | None = None


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
        return usage_index(self._prefix, usage_shard(session_id))

    async def list_session(self, session_id: str, ttl: int) -> None:
        """List a session, unless this process has done so lately. ``ttl`` in seconds; 0: forever."""
        now = asyncio.get_running_loop().time()
        if self._listed.get(session_id, 0.0) > now:
            return
        slack = ttl // _SLACK
        lifetime = ttl + slack + 1 if ttl else 0
        shard = f"{usage_shard(session_id):02d}"
        await self._requests.run(_INDEX, shard, [self.key(session_id)], [lifetime, session_id, forever(session_id)])
        self._listed[session_id] = now + slack if ttl else float("inf")
        self._listed.move_to_end(session_id)
        if len(self._listed) > _REMEMBERED:
            self._listed.popitem(last=False)

    async def page(self, limit: int | None, cursor: str | None) -> SessionIdPage:
        """The page behind a cursor, in one wave of requests to all remaining shards.

        Raises:
            InvalidArgumentError: a limit below 1, an invalid cursor.
        """
        most = None if limit is None else arguments.integer(limit, "limit", 1)
        first, score, member = (0, "", b"") if cursor is None else _parse_cursor(cursor)
        count = -1 if most is None else most + 1
        shards = range(first, INDEX_SHARDS)
        replies: list[Any] = await asyncio.gather(
            *(
                self._requests.run(
                    _FIND,
                    f"{shard:02d}",
                    [usage_index(self._prefix, shard)],
                    [score if shard == first else "", count],
                )
                for shard in shards
            )
        )
        rows: list[tuple[int, bytes, bytes]] = []
        for shard, (ties, beyond) in zip(shards, replies, strict=True):
            rows += [(shard, ties[i + 1], ties[i]) for i in range(0, len(ties), 2) if ties[i] > member]
            rows += [(shard, beyond[i + 1], beyond[i]) for i in range(0, len(beyond), 2)]
        page = rows if most is None else rows[:most]
        found = SessionIdPage(row[2].decode() for row in page)
        if len(rows) > len(page):
            found.cursor = _make_cursor(*page[-1])
        return found


def _make_cursor(shard: int, score: bytes, member: bytes) -> str:
    return base64.urlsafe_b64encode(b"%d:%b:%b" % (shard, score, member)).decode()


def _parse_cursor(cursor: object) -> tuple[int, str, bytes]:
    try:
        shard, score, member = base64.urlsafe_b64decode(cast("str", cursor)).split(b":", 2)
        if not (0 <= int(shard) < INDEX_SHARDS and score.isdigit() and member):
            raise ValueError(cursor)
        return int(shard), score.decode(), member
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidArgumentError(f"{cursor!r} is no cursor of find_session_ids") from error
