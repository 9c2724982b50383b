"""What the five stores share: the way to the server, retries, scripts, error callbacks and closing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypedDict, TypeVar

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments, codec
from helix_fast.errors import InvalidArgumentError, StoreClosedError, StoreResponseError
from helix_fast.keys import check_prefix
from helix_fast.reporting import ErrorReporting
from helix_fast.transport.resolve import topology_for
from helix_fast.transport.retry import Retry
from helix_fast.transport.topology import Topology

from .lua import Argument, Script

Self = TypeVar("Self", bound="RedisStore")
T = TypeVar("T")


class ConnectionOptions(TypedDict, total=False):
    """How a store reaches its server, and tells of trouble; the same for all of them: see RedisStore."""

    client: Redis | RedisCluster | None
    host: str
    port: int
    username: str | None
    password: str | None
    db: int | None
    logger: logging.Logger | None
    wait_replicas: int
    topology: Topology | None


class RedisStore(ErrorReporting):
    """Base of the stores on Redis.

    Args:
        redis: a URL (``redis://``, ``rediss://``, ``unix://``) or a ``redis.asyncio`` client, whose connection settings
            are taken over; the client itself is neither used nor closed.
        client: the same, by its name on the reference page.
        host, port, username, password, db: where neither is given.
        key_prefix: put before every key.
        logger: where background errors go that nobody listens for; default ``helix_fast``.
        wait_replicas: replicas that must have a write before it is acknowledged, for who needs writes to survive a
            failover; see ``connect``.
        topology: the connections of a Helix, shared by its stores and closed by it.

    Raises:
        InvalidArgumentError, InvalidUrlError: settings that make no sense; nothing is connected yet.
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
    ) -> None:
        ErrorReporting.__init__(self, logger)  # by name: a store may have other bases, which are made by themselves
        self.key_prefix: str = check_prefix(key_prefix)
        self._owns_topology = topology is None
        self._closed = False
        target = redis if redis is not None else client
        login: dict[str, Any] = {"username": username, "password": password, "db": db}
        if redis is not None and client is not None:
            raise InvalidArgumentError("pass a URL or client once, not both as 'redis' and as 'client'")
        if topology is not None:
            self._topology = topology
        elif target is None:
            arguments.integer(port, "port", 1, 65535)
            login["db"] = db or 0
            self._topology = topology_for("redis://", host=host, port=port, wait_replicas=wait_replicas, **login)
        elif isinstance(target, str):
            self._topology = topology_for(target, wait_replicas=wait_replicas, **login)
        else:
            self._topology = topology_for(target, wait_replicas=wait_replicas)
        self.retry_timeout: float = self._topology.retry_timeout
        self._retry = Retry(self.retry_timeout)

    async def close(self) -> None:
        """Close the store, and its connections where no Helix shares them. Safe to call twice."""
        if not self._closed:
            self._closed = True
            if self._owns_topology:
                await self._topology.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # requests, for the parts that a store is made of

    async def command(self, tag: str, *args: Argument) -> Any:
        """Run a command that is safe to repeat, on the server of ``tag``."""
        attempts = self._attempts(tag, codec.frame_command(args))
        if self._topology.observer is None:
            return await attempts
        return await self.observed(attempts, tag, str(args[0], "ascii") if isinstance(args[0], bytes) else str(args[0]))

    async def run(self, script: Script, tag: str, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """Run a script that is safe to repeat (it is read-only, or idempotent by an operation id)."""
        if self._topology.observer is None:
            return await self._run(script, tag, keys, args)
        return await self.observed(self._run(script, tag, keys, args), tag, "EVALSHA", script.name)

    async def _run(self, script: Script, tag: str, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        try:
            return await self._attempts(tag, script.frame(keys, args))
        except StoreResponseError as error:
            if error.server_code != "NOSCRIPT":
                raise
        return await self._attempts(tag, script.frame(keys, args, by_text=True))

    async def observed(self, request: Awaitable[T], tag: str, command: str, script: str = "") -> T:
        """Wait for a request, and tell the observer, if there is one, how it went."""
        observer = self._topology.observer
        if observer is None:
            return await request
        observed = observer.request(tag, command, script)
        try:
            reply = await request
        except BaseException as error:
            observed.done(error)
            raise
        observed.done()
        return reply

    async def retrying(self, attempt: Callable[[], Awaitable[T]], tag: str) -> T:
        """Call ``attempt`` again after passing faults, for the retry time."""
        if self._closed:
            raise StoreClosedError("the store is closed")
        return await self._retry.run(attempt, lambda: self._topology.ever_connected(tag))

    async def publish_word(self) -> bytes:
        """PUBLISH or SPUBLISH: whichever the servers of this store have for the channels of a stream or lock."""
        if not self._topology.publish:
            await self.retrying(self._topology.ready, "")
        return self._topology.publish

    async def _attempts(self, tag: str, frame: bytes) -> Any:
        return await self.retrying(lambda: self._topology.call(tag, frame), tag)

    @property
    def topology(self) -> Topology:
        """The connections, for what goes without repetition."""
        return self._topology

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed
