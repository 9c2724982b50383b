"""What the parts of the state store share: keys, scripts with their common head, and what their replies mean."""

from __future__ import annotations

import asyncio
import os
import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.errors import (
    MalformedStateError,
    SessionNotFoundError,
    StaleFencingTokenError,
    StoreResponseError,
)
from helix_fast.keys import SessionKeys
from helix_fast.lua import Argument, script
from helix_fast.store import ConnectionOptions, RedisStore
from helix_fast.transport.cluster import Cluster
from helix_fast.transport.retry import Retry

from .fields import Log

if TYPE_CHECKING:
    from typing_extensions import Unpack

# What the server says of stored values that are not of the type that we wrote
_FOREIGN: Final = ("WRONGTYPE", "not an integer", "attempt to ")
_REMEMBERED_LOGS: Final = 1024
MAX_PAGE: Final = 10_000
# How often what was computed from stored bytes is computed again where others have changed them
CONFLICTS: Final = 64
# The scripts know a call for a minute at least: repeated after that, it would have its effect twice.
MAX_RETRY_SECONDS: Final = 30.0


async def let_others_finish(attempt: int) -> None:
    """After so many conflicts (0 = the first): pause, longer each time, so that not all come again at once."""
    if attempt > 1:
        await asyncio.sleep(random.uniform(0, 0.003 * attempt))  # noqa: S311  jitter, not a secret


@contextmanager
def _foreign_as_malformed(key: bytes) -> Iterator[None]:
    try:
        yield
    except StoreResponseError as error:
        if any(words in str(error) for words in _FOREIGN):
            raise MalformedStateError(key.decode(), "$", f"a key of another type or content: {error}") from error
        raise


class SessionStore(RedisStore):
    """Base of the parts of RedisStateStore.

    Args:
        redis, client, host, port, username, password, db, key_prefix, logger, wait_replicas, topology: see
            RedisStore.
        ttl: seconds after its last write when a session expires, all of it at once; None or 0 keeps it until deleted.
        max_checkpoints: how many of the newest checkpoints of a session are kept; None for all.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "helix:",
        ttl: int | None = 604_800,
        max_checkpoints: int | None = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self.ttl: int = arguments.ttl_seconds(ttl)
        if max_checkpoints is not None:
            arguments.integer(max_checkpoints, "max_checkpoints", 1)
        self.max_checkpoints: int = max_checkpoints or 0
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._retry = Retry(min(self.retry_timeout, MAX_RETRY_SECONDS))
        self._logs: OrderedDict[str, Log] = OrderedDict()

    def _keys(self, session_id: str) -> SessionKeys:
        return SessionKeys(self.key_prefix, session_id)

    def _names(self, keys: SessionKeys, *more: bytes) -> Sequence[bytes]:
        """The keys that a script takes; see SessionKeys."""
        return (*keys.all, *more, keys.never) if isinstance(self._topology, Cluster) else (*keys.all, *more)

    async def _read(self, name: str, session_id: str, keys: SessionKeys, args: Sequence[Argument] = ()) -> Any:
        """Run a script that only reads."""
        return await self._script(name, session_id, keys, self._names(keys), args)

    async def _write(
        self,
        name: str,
        session_id: str,
        keys: SessionKeys,
        args: Sequence[Argument],
        fencing_token: int | None = None,
        staging: bytes | None = None,
    ) -> list[Any]:
        """Run a script that begins with ``state_prelude``, under a new operation id, so that it may be repeated.

        Raises:
            SessionNotFoundError, StaleFencingTokenError, MalformedStateError: nothing was changed.
        """
        token = arguments.token(fencing_token)
        names = self._names(keys, *(() if staging is None else (staging,)))
        reply: list[Any] = await self._script(name, session_id, keys, names, [os.urandom(8), self.ttl, token, *args])
        word = reply[0]
        if word == b"missing":
            raise SessionNotFoundError(session_id)
        if word == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))
        if word == b"malformed":
            raise MalformedStateError(keys.hash.decode(), reply[1].decode(), "is not what was stored there")
        return reply

    async def _script(
        self, name: str, session_id: str, keys: SessionKeys, names: Sequence[bytes], args: Sequence[Argument]
    ) -> Any:
        with _foreign_as_malformed(keys.hash):
            return await self.run(script("state", name), session_id, names, args)

    async def _ask(self, session_id: str, command: str, key: bytes, *args: Argument) -> Any:
        """Run a command that only reads ``key``."""
        with _foreign_as_malformed(key):
            return await self.command(session_id, command, key, *args)

    # what was last seen of the conversations, so that a save sends only what is new

    def _remember(self, session_id: str, log: Log) -> None:
        self._logs[session_id] = log
        self._logs.move_to_end(session_id)
        if len(self._logs) > _REMEMBERED_LOGS:
            self._logs.popitem(last=False)

    def _remember_reply(self, session_id: str, count: bytes, digest: bytes) -> None:
        self._remember(session_id, Log(int(count), digest.decode()))
