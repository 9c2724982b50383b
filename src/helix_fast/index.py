"""Indexes: pages of the ids that a store has, in 64 sorted sets by expiry. Nothing here scans the server's keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, cast

from . import arguments
from .errors import HelixError, InvalidArgumentError
from .keys import INDEX_SHARDS, index_shard
from .lua import Argument, script
from .requests import Requests
from .slices import Slices

_FIND: Final = script("", "index_find")
_LIST: Final = script("", "index_list")
_UNLIST: Final = script("", "index_unlist")
_REMEMBERED: Final = 10_000
# An id is listed for a tenth of its TTL longer than it lives, and listed again after such a tenth.
_SLACK: Final = 10
_KEPT_SECONDS: Final = 3600.0  # without a TTL
_CHECKED_AT_ONCE: Final = 100  # the event loop's other tasks wait while so many requests are made


class IdPage(list[str]):
    """Ids; ``cursor`` is that of the next page, None at the end."""

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


class Index:
    """An index as one store uses it. It is written after what it lists, and what is read from it is checked.

    On a single server the script that writes lists the id in the same step, and the one that deletes takes it out. On a
    cluster the index is in other slots than the keys of the id: there it is listed after the write, and an id that was
    deleted is found by a reader, who takes it out.

    Args:
        requests: the store's.
        key: the key of a shard.
        ttl: seconds from its last write until something with an id expires; 0: never.
        method: the public method that reads the index, for errors.
        report: gets errors of listing on a cluster: the write itself has succeeded.
    """

    def __init__(
        self,
        requests: Requests,
        key: Callable[[int], bytes],
        ttl: int,
        method: str,
        report: Callable[[HelixError], None],
    ) -> None:
        self._requests = requests
        self._key = key
        self._ttl = ttl
        self._method = method
        self._report = report
        self._listed: OrderedDict[str, float] = OrderedDict()

    def key(self, id_: str) -> bytes:
        """The shard that lists an id."""
        return self._key(index_shard(id_))

    def key_beside(self, key: bytes, id_: str, *, lists: bool = True) -> bytes:
        """The shard for a script that lists an id in the same step; on a cluster, and to list nothing, ``key``."""
        return self.key(id_) if lists and not self._requests.topology.clustered else key

    async def listed(self, id_: str, *, created: bool = False) -> None:
        """A script was given ``key_beside``: remember that, or list the id now, on a cluster."""
        if self._requests.topology.clustered:
            await self.list_id(id_, created=created)
        else:
            self.remember(id_)

    def lists(self, id_: str) -> bool:
        """Whether this process has listed the id lately."""
        return self._listed.get(id_, 0.0) > asyncio.get_running_loop().time()

    def remember(self, id_: str) -> None:
        """The id has been listed now."""
        slack = self._ttl / _SLACK if self._ttl else _KEPT_SECONDS
        self._listed[id_] = asyncio.get_running_loop().time() + slack
        self._listed.move_to_end(id_)
        if len(self._listed) > _REMEMBERED:
            self._listed.popitem(last=False)

    def forget(self, id_: str) -> None:
        """The id was deleted."""
        self._listed.pop(id_, None)

    async def list_id(self, id_: str, *, created: bool, ttl: int | None = None) -> None:
        """List an id that was just written, on a cluster. An error is reported: a later write lists it again.

        Args:
            ttl: its own; None: the store's.
        """
        lifetime = self._ttl if ttl is None else ttl
        if ttl is not None and self._ttl and ttl > self._ttl:
            lifetime = 0  # other processes list it by the store's TTL: until a reader finds that it is gone
        shard = f"{index_shard(id_):02d}"
        args: list[Argument] = [lifetime, id_, "1" if created else "0"]
        try:
            await self._requests.run(_LIST, shard, [self.key(id_)], args)
        except HelixError as error:
            self._report(error)
        else:
            self.remember(id_)

    async def page(self, limit: int | None, cursor: str | None, exists: Callable[[str], Awaitable[bool]]) -> IdPage:
        """The ids behind a cursor that exist; those that do not are taken out of the index."""
        found = IdPage()
        if limit is not None:
            arguments.integer(limit, "limit", 1)
        while True:
            most = None if limit is None else limit - len(found)
            rows, cursor = await read_rows(self._requests, self._key, most, cursor, self._method)
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

    async def unchecked(self) -> list[Row]:
        """All rows. What they list may be gone: the caller finds that when it asks for it."""
        return (await read_rows(self._requests, self._key, None, None, self._method))[0]

    async def _take_out(self, rows: list[Row]) -> None:
        """Take out what does not exist, unless it was listed anew since the rows were read."""
        shards: defaultdict[int, list[Argument]] = defaultdict(list)
        for row in rows:
            self.forget(row.id)
            shards[row.shard] += [row.member, row.score]
        await asyncio.gather(
            *(self._requests.run(_UNLIST, f"{shard:02d}", [self._key(shard)], args) for shard, args in shards.items())
        )


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
    slices = Slices()
    for shard, (ties, beyond) in zip(shards, replies, strict=True):
        rows += [Row(shard, ties[i + 1], ties[i]) for i in range(0, len(ties), 2) if ties[i] > member]
        rows += [Row(shard, beyond[i + 1], beyond[i]) for i in range(0, len(beyond), 2)]
        if slices.over:
            await slices.next()
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
