"""HelixStore: LangGraph's long-term memory on any Redis or Valkey, without vectors."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, cast

import msgspec
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.errors import InvalidArgumentError

from .collections import Collections, Found, Namespace
from .connection import Connected

_MINUTE_MS = 60_000


class HelixStore(Connected, BaseStore):
    """LangGraph's ``BaseStore`` on Redis or Valkey: namespaces, filters and expiry; no search by meaning.

    Items are plain JSON. The items of one namespace are in one slot of a cluster, and a put, a get or a delete there
    is one round trip. A search reads the list of namespaces below its prefix, then all items of each, and filters them
    here; items that were updated last come first. ``query`` of a search, and ``index`` of a put, make no difference.

    Args:
        target: an open Helix, or what ``connect`` takes: then ``async with``, ``with`` or ``setup`` opens it.
        key_prefix: put before every key; default: that of the Helix.
        ttl: LangGraph's: ``default_ttl`` in minutes, ``refresh_on_read``. Expired items are never read.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError, InvalidUrlError: an option is out of range or unknown.
    """

    supports_ttl = True

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        key_prefix: str | None = None,
        ttl: TTLConfig | None = None,
        **options: Any,
    ) -> None:
        Connected.__init__(self, target, key_prefix, options)
        self.ttl_config = ttl
        self._stored: Collections | None = None

    @property
    def _collections(self) -> Collections:
        if self._stored is None:
            self._stored = Collections(self._connection.requests, self._connection.key_prefix, "memory")
        return self._stored

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As :meth:`abatch`, blocking."""
        return self._connection.wait_for(self.abatch(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do some operations. All reads come before the writes; of several writes of one item the last one counts.

        Raises:
            InvalidArgumentError: a value is no JSON; nothing was written.
        """
        return await self._connection.at_home(self._batch(list(ops)))

    async def _batch(self, ops: list[Op]) -> list[Result]:
        gets: defaultdict[Namespace, dict[str, bool]] = defaultdict(dict)
        puts: defaultdict[Namespace, dict[str, tuple[bytes | None, int | None]]] = defaultdict(dict)
        for op in ops:
            if isinstance(op, GetOp):
                gets[op.namespace][op.key] = gets[op.namespace].get(op.key, False) or op.refresh_ttl
            elif isinstance(op, PutOp):
                data = None if op.value is None else arguments.json_value(op.value, f"the value of {op.key!r}")
                puts[op.namespace][op.key] = data, None if op.ttl is None else round(op.ttl * _MINUTE_MS)
            elif not isinstance(op, (SearchOp, ListNamespacesOp)):
                raise InvalidArgumentError(f"no operation of a store: {type(op).__name__}")
        collections = self._collections
        found = dict(zip(gets, await asyncio.gather(*(collections.get(*each) for each in gets.items())), strict=True))
        results = await asyncio.gather(*(self._read(op, found) for op in ops))
        await asyncio.gather(*(collections.put(*each) for each in puts.items()))
        return list(results)

    async def _read(self, op: Op, found: Mapping[Namespace, Mapping[str, Found]]) -> Result:
        if isinstance(op, GetOp):
            item = found[op.namespace].get(op.key)
            return None if item is None else Item(namespace=op.namespace, key=op.key, **_fields(item))
        if isinstance(op, SearchOp):
            return await self._search(op)
        if isinstance(op, ListNamespacesOp):
            return await self._namespaces(op)
        return None

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        collections = self._collections
        namespaces = await collections.below(tuple(op.namespace_prefix))
        pages = await asyncio.gather(*map(collections.all, namespaces))
        rows = [
            (item, namespace, key)
            for namespace, page in zip(namespaces, pages, strict=True)
            for key, item in page.items()
        ]
        rows.sort(key=lambda row: (-row[0].updated, row[1], row[2]))
        matching = []
        for item, namespace, key in rows:
            fields = _fields(item)
            if all(_matches(fields["value"].get(name), wanted) for name, wanted in (op.filter or {}).items()):
                matching.append((item, SearchItem(namespace, key, **fields)))
        chosen = matching[op.offset : op.offset + op.limit]
        renewed: defaultdict[Namespace, dict[str, bool]] = defaultdict(dict)
        for item, row in chosen:
            if item.expires and op.refresh_ttl:
                renewed[row.namespace][row.key] = True
        await asyncio.gather(*(collections.get(*each) for each in renewed.items()))
        return [row for _, row in chosen]

    async def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        prefix: list[str] = []
        for condition in conditions:
            if condition.match_type == "prefix":
                literal = [*condition.path, "*"]
                prefix = max(prefix, literal[: literal.index("*")], key=len)
        below = await self._collections.below(tuple(prefix))
        found = await self._collections.filled([each for each in below if all(_fits(each, one) for one in conditions)])
        if op.max_depth is not None:
            found = sorted({each[: op.max_depth] for each in found})
        return found[op.offset : op.offset + op.limit]


def _fields(item: Found) -> dict[str, Any]:
    def at(time: int) -> datetime:
        return datetime.fromtimestamp(time / 1000, timezone.utc)

    return {"value": msgspec.json.decode(item.data), "created_at": at(item.created), "updated_at": at(item.updated)}


def _fits(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))


def _matches(value: Any, wanted: Any) -> bool:
    """Whether a field is as a filter wants it: equal, or by the operators ``$eq``, ``$ne``, ``$gt``…"""
    if isinstance(wanted, Mapping):
        if any(name.startswith("$") for name in wanted):
            return all(_compares(value, name, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and all(_matches(value.get(name), other) for name, other in wanted.items())
    if isinstance(wanted, (list, tuple)):
        pairs = isinstance(value, list) and len(value) == len(wanted)
        return pairs and all(map(_matches, cast("list[Any]", value), wanted))
    return bool(value == wanted)


def _compares(value: Any, name: str, other: Any) -> bool:
    if name == "$eq":
        return bool(value == other)
    if name == "$ne":
        return bool(value != other)
    if name not in {"$gt", "$gte", "$lt", "$lte"}:
        raise InvalidArgumentError(f"no operator {name!r} of filters", hint="$eq, $ne, $gt, $gte, $lt, $lte")
    try:
        mine, theirs = float(value), float(other)
    except (TypeError, ValueError):
        return False
    above, equal = mine > theirs, mine == theirs
    return {"$gt": above, "$gte": above or equal, "$lt": not above and not equal, "$lte": not above}[name]
