"""InMemoryStateStore: the sessions of RedisStateStore, in this process."""

from __future__ import annotations

from helix_fast.state.store import RedisStateStore

from .store import InMemory


class InMemoryStateStore(InMemory, RedisStateStore):
    """RedisStateStore over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: the MemoryServer that it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that several stores share, closed by whoever made it.
        options: RedisStateStore's without its connection: key_prefix, ttl, max_checkpoints, logger.

    Raises:
        InvalidArgumentError: settings that make no sense.
    """
