"""HelixCache: LangGraph's cache of the results of nodes on any Redis or Valkey."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from langgraph.cache.base import BaseCache, FullKey
from langgraph.checkpoint.serde.base import SerializerProtocol
from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix

from .collections import Collections, Namespace
from .connection import Connected
from .parts import as_typed, typed

ValueT = TypeVar("ValueT")


class HelixCache(Connected, BaseCache[ValueT]):
    """LangGraph's ``BaseCache`` on Redis or Valkey, for ``builder.compile(cache=HelixCache(helix))``.

    The entries of one namespace are in one slot of a cluster. Errors of the server go to the caller.

    Args:
        target: an open Helix, or what ``connect`` takes: then ``async with``, ``with`` or ``setup`` opens it.
        key_prefix: put before every key; default: that of the Helix.
        serde: serializer of values; default: LangGraph's.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError, InvalidUrlError: an option is out of range or unknown.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        key_prefix: str | None = None,
        serde: SerializerProtocol | None = None,
        **options: Any,
    ) -> None:
        Connected.__init__(self, target, key_prefix, options)
        BaseCache.__init__(self, serde=serde)
        self._stored: Collections | None = None

    @property
    def _collections(self) -> Collections:
        if self._stored is None:
            self._stored = Collections(self._connection.requests, self._connection.key_prefix, "cache")
        return self._stored

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """The values of those keys that are there and have not expired."""
        wanted: defaultdict[Namespace, dict[str, bool]] = defaultdict(dict)
        for namespace, key in keys:
            wanted[tuple(namespace)][key] = False
        collections = self._collections
        pages = await self._connection.at_home(_all(collections.get(*each) for each in wanted.items()))
        return {
            (namespace, key): self.serde.loads_typed(as_typed(item.data))
            for namespace, page in zip(wanted, pages, strict=True)
            for key, item in page.items()
        }

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Set values, each with the seconds that it lives, or None."""
        changes: defaultdict[Namespace, dict[str, tuple[bytes | None, int | None]]] = defaultdict(dict)
        for (namespace, key), (value, ttl) in pairs.items():
            life = None if ttl is None else round(ttl * 1000)
            changes[tuple(namespace)][key] = typed(self.serde.dumps_typed(value)), life
        collections = self._collections
        await self._connection.at_home(_all(collections.put(*each) for each in changes.items()))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Delete the values of some namespaces; None: of all."""
        collections = self._collections
        if namespaces is None:
            namespaces = await self._connection.at_home(collections.below(()))
        await self._connection.at_home(_all(collections.clear(tuple(each)) for each in namespaces))

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """As :meth:`aget`, blocking."""
        return self._connection.wait_for(self.aget(keys))

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """As :meth:`aset`, blocking."""
        self._connection.wait_for(self.aset(pairs))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """As :meth:`aclear`, blocking."""
        self._connection.wait_for(self.aclear(namespaces))


async def _all(work: Any) -> list[Any]:
    return list(await asyncio.gather(*work))
