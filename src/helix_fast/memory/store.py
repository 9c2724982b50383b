"""What the stores in memory share: where their server comes from."""

from __future__ import annotations

from typing import Any, Final

from helix_fast.errors import InvalidArgumentError
from helix_fast.store import RedisStore
from helix_fast.transport.topology import Standalone

from .keyspace import Clock
from .server import MemoryServer

_CONNECTION: Final = frozenset({"redis", "client", "host", "port", "username", "password", "db", "wait_replicas"})


class InMemory(RedisStore):
    """Stands before a store on Redis among the bases of its twin, and puts a server in this process behind it.

    Args:
        server: what it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that several stores share, closed by whoever made it.
        options: those of the store on Redis that are not about its connection.

    Raises:
        InvalidArgumentError: ``server`` is none, has a clock already, or settings make no sense.
        TypeError: an option of a connection, which there is none of here.
    """

    server: MemoryServer

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: Standalone | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name in _CONNECTION:
                raise TypeError(f"a store in memory takes no argument {name!r}")
        if server is None:
            server = MemoryServer(clock)
        elif not isinstance(server, MemoryServer):
            raise InvalidArgumentError(f"server must be a MemoryServer, not {type(server).__name__}")
        elif clock is not None:
            raise InvalidArgumentError("clock belongs to the server: pass it to MemoryServer(clock=...)")
        self.server = server
        super().__init__(topology=server.topology() if topology is None else topology, **options)
        self._owns_topology = topology is None
