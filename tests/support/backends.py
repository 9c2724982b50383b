"""Every server that the contract suite runs on, by name: started when first needed, emptied before each test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis
import redis.asyncio

from helix_fast import (
    RedisLockManager,
    RedisResumableStorage,
    RedisStateStore,
    RedisStreamManager,
    RedisUsageStore,
)
from helix_fast.embedded import EmbeddedServer
from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from helix_fast.testing.servers import ServerProcess
from tests.support.cluster import ClusterProcess
from tests.support.memory import plain_client
from tests.support.sentinel import MASTER, SentinelSet

DEFAULT: Final = ("memory", "embedded", "cluster")
KNOWN: Final = (*DEFAULT, "redis-server", "url", "docker", "sentinel", "rights")
_REDIS: Final = {
    "state": RedisStateStore,
    "streams": RedisStreamManager,
    "resumable": RedisResumableStorage,
    "usage": RedisUsageStore,
    "locks": RedisLockManager,
}
_MEMORY: Final = {
    "state": InMemoryStateStore,
    "streams": InMemoryStreamManager,
    "resumable": InMemoryResumableStorage,
    "usage": InMemoryUsageStore,
    "locks": InMemoryLockManager,
}


def documented_rights() -> list[str]:
    """The words behind ACL SETUSER in docs/operations.md."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    found = re.search(r"```acl\nACL SETUSER (.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1].split()


class UnavailableError(Exception):
    """A backend is not to be had here; says why."""


class Backend:
    """What one test works on: an empty server, the stores on it, and a plain client of it.

    Attributes:
        name: as given to `--backend`.
        target: what a store takes first: a URL or a MemoryServer.
    """

    def __init__(self, name: str, target: Any, admin: Any = None) -> None:
        self.name = name
        self.target = target
        self._admin = target if admin is None else admin

    def make(self, area: str, **options: Any) -> Any:
        """A store that nobody closes. Each has connections of its own, as in a process of its own."""
        target = options.pop("url", self.target)
        return (_MEMORY if isinstance(target, MemoryServer) else _REDIS)[area](target, **options)

    def raw(self) -> Any:
        """A client that knows nothing of us; the caller closes it."""
        target = self._admin
        if isinstance(target, MemoryServer):
            return plain_client(target)
        if "+cluster" in target:
            return redis.asyncio.RedisCluster.from_url(target.replace("+cluster", "", 1))
        if "+sentinel" in target:
            hosts = target.partition("://")[2].partition("/")[0].split(",")
            addresses = [(host, int(port)) for host, _, port in (each.partition(":") for each in hosts)]
            return redis.asyncio.Redis.from_url(_primary_of(addresses))
        return redis.asyncio.Redis.from_url(target)


class _Started:
    """A server that runs: its URL, how it is emptied, and how it is stopped."""

    def __init__(self, url: str, empty: Callable[[], None], stop: Callable[[], None], admin: str | None = None) -> None:
        self.url = url
        self.admin = admin
        self.empty = empty
        self.stop = stop


class _Emptier:
    """Empties servers over connections that stay: once before each of thousands of tests."""

    def __init__(self, addresses: list[Any]) -> None:
        self._links = []
        for address in addresses:
            link = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            link.settimeout(30)
            link.connect(address)
            self._links.append(link)

    def __call__(self) -> None:
        for link in self._links:
            link.sendall(b"FLUSHALL\r\n")
        for link in self._links:
            reply = link.recv(64)
            assert reply == b"+OK\r\n", reply

    def close(self) -> None:
        for link in self._links:
            link.close()


class Backends:
    """The backends of one run.

    Args:
        redis_server: path of a server program, in the place of the one on PATH.
    """

    def __init__(self, redis_server: str | None = None) -> None:
        self._redis_server = redis_server
        self._running: dict[str, _Started] = {}
        self._missing: dict[str, str] = {}

    def get(self, name: str) -> Backend:
        """The backend of that name, empty.

        Raises:
            UnavailableError: it is not to be had.
        """
        if name == "memory":
            return Backend(name, MemoryServer())
        if name in self._missing:
            raise UnavailableError(self._missing[name])
        started = self._running.get(name)
        if started is None:
            try:
                started = self._running[name] = _STARTERS[name](self)
            except UnavailableError as error:
                self._missing[name] = str(error)
                raise
        started.empty()
        return Backend(name, started.url, started.admin)

    def stop(self) -> None:
        for started in self._running.values():
            started.stop()
        self._running.clear()

    # one a server; each leaves nothing behind

    def _embedded(self) -> _Started:
        server = EmbeddedServer()
        asyncio.run(server.start())
        emptier = _Emptier([server.socket_path])
        return _Started(server.url, emptier, _together(emptier.close, lambda: asyncio.run(server.stop())))

    def _cluster(self) -> _Started:
        room = tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True)
        cluster = ClusterProcess(Path(room.name), binary=self._redis_server)
        asyncio.run(cluster.start())
        emptier = _Emptier([("127.0.0.1", node.port) for node in cluster.nodes])
        stop = _together(emptier.close, lambda: asyncio.run(cluster.stop()), room.cleanup)
        return _Started(cluster.url, emptier, stop)

    def _sentinel(self) -> _Started:
        room = tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True)
        watched = SentinelSet(Path(room.name), binary=self._redis_server)
        asyncio.run(watched.start())
        emptier = _Emptier([("127.0.0.1", watched.servers[0].port)])
        stop = _together(emptier.close, lambda: asyncio.run(watched.stop()), room.cleanup)
        return _Started(watched.url, emptier, stop)

    def _from_path(self) -> _Started:
        binary = self._redis_server or shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise UnavailableError("no redis-server on PATH")
        room = tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True)
        server = ServerProcess(Path(room.name), binary=binary)
        asyncio.run(server.start())
        emptier = _Emptier([server.socket_path])
        stop = _together(emptier.close, lambda: asyncio.run(server.stop()), room.cleanup)
        return _Started(server.url, emptier, stop)

    def _rights(self) -> _Started:
        """A server on which the stores may use the commands of docs/operations.md, and no others."""
        room = tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True)
        server = ServerProcess(Path(room.name), tcp=True, binary=self._redis_server)
        asyncio.run(server.start())
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", *documented_rights(), "~*", "&*")
        emptier = _Emptier([("127.0.0.1", server.port)])
        stop = _together(emptier.close, lambda: asyncio.run(server.stop()), room.cleanup)
        return _Started(server.url.replace("//", "//helix:password@", 1), emptier, stop, admin=server.url)

    def _from_url(self) -> _Started:
        url = os.environ.get("HELIX_TEST_REDIS_URL", "")
        if not url:
            raise UnavailableError("HELIX_TEST_REDIS_URL is not set")
        return _foreign(url, lambda: None)

    def _docker(self) -> _Started:
        try:
            from testcontainers.community.redis import RedisContainer
        except ImportError:  # in older versions
            from testcontainers.redis import RedisContainer
        container, reason = None, ""
        try:
            container = RedisContainer(os.environ.get("HELIX_TEST_REDIS_IMAGE", "redis:7-alpine"))
            container.start()
        except Exception as error:
            reason = str(error).splitlines()[0][:120]
        if container is None or reason:
            with warnings.catch_warnings():  # its client leaves the socket open on which nobody answered
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            raise UnavailableError(f"no Docker: {reason}")
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        return _foreign(url, container.stop)


def _primary_of(sentinels: list[tuple[str, int]]) -> str:
    """URL of the primary now. A client made by redis-py's Sentinel leaves its connections open."""
    host, port = sentinels[0]
    with redis.Redis(host=host, port=port, decode_responses=True) as sentinel:
        address: Any = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
    return f"redis://{address[0]}:{address[1]}/0"


def _together(*steps: Callable[[], object]) -> Callable[[], None]:
    def stop() -> None:
        with contextlib.ExitStack() as stack:
            for step in reversed(steps):
                stack.callback(step)

    return stop


def _foreign(url: str, stop: Callable[[], object]) -> _Started:
    """A server that is not ours: used only where it is empty, and left empty."""
    clustered = "+cluster" in url
    client: Any = (
        redis.RedisCluster.from_url(url.replace("+cluster", "", 1)) if clustered else redis.Redis.from_url(url)
    )
    try:
        size = client.dbsize()
    except redis.RedisError as error:
        raise UnavailableError(f"the server does not answer: {error}") from error
    if size:
        raise UnavailableError(f"the server holds {size} keys; the tests would delete them: name an empty database")
    empty: Callable[[], None] = client.flushall if clustered else client.flushdb
    return _Started(url, empty, _together(empty, client.close, stop))


_STARTERS: Final[dict[str, Callable[[Backends], _Started]]] = {
    "embedded": Backends._embedded,
    "cluster": Backends._cluster,
    "sentinel": Backends._sentinel,
    "redis-server": Backends._from_path,
    "url": Backends._from_url,
    "docker": Backends._docker,
    "rights": Backends._rights,
}
