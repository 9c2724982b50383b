"""EntryWriter: sends encoded usage entries to the server, for the store and its recorders. No encoding here."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import Final

from helix_fast.errors import HelixError
from helix_fast.keys import UsageKeys
from helix_fast.lua import FramedArguments, script
from helix_fast.requests import Requests
from helix_fast.slices import Slices

from .encoding import EncodedEntry
from .index import UsageIndex, forever

_RECORD: Final = script("usage", "usage_record")


class EntryWriter:
    """Records entries, each id once.

    Args:
        requests: the store's.
        key_prefix: put before every key.
        ttl: seconds from its last entry until a session's usage expires; 0: never.
        index: lists the sessions.
        report: gets errors of background work.
    """

    def __init__(
        self,
        requests: Requests,
        key_prefix: str,
        ttl: int,
        index: UsageIndex,
        report: Callable[[HelixError], None],
    ) -> None:
        self._requests = requests
        self._key_prefix = key_prefix
        self._ttl = ttl
        self._index = index
        self.report = report
        self._operations = itertools.count(1)

    @property
    def closed(self) -> bool:
        """Whether the store is closed."""
        return self._requests.closed

    @cached_property
    def _name(self) -> str:
        # made on first use: a store that is made before a fork must not have the same name in every process after it
        return base64.b64encode(os.urandom(6)).decode()

    def check_loop(self) -> None:
        """Raise InvalidArgumentError unless the running event loop may use the store."""
        self._requests.check_loop()

    def operation(self) -> str:
        """A new operation id."""
        return f"{self._name}{next(self._operations):x}"

    async def retrying(self, attempt: Callable[[], Awaitable[None]], session_id: str) -> None:
        """Call ``attempt`` until it succeeds: again after transient faults, for the retry time."""
        await self._requests.retrying(attempt, session_id)

    async def write(self, entries: Sequence[EncodedEntry], *, retry_timeout: float | None = None) -> int:
        """Record entries of one session, at least one; returns how many this call has recorded.

        Args:
            retry_timeout: seconds, in place of the store's; 0: no retry after a fault.

        Raises:
            InvalidIdError, StoreError.
        """
        args = FramedArguments()
        slices = Slices()
        for entry in entries:
            args.add(entry.id, entry.wire)
            if slices.over:
                await slices.next()
        return await self.write_framed(entries[0].session_id, args, retry_timeout=retry_timeout)

    async def write_framed(
        self, session_id: str, entries: FramedArguments, *, retry_timeout: float | None = None
    ) -> int:
        """As ``write``, of the ids and the JSON of entries."""
        keys = UsageKeys(self._key_prefix, session_id)
        names = [keys.entries, keys.ids]
        if self._requests.topology.clustered:
            await self._index.list_session(session_id, self._ttl)
        else:
            names.append(self._index.key(session_id))
        operation = self.operation()
        entries.first = (operation, self._ttl, operation, session_id, forever(session_id))
        return int(await self._requests.run(_RECORD, session_id, names, entries, retry_timeout=retry_timeout))
