"""The stores in memory: those on Redis, each over a server in this process in place of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from helix_fast.errors import InvalidArgumentError
from helix_fast.locks.manager import RedisLockManager
from helix_fast.options import LockOptions, StateOptions, StreamOptions, UsageOptions
from helix_fast.state.store import RedisStateStore
from helix_fast.store import RedisStore
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.storage import RedisResumableStorage
from helix_fast.usage.store import RedisUsageStore

from .keyspace import Clock
from .server import MemoryServer
from .transport import MemoryTopology

if TYPE_CHECKING:
    from typing_extensions import Unpack

_CONNECTION: Final = frozenset({"redis", "client", "host", "port", "username", "password", "db", "wait_replicas"})


class InMemory(RedisStore):
    """Gives a store on Redis a server in this process. The first base of each store in memory.

    Args:
        server: shared with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: connections to ``server`` that several stores share, closed by their maker.
        options: those of the store on Redis that are not about its connection.

    Raises:
        InvalidArgumentError: ``server`` is none, or has a clock already; a setting is out of range; the package lupa is
            not installed (the extra ``memory``).
            It is also raised for an option of a connection, as there is none, and for an unknown one.
    """

    server: MemoryServer

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name in _CONNECTION:
                raise InvalidArgumentError(f"a store in memory takes no argument {name!r}", hint="it has no connection")
        if server is None:
            server = MemoryServer(clock)
        elif not isinstance(server, MemoryServer):
            raise InvalidArgumentError(f"server must be a MemoryServer, not {type(server).__name__}")
        elif clock is not None:
            raise InvalidArgumentError("clock belongs to the server: pass it to MemoryServer(clock=...)")
        self.server = server
        super().__init__(topology=server.topology() if topology is None else topology, **options)
        self._owns_topology = topology is None


class InMemoryStateStore(InMemory, RedisStateStore):
    """RedisStateStore over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: the MemoryServer that it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: connections to ``server`` that several stores share, closed by their maker.
        options: RedisStateStore's without its connection: key_prefix, ttl, max_checkpoints, logger.

    Raises:
        InvalidArgumentError: a setting is out of range, or the package lupa is not installed.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        key_prefix: str = "helix:",
        **options: Unpack[StateOptions],
    ) -> None:
        super().__init__(server, clock=clock, topology=topology, key_prefix=key_prefix, **options)


class InMemoryStreamManager(InMemory, RedisStreamManager):
    """RedisStreamManager over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server, clock, topology: as for InMemoryStateStore.
        options: RedisStreamManager's without its connection: key_prefix, max_stream_length, block_timeout, ttl,
            lease_ms, linger_ms, max_chunk_bytes, max_buffered_bytes, logger.

    Raises:
        InvalidArgumentError: a setting is out of range, or the package lupa is not installed.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        key_prefix: str = "helix:",
        **options: Unpack[StreamOptions],
    ) -> None:
        super().__init__(server, clock=clock, topology=topology, key_prefix=key_prefix, **options)


class InMemoryResumableStorage(InMemory, RedisResumableStorage):
    """RedisResumableStorage over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server, clock, topology: as for InMemoryStateStore.
        options: RedisResumableStorage's without its connection: those of InMemoryStreamManager.

    Raises:
        InvalidArgumentError: a setting is out of range, or the package lupa is not installed.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        key_prefix: str = "helix:",
        **options: Unpack[StreamOptions],
    ) -> None:
        super().__init__(server, clock=clock, topology=topology, key_prefix=key_prefix, **options)


class InMemoryUsageStore(InMemory, RedisUsageStore):
    """RedisUsageStore over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server, clock, topology: as for InMemoryStateStore.
        options: RedisUsageStore's without its connection: key_prefix, ttl_seconds, rollup_sessions, logger.

    Raises:
        InvalidArgumentError: a setting is out of range, or the package lupa is not installed.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        key_prefix: str = "helix",
        **options: Unpack[UsageOptions],
    ) -> None:
        super().__init__(server, clock=clock, topology=topology, key_prefix=key_prefix, **options)


class InMemoryLockManager(InMemory, RedisLockManager):
    """RedisLockManager over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server, clock, topology: as for InMemoryStateStore. If the server has a clock of its own, the deadlines of locks
            are by that clock too.
        options: RedisLockManager's without its connection: key_prefix, default_ttl_ms, logger.

    Raises:
        InvalidArgumentError: a setting is out of range, or the package lupa is not installed.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: MemoryTopology | None = None,
        key_prefix: str = "",
        **options: Unpack[LockOptions],
    ) -> None:
        super().__init__(server, clock=clock, topology=topology, key_prefix=key_prefix, **options)
        if self.server.clock is not None:
            self._backend.clock = self.server.clock  # a lock must be lost to its holder when it is free to others
