"""RedisStore: what all stores share on their public face: connection options, error callbacks, closing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from redis.asyncio import Redis, RedisCluster

from . import arguments
from .errors import InvalidArgumentError
from .keys import check_prefix
from .options import check_names, keyword_options
from .reporting import BackgroundErrors, ErrorCallback
from .requests import Requests
from .transport.resolve import topology_for
from .transport.topology import Topology

if TYPE_CHECKING:
    from typing_extensions import Never

Self = TypeVar("Self", bound="RedisStore")


def on_own_loop(close: Callable[[Self], Coroutine[Any, Any, None]]) -> Callable[[Self], Coroutine[Any, Any, None]]:
    """Have a store's ``close`` run on the store's event loop, wherever it is called; see ``LoopBinding.close``."""

    @functools.wraps(close)
    async def run_close(self: Self) -> None:
        await self._requests.topology.binding.close(lambda: close(self), self._abandon)

    return run_close


class RedisStore:
    """Base of the stores on Redis and Valkey. It sends nothing by itself: a store has ``Requests`` for that.

    Args:
        redis: a URL (``redis://``, ``rediss://``, ``unix://``) or a ``redis.asyncio`` client. The store copies the
            client's connection settings; it neither uses nor closes the client itself.
        client: the same, under its name on the reference page.
        host, port, username, password, db: the server, without ``redis`` and ``client``.
        key_prefix: put before every key.
        logger: gets background errors while there is no callback for them; default ``helix_fast``.
        wait_replicas: replicas that must have a write before it is acknowledged, so that it survives a failover; see
            ``connect``.
        topology: the connections of a Helix. Its stores share them, and the Helix closes them.

    Raises:
        InvalidArgumentError, InvalidUrlError: invalid or unknown settings. No connection was opened.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        client: Redis | RedisCluster | None = None,
        host: str = "localhost",
        port: int = 6379,
        username: str | None = None,
        password: str | None = None,
        db: int | None = None,
        key_prefix: str = "helix:",
        logger: logging.Logger | None = None,
        wait_replicas: int = 0,
        topology: Topology | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            check_names(unknown, keyword_options(type(self)), type(self).__name__)
        self.key_prefix: str = check_prefix(key_prefix)
        self._errors = BackgroundErrors(logger)
        self._owns_topology = topology is None
        if redis is not None and client is not None:
            raise InvalidArgumentError("pass a URL or client once, not both as 'redis' and as 'client'")
        if topology is None:
            target = redis if redis is not None else client
            settings: dict[str, Any] = {"wait_replicas": wait_replicas}
            if target is None or isinstance(target, str):
                settings.update(username=username, password=password, db=db)
            if target is None:
                target = "redis://"
                settings.update(host=host, port=arguments.integer(port, "port", 1, 65535), db=db or 0)
            topology = topology_for(target, **settings)
        self._requests = Requests(topology)

    def on(self, event: Literal["error"], callback: ErrorCallback) -> None:
        """Register ``callback(error)`` for errors of background work.

        Args:
            event: ``"error"``, the only one.

        Raises:
            InvalidArgumentError: another event, or a callback that cannot be called.
        """
        self._errors.on(event, callback)

    @on_own_loop
    async def close(self) -> None:
        """Close the store, and its connections unless a Helix shares them. Safe to call twice, on any event loop."""
        if not self._requests.closed:
            self._requests.closed = True
            if self._owns_topology:
                await self._requests.topology.close()

    def _abandon(self) -> None:
        """Close the store from outside of its event loop."""
        self._requests.closed = True
        if self._owns_topology:
            self._requests.topology.abandon()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
