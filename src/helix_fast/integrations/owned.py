"""A Helix that an integration was given, or has made from a URL: then it opens it at first use, and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix, connect
from helix_fast.errors import InvalidArgumentError, StoreClosedError


def helix_of(target: Helix | str | Redis | RedisCluster, options: Mapping[str, Any]) -> Helix:
    """The Helix that was given, or a new one that is not open yet.

    Raises:
        InvalidArgumentError: options beside a Helix, which would change nothing.
    """
    if not isinstance(target, Helix):
        return connect(target, **options)
    if options:
        raise InvalidArgumentError(f"{', '.join(options)}: the connection is that of the Helix")
    return target


class OwnedHelix:
    """The Helix behind an integration.

    Args:
        target: a Helix, whose maker opens and closes it; or what ``connect`` takes.
        options: of ``connect``; only for a Helix of our own.

    Raises:
        InvalidArgumentError: as ``helix_of``.
    """

    def __init__(self, target: Helix | str | Redis | RedisCluster, **options: Any) -> None:
        self._own = not isinstance(target, Helix)
        self._helix = helix_of(target, options)
        self._opening: asyncio.Future[Helix] | None = None
        self._closed = False

    async def get(self) -> Helix:
        """The open Helix.

        Raises:
            StoreClosedError: it was closed. StoreConnectionError: as ``connect``.
        """
        if self._closed:
            raise StoreClosedError("this was closed")
        if not self._own or self._helix._requests is not None:
            return self._helix
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._helix._open())
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Close a Helix that was made here, and leave another alone. Safe to call twice."""
        if self._own and not self._closed:
            self._closed = True
            await self._helix.close()
