"""Collections: items in namespaces, as bytes, for the store and the cache. Scripts and keys; no LangGraph.

All items of a namespace are in one slot. The namespaces with the same first label are listed in another one, so a
search below a namespace reads that list first. A namespace is listed before it is filled, and taken out behind its
last item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from helix_fast.keys import CollectionKeys, collection_roots, text_of
from helix_fast.lua import Argument, script
from helix_fast.requests import Requests

from .parts import as_text, text

Namespace = tuple[str, ...]
_PRODUCT: Final = "integrations/langgraph"
_REMEMBERED: Final = 10_000
_AT_ONCE: Final = 500


class Found(NamedTuple):
    """An item. Times are milliseconds since the epoch, by the server's clock."""

    created: int
    updated: int
    expires: bool
    data: bytes


class Collections:
    """The namespaces of one kind under one key prefix.

    Args:
        kind: part of the names of keys.
    """

    def __init__(self, requests: Requests, prefix: str, kind: str) -> None:
        self._requests = requests
        self._prefix = prefix
        self._kind = kind
        self._roots = collection_roots(prefix, kind)
        self._listed: set[str] = set()

    async def put(self, namespace: Namespace, changes: Mapping[str, tuple[bytes | None, int | None]]) -> None:
        """Put items, each with the milliseconds that it lives or None; without bytes, delete it."""
        keys = self._keys(namespace)
        args: list[Argument] = []
        for key, (data, life) in changes.items():
            args += [text(key), "" if life is None else max(1, life), "0" if data is None else "1", data or b""]
        listed = keys.tag in self._listed or all(data is None for data, _ in changes.values())
        if not listed:
            await self._list(keys)
        created, emptied = await self._run("collection_put", keys, args)
        if emptied:
            await self._take_out(keys)
        elif created and listed:  # another process has emptied it
            await self._list(keys)

    async def get(self, namespace: Namespace, wanted: Mapping[str, bool]) -> dict[str, Found]:
        """Items by their keys; each says whether its time to live begins anew."""
        args: list[Argument] = []
        for key, renewed in wanted.items():
            args += [text(key), int(renewed)]
        values = await self._run("collection_get", self._keys(namespace), args)
        return {key: _found(value) for key, value in zip(wanted, values, strict=True) if value is not None}

    async def all(self, namespace: Namespace) -> dict[str, Found]:
        """All items of a namespace."""
        keys = self._keys(namespace)
        values = await self._run("collection_all", keys, [])
        if not values:
            await self._take_out(keys)
        return {as_text(key): _found(value) for key, value in zip(values[::2], values[1::2], strict=True)}

    async def clear(self, namespace: Namespace) -> None:
        """Delete all items of a namespace."""
        keys = self._keys(namespace)
        await self._requests.command(keys.tag, b"UNLINK", keys.items, keys.expiry)
        await self._take_out(keys)

    async def below(self, prefix: Namespace) -> list[Namespace]:
        """The namespaces that begin with a prefix and have items or had some lately, in order."""
        if prefix:
            roots = [self._keys(prefix[:1]).root]
        else:
            roots = [root.decode() for root in await self._requests.command(self._prefix, b"SMEMBERS", self._roots)]
        tag = self._keys(prefix).tag.encode() if prefix else b""
        bounds = (b"[" + tag, b"(" + tag + b"0") if tag else (b"-", b"+")  # '0' comes behind '/'
        found: list[Namespace] = []
        for first in range(0, len(roots), _AT_ONCE):
            pages = await asyncio.gather(
                *(
                    self._requests.command(root, b"ZRANGE", self._names(root), *bounds, b"BYLEX")
                    for root in roots[first : first + _AT_ONCE]
                )
            )
            found += [CollectionKeys.namespace(member.decode()) for page in pages for member in page]
        return sorted(each for each in found if each[: len(prefix)] == prefix)

    async def filled(self, namespaces: Sequence[Namespace]) -> list[Namespace]:
        """Those that have items."""
        found: list[Namespace] = []
        for first in range(0, len(namespaces), _AT_ONCE):
            some = namespaces[first : first + _AT_ONCE]
            there = await asyncio.gather(*map(self._exists, some))
            found += [each for each, alive in zip(some, there, strict=True) if alive]
        return found

    async def _exists(self, namespace: Namespace) -> bool:
        keys = self._keys(namespace)
        return bool(await self._requests.command(keys.tag, b"EXISTS", keys.items))

    def _keys(self, namespace: Namespace) -> CollectionKeys:
        return CollectionKeys(self._prefix, self._kind, namespace)

    def _names(self, root: str) -> bytes:
        return self._keys(() if root == "%%" else (text_of(root),)).names

    async def _run(self, name: str, keys: CollectionKeys, args: Iterable[Argument]) -> Any:
        return await self._requests.run(script(_PRODUCT, name), keys.tag, [keys.items, keys.expiry], [*args])

    async def _list(self, keys: CollectionKeys) -> None:
        await asyncio.gather(
            self._requests.command(keys.root, b"ZADD", keys.names, 0, keys.tag),
            self._requests.command(self._prefix, b"SADD", self._roots, keys.root),
        )
        if len(self._listed) >= _REMEMBERED:
            self._listed.clear()
        self._listed.add(keys.tag)

    async def _take_out(self, keys: CollectionKeys) -> None:
        """Take an empty namespace out of the list, unless it is filled meanwhile."""
        self._listed.discard(keys.tag)
        await self._requests.command(keys.root, b"ZREM", keys.names, keys.tag)
        if await self._requests.command(keys.tag, b"EXISTS", keys.items):
            await self._list(keys)


def _found(item: bytes) -> Found:
    created, updated, life, data = item.split(b":", 3)
    return Found(int(created), int(updated), life != b"", data)
