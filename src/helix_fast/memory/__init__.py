"""The twins of the stores, in process: the same code as on Redis, over a server that lives here; see ``server``."""

from __future__ import annotations

from typing import NamedTuple

from helix_fast.errors import InvalidArgumentError
from helix_fast.keys import check_prefix
from helix_fast.transport.topology import Standalone

from .keyspace import Clock, CommandError
from .locks import InMemoryLockManager
from .resumable import InMemoryResumableStorage
from .server import MemoryServer
from .state import InMemoryStateStore
from .streams import InMemoryStreamManager
from .usage import InMemoryUsageStore

__all__ = [
    "CommandError",
    "InMemoryLockManager",
    "InMemoryResumableStorage",
    "InMemoryStateStore",
    "InMemoryStreamManager",
    "InMemoryUsageStore",
    "MemoryServer",
    "MemoryStores",
    "memory_stores",
]


class MemoryStores(NamedTuple):
    """The five stores of one MemoryServer, on one lane and one hub, as those of a Helix are."""

    state: InMemoryStateStore
    streams: InMemoryStreamManager
    resumable: InMemoryResumableStorage
    usage: InMemoryUsageStore
    locks: InMemoryLockManager
    server: MemoryServer
    topology: Standalone

    async def close(self) -> None:
        """Close the stores and the way to the server. What is stored stays in the server. Safe to call twice."""
        for store in (self.state, self.streams, self.resumable, self.usage, self.locks):
            await store.close()
        await self.topology.close()


def memory_stores(
    key_prefix: str = "helix:", *, server: MemoryServer | None = None, clock: Clock | None = None
) -> MemoryStores:
    """The five stores for ``connect("memory://")``; to be used from one event loop.

    Args:
        key_prefix: put before every key; the usage store takes it without its last colon, as on the reference page.
        server: whose data they are; None: one of their own.
        clock: seconds since the epoch, of a server of their own; see MemoryServer. It decides over the locks as well.

    Raises:
        InvalidArgumentError: a prefix that can be none, or a clock beside a server.
    """
    check_prefix(key_prefix)
    if server is not None and clock is not None:
        raise InvalidArgumentError("clock belongs to the server: pass it to MemoryServer(clock=...)")
    server = MemoryServer(clock) if server is None else server
    way = server.topology()
    return MemoryStores(
        state=InMemoryStateStore(server, key_prefix=key_prefix, topology=way),
        streams=InMemoryStreamManager(server, key_prefix=key_prefix, topology=way),
        resumable=InMemoryResumableStorage(server, key_prefix=key_prefix, topology=way),
        usage=InMemoryUsageStore(server, key_prefix=key_prefix.removesuffix(":"), topology=way),
        locks=InMemoryLockManager(key_prefix, server=server),
        server=server,
        topology=way,
    )
