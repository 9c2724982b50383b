"""What the stores in memory share: where their server comes from."""

from __future__ import annotations

from typing import Any, Final

from helix_fast.errors import InvalidArgumentError
from helix_fast.transport.topology import Standalone

from .keyspace import Clock
from .server import MemoryServer

_CONNECTION: Final = frozenset({"redis", "client", "host", "port", "username", "password", "db", "wait_replicas"})


def placed(
    server: MemoryServer | None, clock: Clock | None, topology: Standalone | None, options: dict[str, Any]
) -> tuple[MemoryServer, Standalone]:
    """The server that a store is to use, and the way to it.

    Raises:
        InvalidArgumentError: ``server`` is none, or has a clock already.
        TypeError: an option of a connection, which there is none of here.
    """
    for name in options:
        if name in _CONNECTION:
            raise TypeError(f"a store in memory takes no argument {name!r}")
    if server is None:
        server = MemoryServer(clock)
    elif not isinstance(server, MemoryServer):
        raise InvalidArgumentError(f"server must be a MemoryServer, not {type(server).__name__}")
    elif clock is not None:
        raise InvalidArgumentError("clock belongs to the server: pass it to MemoryServer(clock=...)")
    return server, server.topology() if topology is None else topology
