"""InMemoryStreamManager: the streams of RedisStreamManager, in this process."""

from __future__ import annotations

from typing import Any

from helix_fast.redis.streams import RedisStreamManager
from helix_fast.transport.topology import Standalone

from .keyspace import Clock
from .server import MemoryServer
from .store import placed


class InMemoryStreamManager(RedisStreamManager):
    """RedisStreamManager over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: what it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that the stores of a Helix share, closed by it.
        options: RedisStreamManager's without its connection: key_prefix, max_stream_length, block_timeout, ttl,
            lease_ms, linger_ms, max_chunk_bytes, max_buffered_bytes, logger.

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
