"""InMemoryUsageStore: the usage of RedisUsageStore, in this process."""

from __future__ import annotations

from helix_fast.usage.store import RedisUsageStore

from .store import InMemory


class InMemoryUsageStore(InMemory, RedisUsageStore):
    """RedisUsageStore over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: the MemoryServer that it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that several stores share, closed by whoever made it.
        options: RedisUsageStore's without its connection: key_prefix, ttl_seconds, rollup_sessions, logger.

    Raises:
        InvalidArgumentError: settings that make no sense.
    """
