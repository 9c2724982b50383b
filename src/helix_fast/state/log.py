"""Logs: which messages a stored conversation has, so that a save sends only the new ones. No I/O."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from helix_fast.slices import Slices

UNKNOWN_DIGEST: Final = "?"
_CAPACITY: Final = 1024
_SHORT: Final = 64


class Log:
    """The number of messages of a stored conversation, and the digest that identifies them.

    Without messages the digest is ''. Each message makes it sha1(digest + message) in hex, which scripts can compute.

    Attributes:
        text: a SHA-1 of all messages, each followed by a comma; nothing is added to it any more. It says the same as
            the digest, and takes a tenth of the time to compare with. None: not known.
    """

    __slots__ = ("count", "digest", "text")

    def __init__(self, count: int = 0, digest: str = "", text: Any = None) -> None:
        self.count: int = count
        self.digest: str = digest
        self.text: Any = text

    async def extended(self, messages: Sequence[bytes]) -> Log:
        """The log after these messages were appended, without its text."""
        if len(messages) <= _SHORT:
            return self._extended(messages)
        log, slices = self, Slices()
        for first in range(0, len(messages), _SHORT):
            log = log._extended(messages[first : first + _SHORT])
            if slices.over:
                await slices.next()
        return log

    def _extended(self, messages: Sequence[bytes]) -> Log:
        digest = self.digest
        for message in messages:
            digest = hashlib.sha1(digest.encode() + message, usedforsecurity=False).hexdigest()
        return Log(self.count + len(messages), digest)

    def appended(self, messages: Sequence[bytes], count: int, digest: str) -> Log:
        """The log of a count and a digest, with its text if these messages have made it of this log."""
        text = None
        known = self.text is not None and len(messages) <= _SHORT and self.count + len(messages) == count
        if known and self._extended(messages).digest == digest:
            text = self.text.copy()
            text.update(b"".join(message + b"," for message in messages))
        return Log(count, digest, text)


class KnownLogs:
    """The logs that a store has seen last, of the sessions that it has used last."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, Log] = OrderedDict()

    def get(self, session_id: str) -> Log:
        """The log of a session; an empty one if it is not known."""
        return self._logs.get(session_id, EMPTY)

    def remember(self, session_id: str, log: Log) -> None:
        """The session has this log now."""
        self._logs[session_id] = log
        self._logs.move_to_end(session_id)
        if len(self._logs) > _CAPACITY:
            self._logs.popitem(last=False)

    def remember_reply(self, session_id: str, count: bytes, digest: bytes, appended: Sequence[bytes] = ()) -> None:
        """The session has the log that a script has returned.

        Args:
            appended: the messages that the script has appended.
        """
        before = self._logs.get(session_id, EMPTY) if appended else Log()
        self.remember(session_id, before.appended(appended, int(count), digest.decode()))

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        self._logs.pop(session_id, None)


EMPTY: Final = Log(text=hashlib.sha1(usedforsecurity=False))
