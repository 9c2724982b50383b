"""Indexes: pages of the ids that a store has, in 64 sorted sets by expiry. Nothing here scans the server's keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from . import arguments
from .errors import InvalidArgumentError
from .keys import INDEX_SHARDS
from .lua import script
from .requests import Requests

_FIND: Final = script("", "index_find")


class SessionIdPage(list[str]):
    """Session ids; ``cursor`` is that of the next page, None at the end."""

    cursor: str | None = None


class Row(NamedTuple):
    """An id in the index."""

    shard: int
    score: bytes
    member: bytes

    @property
    def id(self) -> str:
        """The id as text."""
        return self.member.decode()


async def read_rows(
    requests: Requests, key: Callable[[int], bytes], limit: int | None, cursor: str | None, method: str
) -> tuple[list[Row], str | None]:
    """The rows behind a cursor, in one wave of requests to all remaining shards, and the cursor behind them.

    Args:
        key: the key of a shard.
        limit: rows at most; None: all.
        method: the public method whose cursors these are, for the error.

    Raises:
        InvalidArgumentError: a limit below 1, an invalid cursor.
    """
    most = None if limit is None else arguments.integer(limit, "limit", 1)
    first, score, member = (0, "", b"") if cursor is None else _parse_cursor(cursor, method)
    count = -1 if most is None else most + 1
    shards = range(first, INDEX_SHARDS)
    replies: list[Any] = await asyncio.gather(
        *(
            requests.run(_FIND, f"{shard:02d}", [key(shard)], [score if shard == first else "", count])
            for shard in shards
        )
    )
    rows: list[Row] = []
    for shard, (ties, beyond) in zip(shards, replies, strict=True):
        rows += [Row(shard, ties[i + 1], ties[i]) for i in range(0, len(ties), 2) if ties[i] > member]
        rows += [Row(shard, beyond[i + 1], beyond[i]) for i in range(0, len(beyond), 2)]
    page = rows if most is None else rows[:most]
    return page, _make_cursor(page[-1]) if len(rows) > len(page) else None


def _make_cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(b"%d:%b:%b" % row).decode()


def _parse_cursor(cursor: object, method: str) -> tuple[int, str, bytes]:
    try:
        shard, score, member = base64.urlsafe_b64decode(cast("str", cursor)).split(b":", 2)
        if not (0 <= int(shard) < INDEX_SHARDS and score.isdigit() and member):
            raise ValueError(cursor)
        return int(shard), score.decode(), member
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidArgumentError(f"{arguments.shown(cursor)} is no cursor of {method}") from error
