"""connect(): all five stores of one URL, on one set of connections."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from redis.asyncio import Redis, RedisCluster

from .errors import InvalidArgumentError, InvalidUrlError, StoreClosedError, StoreResponseError
from .keys import check_prefix
from .locks.lock import Clock
from .locks.manager import RedisLockManager
from .options import (
    ConnectionOptions,
    ConnectOptions,
    LockOptions,
    StateOptions,
    StreamOptions,
    UsageOptions,
    check_names,
    connect_options,
)
from .requests import Requests
from .state.store import RedisStateStore
from .streams.manager import RedisStreamManager
from .streams.storage import RedisResumableStorage
from .transport.resolve import topology_for
from .transport.sentinel import is_unknown_command, no_store
from .transport.topology import Topology
from .transport.url import SCHEMES, scheme_of, split, unreachable
from .usage.store import RedisUsageStore

if TYPE_CHECKING:
    from typing_extensions import Unpack

Self = TypeVar("Self", bound="Helix")
# Options that the Helix passes to its stores, and that its caller must not pass.
_SHARED = frozenset({"key_prefix", "redis", *ConnectionOptions.__annotations__} - {"logger"})
_STORES: Final = frozenset({"state", "streams", "resumable", "usage", "locks"})
_STORE_OPTIONS: Final = {"state": StateOptions, "streams": StreamOptions, "usage": UsageOptions, "locks": LockOptions}
# Connection options of memory://; wait_replicas only as 0.
_IN_MEMORY = frozenset({"timeout", "retry_timeout", "wait_replicas"})


class Helix:
    """All stores of one server on shared connections; made by :func:`connect`, opened by ``async with`` or ``await``.

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
        url: str | Redis | RedisCluster,
        key_prefix: str,
        stores: dict[str, Mapping[str, Any]],
        clock: Clock | None,
        connection: Mapping[str, Any],
    ) -> None:
        self._url = url
        self._clock = clock
        self._key_prefix = check_prefix(key_prefix)
        self._store_options = stores
        self._connection_options = connection
        self._stores: list[Any] = []
        self._server: Any = None
        self._requests: Requests | None = None
        self._opened = False

    def __getattr__(self, name: str) -> Any:
        if name in _STORES:
            hint = f"async with connect(url) as helix: helix.{name} …, or helix = await connect(url)"
            raise StoreClosedError(f"this Helix is not open: it has no {name} yet", hint=hint)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    async def __aenter__(self: Self) -> Self:
        return self if self._requests is not None else await self._open()

    def __await__(self: Self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def _open(self: Self) -> Self:
        if self._opened:
            raise StoreClosedError("this Helix was opened before", hint="call connect() again")
        self._opened = True
        try:
            self._requests = Requests(await self._connect())
            self._make_stores(self._requests.topology)
            await self._probe(self._requests)
        except BaseException:
            await self.close()
            raise
        return self

    async def _connect(self) -> Topology:
        url = self._url
        scheme = scheme_of(url) if isinstance(url, str) else ""
        if scheme == "memory":
            from .memory.server import MemoryServer

            options = {name: self._connection_options.get(name) for name in ("timeout", "retry_timeout")}
            given = {name: value for name, value in options.items() if value is not None}
            return MemoryServer(self._clock).topology(**given)
        if scheme == "embedded" and isinstance(url, str):
            url = await self._start_server(url)
        return topology_for(url, **self._connection_options)

    async def _probe(self, requests: Requests) -> None:
        """Raise at once, and not in a later operation, if the server is away or is not what the URL says."""
        topology = requests.topology
        if topology.clustered:  # it has read its slots by now
            await requests.command("", b"PING")
            return
        try:
            # a node of a cluster refuses keys of two slots, even if it has both slots
            await requests.command("", b"EXISTS", *(f"{self._key_prefix}probe:{{{tag}}}" for tag in "ab"))
        except StoreResponseError as error:
            if error.server_code == "NOPERM":
                return  # the server is there; a missing right shows in the operation that needs it
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
        self.resumable = RedisResumableStorage(
            topology=topology, key_prefix=prefix, logger=streams.get("logger"), manager=self.streams
        )
        # the usage store adds a colon to its prefix, as on the reference page
        self.usage = RedisUsageStore(**shared("usage", prefix.removesuffix(":")))
        self.locks = RedisLockManager(**shared("locks", prefix))
        if self._clock is not None:
            self.locks._backend.clock = self._clock  # its holder must lose a lock when the server frees it
        self._stores = [self.locks, self.usage, self.streams, self.resumable, self.state]  # closed in reverse order

    async def _start_server(self, url: str) -> str:
        from .embedded import EmbeddedServer

        parts = split(url)
        if parts.hosts or parts.username or parts.password or parts.query:
            raise InvalidUrlError(
                "an embedded:// URL names a directory and nothing else",
                hint="embedded:// or embedded:///path/to/directory",
            )
        self._server = EmbeddedServer(unquote(parts.path) or None)
        await self._server.start()
        return str(self._server.url)

    async def close(self) -> None:
        """Close the stores and the connections, and leave an embedded server. Safe to call twice, on any event loop."""
        requests, self._requests = self._requests, None
        server, self._server = self._server, None
        try:
            if requests is not None:
                topology = requests.topology
                requests.closed = True
                await topology.binding.close(lambda: self._close(topology), lambda: self._abandon(topology))
        finally:
            if server is not None:
                await server.stop()

    async def _close(self, topology: Topology) -> None:
        stores, self._stores = self._stores, []
        # in reverse order, and each of them even if an earlier one fails or is cancelled
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(topology.close)
            for store in stores:
                stack.push_async_callback(store.close)

    def _abandon(self, topology: Topology) -> None:
        stores, self._stores = self._stores, []
        for store in reversed(stores):
            store._abandon()
        topology.abandon()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def connect(
    url: str | Redis | RedisCluster,
    *,
    key_prefix: str = "helix:",
    state: StateOptions | None = None,
    streams: StreamOptions | None = None,
    usage: UsageOptions | None = None,
    locks: LockOptions | None = None,
    clock: Clock | None = None,
    **connection: Unpack[ConnectOptions],
) -> Helix:
    """All stores of the server at ``url``.

    Use it as ``async with connect(url) as helix:``, or ``helix = await connect(url)`` and ``await helix.close()``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://h1,h2/master-name``
            (``valkey…`` and ``valkeys…`` are the same), ``embedded://`` (a private server that lives as long as this),
            ``embedded:///directory`` (one whose data is kept there), ``memory://`` (this process alone, for tests; the
            extra ``memory``), or a ``redis.asyncio`` client whose connection settings are copied.
        key_prefix: put before every key.
        state, streams, usage, locks: options of these stores, for example ``streams={"max_stream_length": 100_000}``.
        clock: for ``memory://`` only: a function that returns seconds since the epoch, in place of the server's clock;
            see MemoryServer.
        connection: ``timeout`` (seconds without a reply after which a connection is closed), ``retry_timeout`` (seconds
            for which an operation is retried after a transient fault), ``wait_replicas`` (replicas that must have a
            write before it is acknowledged), redis-py's connection settings. ``memory://`` takes the first two, and
            ``wait_replicas=0``: it has no replicas and no connection settings.

    Raises:
        InvalidUrlError, InvalidArgumentError: from this call. An unknown option is told with the nearest known one.
        StoreConnectionError, StoreAuthenticationError, EmbeddedServerError: from ``async with`` or ``await``.
    """
    if isinstance(url, str):
        scheme = scheme_of(url)
        if scheme not in {*SCHEMES, "embedded", "memory"}:
            raise unreachable(scheme)
        if scheme == "memory":
            _check_in_memory(url, connection)
        else:
            check_names(connection, connect_options(), "connect")
    elif not hasattr(url, "connection_pool") and not hasattr(url, "nodes_manager"):
        raise InvalidArgumentError(f"expected a URL or a redis.asyncio client, got {type(url).__name__}")
    if clock is not None and not (isinstance(url, str) and url.startswith("memory:")):
        raise InvalidArgumentError("clock is for memory://", hint="a server has a clock of its own: leave it out")
    options: dict[str, Mapping[str, Any]] = {
        "state": state or {}, "streams": streams or {}, "usage": usage or {}, "locks": locks or {}
    }  # fmt: skip
    for name, given in options.items():
        if not isinstance(given, Mapping):
            raise InvalidArgumentError(f"{name} must be a dict of options, not {type(given).__name__}")
        if not _SHARED.isdisjoint(given):
            raise InvalidArgumentError(f"{name}: the connection and the key prefix are those of the Helix")
        check_names(given, _STORE_OPTIONS[name].__annotations__.keys(), name)
    return Helix(url, key_prefix, options, clock, connection)


def _check_in_memory(url: str, connection: Mapping[str, Any]) -> None:
    if url != "memory://":
        raise InvalidUrlError(
            "a memory:// URL names nothing else",
            hint="memory:// is all of it: the data is in this process and goes with it",
        )
    check_names(connection, connect_options(), "connect")
    for name in connection.keys() - _IN_MEMORY:
        raise InvalidArgumentError(
            f"memory:// takes no {name}",
            hint=f"there is no connection; it takes clock, {', '.join(sorted(_IN_MEMORY))}",
        )
    if connection.get("wait_replicas"):
        raise InvalidArgumentError("memory:// has no replicas to wait for", hint="leave wait_replicas out, or give 0")
    from .memory.scripting import lua_module

    lua_module()  # refuses where there is none, now and not when it is entered
