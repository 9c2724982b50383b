"""SessionRequests: runs the scripts of the state store's parts: keys, operation ids, refusals. No fields here."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from helix_fast import arguments
from helix_fast.errors import HelixError, MalformedStateError, StoreResponseError
from helix_fast.index import Index
from helix_fast.keys import SessionKeys
from helix_fast.lua import LONG, Argument, FramedArguments, script
from helix_fast.replies import check_session_reply
from helix_fast.requests import Requests

from .versions import KnownVersions

# The server's words about stored values of another type than ours
_FOREIGN: Final = ("WRONGTYPE", "not an integer", "attempt to ")
MAX_PAGE: Final = 10_000
# How often a change that is computed here from stored bytes is computed again after others have changed these bytes
CONFLICTS: Final = 64
# Scripts remember an operation for at least a minute. A retry after that would take effect a second time.
MAX_RETRY_SECONDS: Final = 30.0
# How long the fencing token of a deleted session is known: longer than a stale holder may have been asleep
FENCE_SECONDS: Final = 86_400


async def back_off(conflicts: int) -> None:
    """Sleep after the given number of conflicts, counted from 0, so that not all callers try again at once."""
    if conflicts > 1:
        await asyncio.sleep(random.uniform(0, 0.003 * conflicts))  # noqa: S311  jitter, not a secret


def _check_foreign(key: bytes, error: StoreResponseError) -> None:
    """Raise MalformedStateError if the server refused the stored value, and not the request."""
    if any(words in str(error) for words in _FOREIGN):
        raise MalformedStateError(key.decode(), "$", f"a key of another type or content: {error}") from error


class SessionRequests:
    """Scripts and commands about sessions.

    Args:
        requests: the store's.
        key_prefix: put before every key.
        ttl: seconds from its last write until a session expires; 0: never.
        index: lists the sessions.
        report: gets AcknowledgedDataLostError.

    Attributes:
        versions: those that replies have shown.
    """

    def __init__(
        self, requests: Requests, key_prefix: str, ttl: int, index: Index, report: Callable[[HelixError], None]
    ) -> None:
        self._requests = requests
        self._index = index
        self._key_prefix = key_prefix
        self._ttl = ttl
        self.versions: KnownVersions = KnownVersions(report, self.read_field, requests.topology.generation)

    def keys(self, session_id: str) -> SessionKeys:
        """The keys of a session; InvalidIdError for an id that cannot be one."""
        return SessionKeys(self._key_prefix, session_id)

    async def run(
        self,
        name: str,
        session_id: str,
        keys: SessionKeys,
        args: Sequence[Argument] | FramedArguments = (),
        *more: bytes,
    ) -> Any:
        """Run a script that brings its own operation id.

        Args:
            more: keys that the script takes after those of all scripts.
        """
        names = (*keys.all, *more)
        if self._requests.topology.clustered:
            names = (*names, keys.never)  # why: see SessionKeys
        try:
            return await self._requests.run(script("state", name), session_id, names, args)
        except StoreResponseError as error:
            _check_foreign(keys.hash, error)
            raise

    async def read(
        self, name: str, session_id: str, keys: SessionKeys, args: Sequence[Argument] = (), *more: bytes
    ) -> list[Any] | None:
        """Run a script that includes ``state_reading``; None if the session does not exist.

        Raises:
            MalformedStateError: what is stored is no whole session.
        """
        before = self.versions.before(session_id)
        reply: list[Any] | None = await self.run(name, session_id, keys, args, *more)
        if reply is not None:
            check_session_reply(session_id, keys.hash, reply)
            if reply[0] == b"ok":
                version, born = int(reply[1]), reply[2]
                self.versions.note(session_id, before, version, version, born)
                del reply[1:3]
        return reply

    async def read_field(self, session_id: str, name: str = "version") -> bytes | None:
        """A field of the session's hash."""
        keys, before = self.keys(session_id), self.versions.before(session_id)
        reply = await self.command(session_id, "HMGET", keys.hash, name, "version", "born", "createdAt")
        if reply[1] is not None and reply[1].isdigit():
            version, born = int(reply[1]), reply[2] or reply[3] or b""
            self.versions.note(session_id, before, version, version, born)
        value: bytes | None = reply[0]
        return value

    async def write(
        self,
        name: str,
        session_id: str,
        keys: SessionKeys,
        args: Sequence[Argument],
        fencing_token: int | None = None,
        *,
        staging: bytes | None = None,
        expected: int = 0,
        none: Callable[[], HelixError] | None = None,
        own_ttl: int | None = None,
    ) -> list[Any]:
        """Run a script that includes ``state_prelude``, under a new operation id, so that it may be retried.

        Args:
            staging: the key of a step's staged changes, for the scripts that take it.
            expected, none: as in ``check_session_reply``.
            own_ttl: the TTL that this write gives the session.

        Returns:
            The script's word, the session's version, and more.

        Raises:
            SessionNotFoundError, StaleFencingTokenError, MalformedStateError: nothing was changed.
        """
        token = arguments.token(fencing_token)
        head: tuple[Argument, ...] = (os.urandom(8), self._ttl, token)
        saves, clustered = name == "state_save", self._requests.topology.clustered
        lists = saves or name == "run_begin" or own_ttl is not None or not self._index.lists(session_id)
        more = [self._index.key_beside(keys.hash, session_id, lists=lists)]
        if staging is not None:
            more.append(staging)
        framed = (*head, *args) if len(args) < LONG else await FramedArguments.of(head, args)
        before = self.versions.before(session_id)
        reply: list[Any] = await self.run(name, session_id, keys, framed, *more)
        if len(reply) > 3:  # else it was refused before the session was read
            self.versions.note(session_id, before, int(reply[1]), int(reply[2]), reply[3])
            del reply[2:4]
        check_session_reply(session_id, keys.hash, reply, token=token, expected=expected, none=none)
        if lists and reply[0] == b"ok":
            created = (saves and reply[1] == b"1") or (name == "run_begin" and reply[3] == b"1")
            if not clustered:
                self._index.remember(session_id)
            elif created or own_ttl is not None or not self._index.lists(session_id):
                await self._index.list_id(session_id, created=created, ttl=own_ttl)
        return reply

    async def delete(self, session_id: str, keys: SessionKeys, fencing_token: int | None) -> bool:
        """Delete all keys of a session; returns whether it existed."""
        token = arguments.token(fencing_token)
        index = self._index.key_beside(keys.hash, session_id)
        args: tuple[Argument, ...] = (os.urandom(8), token, FENCE_SECONDS)
        reply: list[Any] = await self.run("state_delete", session_id, keys, args, index)
        self._index.forget(session_id)
        self.versions.forget(session_id)
        if reply[0] == b"missing":
            return False
        check_session_reply(session_id, keys.hash, reply, token=token)
        return True

    async def command(self, session_id: str, command: str, key: bytes, *args: Argument) -> Any:
        """Run a command that only reads ``key``."""
        try:
            return await self._requests.command(session_id, command, key, *args)
        except StoreResponseError as error:
            _check_foreign(key, error)
            raise
