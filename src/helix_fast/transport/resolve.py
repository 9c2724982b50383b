"""Makes the topology of a store from a URL or a caller's client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import redis.asyncio
import redis.exceptions
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import SentinelConnectionPool

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError, InvalidUrlError

from .cluster import Cluster
from .link import establish
from .sentinel import Sentinels, SentinelWatcher, check_primary
from .topology import Standalone, Topology
from .url import SCHEMES, Url, database_in, scheme_of, settings_in, split, unreachable

# These override the caller's client: replies are bytes in RESP2, a lane carries nothing but replies, and the stores
# retry, because they know what is safe to repeat.
_OWN_SETTINGS: dict[str, Any] = {
    "decode_responses": False,
    "protocol": 2,
    "health_check_interval": 0,
    "retry": None,
    "retry_on_error": [],
    "retry_on_timeout": False,
}
# What of a RedisCluster's settings is about a connection, and not about its own bookkeeping.
_CONNECTION_SETTINGS: Final = (
    "username",
    "password",
    "credential_provider",
    "client_name",
    "socket_",
    "ssl",
    "driver_info",
)
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def describe(settings: dict[str, Any]) -> str:
    """The server's name for messages: host and port or socket path, never a credential."""
    if settings.get("path"):
        return f"unix://{settings['path']}"
    return f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


class Limits(NamedTuple):
    """How long to wait, and for whom: ``timeout``, ``retry_timeout`` and ``wait_replicas`` of ``topology_for``."""

    timeout: float | None
    retry_timeout: float
    wait_replicas: int

    def resolved(self, settings: dict[str, Any]) -> dict[str, Any]:
        """As the topologies take them; the default timeout is redis-py's socket_timeout."""
        timeout = self.timeout if self.timeout is not None else settings.get("socket_timeout") or 5.0
        return {"timeout": timeout, "retry_timeout": self.retry_timeout, "wait_replicas": self.wait_replicas}


def topology_for(
    target: str | redis.asyncio.Redis | redis.asyncio.RedisCluster,
    *,
    timeout: float | None = None,
    retry_timeout: float = 10.0,
    wait_replicas: int = 0,
    **options: Any,
) -> Topology:
    """The connections for a URL, or with the settings of a caller's ``redis.asyncio`` client.

    Args:
        target: a URL (see ``connect``), a ``Redis`` (also one that a Sentinel made) or a ``RedisCluster``.
        timeout: seconds without an answer after which a connection is given up; default: redis-py's socket_timeout.
        retry_timeout: seconds for which an operation is tried again after a passing fault.
        wait_replicas: replicas that must have a write before it is acknowledged (``WAIT``); NotReplicatedError where
            too few confirm it in time.
        options: redis-py's connection settings. A setting that the URL has too is taken from the URL, as in redis-py.

    Raises:
        InvalidUrlError, InvalidArgumentError: nothing was connected.
    """
    limits = Limits(
        None if timeout is None else arguments.seconds(timeout, "timeout", 0.01),
        arguments.seconds(retry_timeout, "retry_timeout"),
        arguments.integer(wait_replicas, "wait_replicas", 0, 100),
    )
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(target, str):
        return _from_url(target, limits, given)
    if isinstance(target, redis.asyncio.RedisCluster):
        nodes = target.nodes_manager.nodes_cache or target.nodes_manager.startup_nodes
        startup = [(node.host, int(node.port)) for node in nodes.values()]
        settings = dict(target.connection_kwargs)
        made_by = settings.pop("connection_class", Connection)
        kept = {name: value for name, value in settings.items() if name.startswith(_CONNECTION_SETTINGS)}
        remap = target.nodes_manager.address_remap
        return _cluster(startup, {**kept, **given}, made_by, limits, remap)
    return _from_pool(target, limits)


def _from_url(text: str, limits: Limits, options: dict[str, Any]) -> Topology:
    scheme = scheme_of(text)
    if scheme not in SCHEMES:
        raise unreachable(scheme)
    url = split(text)
    kind = scheme.partition("+")[2]
    if kind == "sentinel":
        return _sentinel(url, limits, options)
    client = _client(url, options)
    if kind != "cluster":
        return _from_pool(client, limits)
    settings = client.connection_pool.connection_kwargs
    if settings.pop("db", 0):
        raise InvalidUrlError("a cluster has no databases but 0", hint="leave the number out")
    startup = [(settings.pop("host", "localhost"), settings.pop("port", 6379))]
    return _cluster(startup, settings, client.connection_pool.connection_class, limits, None)


def _client(url: Url, options: dict[str, Any]) -> Any:
    """A client for a URL of one server. redis-py reads the settings behind the host, and never sees who logs in."""
    given = {**options, **{name: value for name in ("username", "password") if (value := getattr(url, name))}}
    settings_in(url.query)
    if url.scheme == "unix":
        if url.hosts or not url.path:
            raise InvalidUrlError("a unix:// URL names a path and no host", hint="unix:///path/to/socket?db=0")
        rest = f"unix://{url.path}"
    else:
        if len(url.hosts) > 1:
            raise InvalidUrlError("the URL names several hosts", hint="one will do; only Sentinels are named all")
        for host, port in url.hosts:
            given.update({name: value for name, value in (("host", host), ("port", port)) if value})
        rest = f"{'rediss' if url.tls else 'redis'}:///{database_in(url.path)}"
    try:
        return redis.asyncio.Redis.from_url(f"{rest}?{url.query}", **given)
    except (ValueError, TypeError) as error:
        raise InvalidUrlError(f"invalid URL: {error}") from error


def _from_pool(client: redis.asyncio.Redis, limits: Limits) -> Standalone:
    pool = getattr(client, "connection_pool", None)
    if pool is None or not issubclass(pool.connection_class, AbstractConnection):
        raise InvalidArgumentError(
            f"expected a redis.asyncio client, got {type(client).__name__}",
            hint="pass a redis.asyncio.Redis or RedisCluster, or a URL; a blocking client cannot be used",
        )
    settings = _own(pool.connection_kwargs)
    make = pool.connection_class
    _check(make, settings)

    async def connect() -> Any:
        # The pool is held here: a Sentinel's connections know it by a weak reference, and ask it for the primary.
        assert pool is not None
        connection = await establish(make(**settings))
        if watch is not None:
            await check_primary(connection)
            watch.connected(connection)
        return connection

    watch = None
    if isinstance(pool, SentinelConnectionPool) and pool.is_master:
        manager = pool.sentinel_manager
        watch = SentinelWatcher(manager, pool.service_name, owned=isinstance(manager, Sentinels))
    target = str(getattr(pool, "service_name", "")) or describe(settings)
    return Standalone(connect, target, watch=watch, **limits.resolved(settings))


def _cluster(
    startup: list[tuple[str, int]],
    settings: dict[str, Any],
    connection_class: Any,
    limits: Limits,
    remap: Callable[[tuple[str, int]], tuple[str, int]] | None,
) -> Cluster:
    own = _own(settings)
    _check(connection_class, own)
    return Cluster(startup, own, connection_class, remap=remap, **limits.resolved(own))


def _sentinel(url: Url, limits: Limits, options: dict[str, Any]) -> Standalone:
    """``redis+sentinel://[user:password@]host[:port][,host[:port]…]/master-name[/db][?sentinel_password=…]``."""
    name, _, database = url.path.strip("/").partition("/")
    if not name or not all(host for host, _port in url.hosts) or not url.hosts:
        raise InvalidUrlError(
            "a Sentinel URL names hosts and a master", hint="redis+sentinel://host1,host2/master-name"
        )
    query = settings_in(url.query)
    own = {key: query.pop(f"sentinel_{key}") for key in ("username", "password") if f"sentinel_{key}" in query}
    database = query.pop("db", database)
    if database and not database.isdecimal():
        raise InvalidUrlError(f"db must be a number, not {database!r}", hint="redis+sentinel://host/name/1")
    if query:
        raise InvalidUrlError(f"unknown settings in the URL: {', '.join(sorted(query))}")
    settings: dict[str, Any] = {"db": 0, **options}
    if database:
        settings["db"] = int(database)
    if url.tls:
        settings["ssl"] = True
    if url.username or url.password:
        settings.update(username=url.username, password=url.password)
    sentinels = [(host, port or 26379) for host, port in url.hosts]
    return _from_pool(Sentinels(sentinels, **own).master_for(unquote(name), **settings), limits)


def _check(connection_class: Any, settings: dict[str, Any]) -> None:
    """Make a connection and connect it to nothing: redis-py checks the settings of one when it makes it."""
    try:
        connection = connection_class(**settings)
    except (TypeError, redis.exceptions.RedisError) as error:
        said = str(error).rpartition("__init__() ")[2]
        raise InvalidArgumentError(
            f"no connection can be made with these settings: {said}", hint="redis-py's redis.asyncio.Redis lists them"
        ) from error
    files = {name: settings[name] for name in _TLS_FILES if settings.get(name)}
    for name, path in files.items():
        if not Path(path).exists():
            raise InvalidArgumentError(f"there is no file {path!r}, which {name} names")
    if files and hasattr(connection, "ssl_context"):
        try:
            connection.ssl_context.get()
        except OSError as error:  # ssl.SSLError too, which does not say which file it was
            named = ", ".join(f"{name}={path!r}" for name, path in files.items())
            raise InvalidArgumentError(f"TLS cannot be set up with {named}: {error}") from error


def _own(settings: dict[str, Any]) -> dict[str, Any]:
    own = {**settings, **_OWN_SETTINGS}
    if "maint_notifications_config" in own:
        own["maint_notifications_config"] = None  # they arrive as RESP3 pushes, which a lane does not expect
    own.pop("maint_notifications_pool_handler", None)
    return own
