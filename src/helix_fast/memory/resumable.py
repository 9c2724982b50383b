"""InMemoryResumableStorage: the logs of RedisResumableStorage, in this process."""

from __future__ import annotations

from helix_fast.streams.storage import RedisResumableStorage

from .store import InMemory


class InMemoryResumableStorage(InMemory, RedisResumableStorage):
    """RedisResumableStorage over a server in this process: same methods, same bytes, same limits, same errors.

    Args:
        server: the MemoryServer that it shares with other stores; None: one of its own.
        clock: seconds since the epoch, of a server of its own; see MemoryServer.
        topology: the way to ``server`` that several stores share, closed by whoever made it.
        options: RedisResumableStorage's without its connection: key_prefix, max_stream_length, block_timeout, ttl,
            lease_ms, linger_ms, max_chunk_bytes, max_buffered_bytes, logger.

    Raises:
        InvalidArgumentError: settings that make no sense.
    """
