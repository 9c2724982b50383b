"""connect(): one URL, and all five stores on one set of connections."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from .errors import InvalidArgumentError, InvalidUrlError, StoreClosedError
from .keys import check_prefix
from .redis.resumable import RedisResumableStorage
from .redis.streams import RedisStreamManager
from .transport.resolve import SCHEMES, topology_for
from .transport.topology import Topology

Self = TypeVar("Self", bound="Helix")


class Helix:
    """All stores of one server on shared connections; made by :func:`connect`, entered with ``async with``.

    Attributes:
        state, streams, resumable, usage, locks: the stores.
    """

    streams: RedisStreamManager
    resumable: RedisResumableStorage

    def __init__(self, url: Any, key_prefix: str, options: dict[str, Any]) -> None:
        self._url = url
        self._key_prefix = check_prefix(key_prefix)
        self._options = options
        self._server: Any = None
        self._topology: Topology | None = None
        self._opened = False

    async def __aenter__(self: Self) -> Self:
        return self if self._topology is not None else await self._open()

    def __await__(self: Self) -> Any:
        return self._open().__await__()

    async def _open(self: Self) -> Self:
        if self._opened:
            raise StoreClosedError("this Helix was opened before", hint="call connect() again")
        self._opened = True
        url = self._url
        if isinstance(url, str) and url.startswith("embedded:"):
            url = await self._start_server(url)
        try:
            self._topology = topology_for(url, **self._options)
            shared: dict[str, Any] = {"topology": self._topology, "key_prefix": self._key_prefix}
            self.streams = RedisStreamManager(**shared)
            self.resumable = RedisResumableStorage(**shared)
            await self.streams.command("", b"PING")
        except BaseException:
            await self.close()
            raise
        return self

    async def _start_server(self, url: str) -> str:
        from .embedded import EmbeddedServer

        parts = urlsplit(url)
        if parts.netloc:
            raise InvalidUrlError(f"{url!r} names a host", hint="embedded:// or embedded:///path/to/directory")
        path = unquote(parts.path)
        self._server = EmbeddedServer(path or None)
        await self._server.start()
        return str(self._server.url)

    async def close(self) -> None:
        """Close the stores and connections and, where it is ours, leave the embedded server. Safe to call twice."""
        for store in (getattr(self, "streams", None), getattr(self, "resumable", None)):
            if store is not None:
                await store.close()
        topology, self._topology = self._topology, None
        if topology is not None:
            await topology.close()
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def connect(url: Any, *, key_prefix: str = "helix:", **options: Any) -> Helix:
    """All stores of the server at ``url``.

    Use it as ``async with connect(url) as helix:``, or ``helix = await connect(url)`` and ``await helix.close()``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``embedded://`` (a private server that lives as long as this),
            ``embedded:///directory`` (one whose data is kept there), or a ``redis.asyncio`` client whose connection
            settings are taken over.
        key_prefix: put before every key.
        options: ``timeout`` (seconds without an answer after which a connection is given up), ``retry_timeout``
            (seconds for which an operation is tried again after a passing fault), ``wait_replicas`` (replicas that must
            have a write before it is acknowledged), redis-py's connection settings.

    Raises:
        InvalidUrlError, InvalidArgumentError: at once.
        StoreConnectionError, StoreAuthenticationError, EmbeddedServerError: when it is entered or awaited.
    """
    if isinstance(url, str):
        scheme = url.partition(":")[0]
        if scheme not in {*SCHEMES, "embedded"}:
            raise InvalidUrlError(f"no store can be reached by {url.partition('@')[2] or url!r}")
    elif not hasattr(url, "connection_pool"):
        raise InvalidArgumentError(f"expected a URL or a redis.asyncio client, got {type(url).__name__}")
    return Helix(url, key_prefix, options)
