"""connect(): one URL, and all five stores on one set of connections."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from .errors import InvalidArgumentError, InvalidUrlError, StoreClosedError, StoreResponseError
from .keys import check_prefix
from .locks.lock import Clock
from .locks.manager import RedisLockManager
from .state.store import RedisStateStore
from .streams.manager import RedisStreamManager
from .streams.storage import RedisResumableStorage
from .transport.cluster import Cluster
from .transport.resolve import SCHEMES, topology_for
from .transport.sentinel import is_unknown_command, no_store
from .transport.topology import Topology
from .usage.store import RedisUsageStore

Self = TypeVar("Self", bound="Helix")
StoreOptions = Mapping[str, Any]
# What a store is given by the Helix, and nobody else may say.
_SHARED = frozenset(
    {"topology", "key_prefix", "redis", "client", "host", "port", "username", "password", "db", "wait_replicas"}
)
# What a server in this process has a meaning for. wait_replicas is among them where it asks for none.
_IN_MEMORY = frozenset({"timeout", "retry_timeout", "wait_replicas"})


class Helix:
    """All stores of one server on shared connections; made by :func:`connect`, entered with ``async with``.

    Attributes:
        state, streams, resumable, usage, locks: the stores.
    """

    state: RedisStateStore
    streams: RedisStreamManager
    resumable: RedisResumableStorage
    usage: RedisUsageStore
    locks: RedisLockManager

    def __init__(
        self,
        url: Any,
        key_prefix: str,
        stores: dict[str, StoreOptions],
        clock: Clock | None,
        connection: dict[str, Any],
    ) -> None:
        self._url = url
        self._clock = clock
        self._key_prefix = check_prefix(key_prefix)
        self._store_options = stores
        self._connection_options = connection
        self._stores: list[Any] = []
        self._server: Any = None
        self._topology: Topology | None = None
        self._opened = False

    async def __aenter__(self: Self) -> Self:
        return self if self._topology is not None else await self._open()

    def __await__(self: Self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def _open(self: Self) -> Self:
        if self._opened:
            raise StoreClosedError("this Helix was opened before", hint="call connect() again")
        self._opened = True
        try:
            self._topology = await self._connect()
            self._make_stores(self._topology)
            await self._look(self._topology)
        except BaseException:
            await self.close()
            raise
        return self

    async def _connect(self) -> Topology:
        url = self._url
        scheme = url.partition(":")[0] if isinstance(url, str) else ""
        if scheme == "memory":
            from .memory.server import MemoryServer

            options = {name: self._connection_options.get(name) for name in ("timeout", "retry_timeout")}
            given = {name: value for name, value in options.items() if value is not None}
            return MemoryServer(self._clock).topology(**given)
        if scheme == "embedded":
            url = await self._start_server(url)
        return topology_for(url, **self._connection_options)

    async def _look(self, topology: Topology) -> None:
        """Whether the server is there, and is what the URL says: told now, and not by some later operation."""
        if isinstance(topology, Cluster):  # which has asked for its slots by now
            await self.state.command("", b"PING")
            return
        try:
            # a node of a cluster refuses keys of two slots, also where it has both of them
            await self.state.command("", b"EXISTS", *(f"{self._key_prefix}probe:{{{tag}}}" for tag in "ab"))
        except StoreResponseError as error:
            if error.server_code == "NOPERM":
                return  # the server is there; what its user may do is told by what he does
            if is_unknown_command(error):
                raise no_store(topology.server("")) from error
            if error.server_code == "CROSSSLOT":
                raise StoreResponseError("CROSSSLOT this server is a node of a cluster", hint=error.hint) from error
            raise

    def _make_stores(self, topology: Topology) -> None:
        def shared(name: str, key_prefix: str) -> dict[str, Any]:
            return {**self._store_options.get(name, {}), "topology": topology, "key_prefix": key_prefix}

        prefix = self._key_prefix
        streams = shared("streams", prefix)
        self.state = RedisStateStore(**shared("state", prefix))
        self.streams = RedisStreamManager(**streams)
        self.resumable = RedisResumableStorage(**streams)
        # the usage store puts its own colon behind the prefix, as on the reference page
        self.usage = RedisUsageStore(**shared("usage", prefix.removesuffix(":")))
        self.locks = RedisLockManager(**shared("locks", prefix))
        if self._clock is not None:
            self.locks.clock = self._clock  # a lock must be lost to its holder when it is free to others
        self._stores = [self.locks, self.usage, self.resumable, self.streams, self.state]

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
        stores, self._stores = self._stores, []
        topology, self._topology = self._topology, None
        server, self._server = self._server, None
        # in this order from the last, and each of them also where one before it fails or is cancelled
        async with contextlib.AsyncExitStack() as stack:
            if server is not None:
                stack.push_async_callback(server.stop)
            if topology is not None:
                stack.push_async_callback(topology.close)
            for store in stores:
                stack.push_async_callback(store.close)

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def connect(
    url: Any,
    *,
    key_prefix: str = "helix:",
    state: StoreOptions | None = None,
    streams: StoreOptions | None = None,
    usage: StoreOptions | None = None,
    locks: StoreOptions | None = None,
    clock: Clock | None = None,
    **connection: Any,
) -> Helix:
    """All stores of the server at ``url``.

    Use it as ``async with connect(url) as helix:``, or ``helix = await connect(url)`` and ``await helix.close()``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://h1,h2/master-name``,
            ``embedded://`` (a private server that lives as long as this), ``embedded:///directory`` (one whose data is
            kept there), ``memory://`` (this process alone, for tests; the extra ``memory``), or a ``redis.asyncio``
            client whose connection settings are taken over.
        key_prefix: put before every key.
        state, streams, usage, locks: options of these stores, for example ``streams={"max_stream_length": 100_000}``.
        clock: of ``memory://`` alone: a function that returns seconds since the epoch, for all that a server's clock
            decides; see MemoryServer.
        connection: ``timeout`` (seconds without an answer after which a connection is given up), ``retry_timeout``
            (seconds for which an operation is tried again after a passing fault), ``wait_replicas`` (replicas that must
            have a write before it is acknowledged), redis-py's connection settings. ``memory://`` takes the first two,
            and ``wait_replicas=0``; it has no replicas and no connection to be set up.

    Raises:
        InvalidUrlError, InvalidArgumentError: at once.
        StoreConnectionError, StoreAuthenticationError, EmbeddedServerError: when it is entered or awaited.
    """
    if isinstance(url, str):
        scheme, found, _ = url.partition("://")
        if not found or scheme not in {*SCHEMES, "embedded", "memory"}:
            raise InvalidUrlError(f"no store can be reached by {scheme + '://' if found else 'this URL'}")
        if scheme == "memory":
            _check_in_memory(url, connection)
    elif not hasattr(url, "connection_pool") and not hasattr(url, "nodes_manager"):
        raise InvalidArgumentError(f"expected a URL or a redis.asyncio client, got {type(url).__name__}")
    if clock is not None and not (isinstance(url, str) and url.startswith("memory:")):
        raise InvalidArgumentError("clock is for memory://", hint="a server has a clock of its own: leave it out")
    options = {"state": state or {}, "streams": streams or {}, "usage": usage or {}, "locks": locks or {}}
    for name, given in options.items():
        if not _SHARED.isdisjoint(given):
            raise InvalidArgumentError(f"{name}: the connection and the key prefix are those of the Helix")
    return Helix(url, key_prefix, options, clock, connection)


def _check_in_memory(url: str, connection: Mapping[str, Any]) -> None:
    if url != "memory://":
        raise InvalidUrlError(
            f"{url!r} names a place", hint="memory:// is all of it: the data is in this process and goes with it"
        )
    for name in connection.keys() - _IN_MEMORY:
        raise InvalidArgumentError(
            f"memory:// takes no {name}",
            hint=f"there is no connection; it takes clock, {', '.join(sorted(_IN_MEMORY))}",
        )
    if connection.get("wait_replicas"):
        raise InvalidArgumentError("memory:// has no replicas to wait for", hint="leave wait_replicas out, or give 0")
    from .memory.scripting import lua_module

    lua_module()  # refuses where there is none, now and not when it is entered
