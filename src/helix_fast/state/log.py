"""Logs: which messages a stored conversation has, so that a save sends only the new ones. No I/O."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

UNKNOWN_DIGEST: Final = "?"
_CAPACITY: Final = 1024


class Log:
    """The number of messages of a stored conversation, and the digest that identifies them.

    Without messages the digest is ''. Each message makes it sha1(digest + message) in hex, which scripts can compute.
    """

    __slots__ = ("count", "digest")

    def __init__(self, count: int = 0, digest: str = "") -> None:
        self.count: int = count
        self.digest: str = digest

    def extended(self, messages: Iterable[bytes]) -> Log:
        """The log after these messages were appended."""
        digest, count = self.digest, self.count
        for count, message in enumerate(messages, self.count + 1):  # noqa: B007  the last count is used below
            digest = hashlib.sha1(digest.encode() + message, usedforsecurity=False).hexdigest()
        return Log(count, digest)

    def begins(self, messages: Sequence[bytes]) -> bool:
        """Whether these messages begin with the whole log."""
        if self.count > len(messages) or self.digest == UNKNOWN_DIGEST:
            return False
        return Log().extended(messages[: self.count]).digest == self.digest


class KnownLogs:
    """The logs that a store has seen last, of the sessions that it has used last."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, Log] = OrderedDict()

    def get(self, session_id: str) -> Log:
        """The log of a session; an empty one if it is not known."""
        return self._logs.get(session_id, _EMPTY)

    def remember(self, session_id: str, log: Log) -> None:
        """The session has this log now."""
        self._logs[session_id] = log
        self._logs.move_to_end(session_id)
        if len(self._logs) > _CAPACITY:
            self._logs.popitem(last=False)

    def remember_reply(self, session_id: str, count: bytes, digest: bytes) -> None:
        """The session has the log that a script has returned."""
        self.remember(session_id, Log(int(count), digest.decode()))

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        self._logs.pop(session_id, None)


_EMPTY: Final = Log()
