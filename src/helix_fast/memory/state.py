"""InMemoryStateStore: the sessions of RedisStateStore, in this process."""

from __future__ import annotations

from typing import Any

from helix_fast.redis.state import RedisStateStore
from helix_fast.transport.topology import Standalone

from .keyspace import Clock
from .server import MemoryServer
from .store import placed


class InMemoryStateStore(RedisStateStore):
    """RedisStateStore over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: what it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that the stores of a Helix share, closed by it.
        options: RedisStateStore's without its connection: key_prefix, ttl, max_checkpoints, logger.

    Raises:
        InvalidArgumentError: settings that make no sense.
    """

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        clock: Clock | None = None,
        topology: Standalone | None = None,
        **options: Any,
    ) -> None:
        self.server, way = placed(server, clock, topology, options)
        super().__init__(topology=way, **options)
        self._owns_topology = topology is None
