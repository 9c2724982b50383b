"""Storage of Strands' agents, on any Redis or Valkey. Needs the extra ``strands``."""

from __future__ import annotations

import asyncio
import builtins
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.errors import HelixError, InvalidArgumentError
from helix_fast.keys import FileKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.sync.loop import background

from .extras import needs
from .owned import OwnedHelix

with needs("Strands 1.62 or newer", extra="strands"):
    from strands.storage import Storage
    from strands.types.exceptions import StorageError

__all__ = ["HelixStorage"]

_WRITE: Final = script("integrations", "strands_write")
_LIST: Final = script("integrations", "strands_list")
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 1000  # names in one reply


class HelixStorage(Storage):
    """A ``Storage`` for ``SnapshotSessionManager(…, storage=HelixStorage(url))`` and ``Agent(storage=…)``.

    Keys are opaque text, and the bytes come back as they were. A change is one script, made once however often its
    reply is lost. All keys of a ``name`` share a slot of a cluster: give tenants a name each. Every method raises
    StorageError where the server refuses or is away.

    Strands reads a session on an event loop of its own, while the one that makes the agent is blocked. So the
    connections are on the background loop of ``helix_fast.sync``, and any event loop may use the storage.

    Args:
        target: what ``connect`` takes; it opens at first use, and ``close`` closes it.
        name: of the group of keys.
        ttl: seconds from its last write until a value expires; None or 0: it is kept until it is deleted.
        options: of ``connect``.

    Raises:
        InvalidArgumentError, InvalidIdError: wrong options; a Helix, whose event loop may be the one that is blocked.
    """

    def __init__(
        self, target: str | Redis | RedisCluster, *, name: str = "all", ttl: int | None = None, **options: Any
    ) -> None:
        if isinstance(target, Helix):
            raise InvalidArgumentError("a storage of Strands has connections of its own: give it a URL")
        FileKeys("", name)
        self._name = name
        self._ttl_ms = arguments.ttl_seconds(ttl) * 1000
        self._helix = OwnedHelix(target, **options)

    async def write(self, key: str, data: bytes) -> None:
        """Store the bytes of a key, in place of those that it has."""
        await self._change(_text(key), "write", data, self._ttl_ms)

    async def read(self, key: str) -> bytes | None:
        """The bytes of a key; None where it has none."""
        return await self._run(lambda requests, keys: requests.command(keys.tag, "GET", keys.file(_text(key))))  # type: ignore[no-any-return]

    async def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        await self._change(_text(key), "delete", b"", 0)

    async def list(self, query: str = "") -> builtins.list[str]:
        """The keys that begin with a prefix, sorted: a round trip for each 1 000."""
        after, before = b"[" + _text(query), b"(" + _text(query) + b"\xff"  # a byte that no text has
        found: builtins.list[str] = []
        while True:
            args = (after, before, _PAGE)
            seen, last, page = await self._run(lambda requests, keys: requests.run(_LIST, keys.tag, keys.both, args))  # noqa: B023
            found += [name.decode("utf-8", "surrogatepass") for name in page]
            if seen < _PAGE:
                return found
            after = b"(" + last

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._helix.close(), background().loop))

    async def _change(self, key: bytes, action: str, data: bytes, ttl_ms: int) -> None:
        operation, args = secrets.token_hex(8), (key, action, data, ttl_ms, _REMEMBERED_MS)
        await self._run(
            lambda requests, keys: requests.run(
                _WRITE, keys.tag, (keys.file(key), keys.names, keys.operation(operation)), args
            )
        )

    async def _run(self, request: Callable[[Requests, FileKeys], Awaitable[Any]]) -> Any:
        async def at_home() -> Any:
            helix = await self._helix.get()
            return await request(helix.state._requests, FileKeys(helix.state.key_prefix, self._name))

        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(at_home(), background().loop))
        except HelixError as error:
            raise StorageError(str(error)) from error


def _text(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
