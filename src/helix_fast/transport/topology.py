"""Which server holds which keys, and the lane and hub to it. Stores name the id whose keys they touch, no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from helix_fast.errors import InvalidArgumentError, InvalidUrlError, StoreClosedError

from .hub import Hub
from .lane import Lane, OnReply
from .link import Connector

# Ours whatever the caller's client uses: replies are bytes in RESP2, nothing but replies comes on a lane, and retrying
# is done where it is known what is safe to repeat.
_OWN_SETTINGS: dict[str, Any] = {
    "decode_responses": False,
    "protocol": 2,
    "health_check_interval": 0,
    "retry": None,
    "retry_on_error": [],
    "retry_on_timeout": False,
}


class Topology(Protocol):
    """The servers behind a store."""

    publish: bytes
    """PUBLISH or, where pub/sub is sharded, SPUBLISH."""
    retry_timeout: float
    """Seconds for which an operation is tried again after a passing fault."""

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None) -> None:
        """Send a request about the keys tagged ``tag``; ``on_reply`` gets the reply or the error."""

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request about the keys tagged ``tag`` and wait for the reply."""

    def generation(self, tag: str) -> int:
        """Number of the connection by which the next request about ``tag`` goes: it grows as soon as one is lost."""

    def reached(self, tag: str) -> bool:
        """Whether that server was ever reached."""

    def hub(self, tag: str) -> Hub:
        """The subscriptions on the server of ``tag``."""

    async def close(self) -> None:
        """Close all connections."""


class Standalone:
    """One server, or the primary that a Sentinel names: the connector asks it again for each connection."""

    publish = b"PUBLISH"

    def __init__(self, connector: Connector, target: str, *, timeout: float = 5.0, retry_timeout: float = 10.0) -> None:
        self.retry_timeout = retry_timeout
        self._lane = Lane(connector, target, timeout=timeout)
        self._hub: Hub | None = None
        self._make_hub: Callable[[], Hub] = lambda: Hub(connector, target, timeout=timeout)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise InvalidArgumentError(
                    "a store was used from a second event loop", hint="make one store for each event loop"
                )
            self._loop = loop

    def send(self, tag: str, frame: bytes, on_reply: OnReply | None = None) -> None:
        """Send a request; see Topology."""
        self._lane.send(frame, on_reply)

    async def call(self, tag: str, frame: bytes) -> Any:
        """Send a request and wait for the reply; see Topology."""
        self._check_loop()
        return await self._lane.call(frame)

    def generation(self, tag: str) -> int:
        """Number of the connection that the next request uses; see Topology."""
        return self._lane.generation if self._lane.connected else self._lane.generation + 1

    def reached(self, tag: str) -> bool:
        """Whether the server was ever reached."""
        return self._lane.generation > 0

    def hub(self, tag: str) -> Hub:
        """The process's subscriptions."""
        self._check_loop()
        if self._lane.closed:
            raise StoreClosedError("the store is closed")
        if self._hub is None:
            self._hub = self._make_hub()
        return self._hub

    async def close(self) -> None:
        """Close lane and hub."""
        await self._lane.close()
        if self._hub is not None:
            await self._hub.close()


def describe(settings: dict[str, Any]) -> str:
    """The server's name for messages: host and port or socket path, never a credential."""
    if settings.get("path"):
        return f"unix://{settings['path']}"
    return f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


def from_client(client: Any, *, timeout: float | None = None, retry_timeout: float = 10.0) -> Standalone:
    """A topology with the connection settings of a caller's ``redis.asyncio.Redis``; the client itself is not used."""
    pool = getattr(client, "connection_pool", None)
    if pool is None or not issubclass(pool.connection_class, AbstractConnection):
        raise InvalidArgumentError(
            f"expected a redis.asyncio.Redis client, got {type(client).__name__}",
            hint="pass a redis.asyncio client or a URL; a blocking redis.Redis client cannot be used",
        )
    settings = {**pool.connection_kwargs, **_OWN_SETTINGS}
    notifications = "maint_notifications_config"
    if notifications in settings:
        settings[notifications] = None  # they come as RESP3 pushes, which a lane does not expect
    settings.pop("maint_notifications_pool_handler", None)
    make = pool.connection_class

    async def connect() -> Any:
        connection = make(**settings)
        await connection.connect()
        return connection

    if timeout is None:
        timeout = settings.get("socket_timeout") or 5.0
    return Standalone(connect, describe(settings), timeout=timeout, retry_timeout=retry_timeout)


def from_url(url: str, *, timeout: float | None = None, retry_timeout: float = 10.0, **options: Any) -> Standalone:
    """A topology for ``redis://``, ``rediss://`` or ``unix://``; ``options`` are redis-py's connection settings.

    Raises:
        InvalidUrlError: another scheme, or a part that makes no sense.
    """
    try:
        scheme = urlsplit(url).scheme
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidUrlError(f"not a URL: {error}") from error
    if scheme not in {"redis", "rediss", "unix"}:
        raise InvalidUrlError(f"no store can be reached by {scheme + '://' if scheme else 'this URL'}")
    try:
        # options win over the URL, as the caller spelled them out
        client = redis.asyncio.Redis.from_url(
            url, **{name: value for name, value in options.items() if value is not None}
        )
    except (ValueError, TypeError) as error:
        raise InvalidUrlError(f"invalid URL: {error}") from error
    return from_client(client, timeout=timeout, retry_timeout=retry_timeout)
