"""Versions: which version of a session this process has seen last, so that a server that has lost it is noticed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from helix_fast.errors import AcknowledgedDataLostError, HelixError
from helix_fast.transport.binding import cancel

_CAPACITY: Final = 4096  # some 2 MB at most, with the longest ids
# An hour for comparing what is read anyway; a minute, as for streams, for reading by itself after a reconnection.
_SECONDS: Final = 3600.0
_CHECK_SECONDS: Final = 60.0
_AT_ONCE: Final = 32


class Seen(NamedTuple):
    """A version that this process has seen.

    Attributes:
        born: when this session was created: tells it from another one of the same id.
        history: grows with each loss that was found.
        generation: of the connection over which it was seen, or of an earlier one.
        at: when, on the monotonic clock.
    """

    born: bytes
    version: int
    history: int
    generation: int
    at: float


_NOTHING: Final = Seen(b"", 0, 0, 0, 0.0)


class KnownVersions:
    """The versions that a store has seen last, of the sessions that it has used last.

    Versions of a session only grow, so one below a version that was seen before the request says that the server has
    lost acknowledged writes. Each loss is reported once.

    Args:
        report: gets the errors.
        read: reads a session's current version and notes it, as any other request does.
        generation: number of the connection that the next request about a session uses.
    """

    def __init__(
        self,
        report: Callable[[HelixError], None],
        read: Callable[[str], Awaitable[object]],
        generation: Callable[[str], int],
    ) -> None:
        self._report = report
        self._read = read
        self._generation = generation
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._checking: asyncio.Task[None] | None = None

    def before(self, session_id: str) -> tuple[Seen, int]:
        """What is known before a request; goes to ``note`` with its reply."""
        return self._seen.get(session_id, _NOTHING), self._generation(session_id)

    def note(self, session_id: str, before: tuple[Seen, int], version: int, found: int, born: bytes) -> None:
        """A request that was sent after ``before`` has found version ``found``, and left ``version``."""
        if not (version and born):
            return  # there is no session
        expected, generation = before
        seen, now, history = self._seen.get(session_id), time.monotonic(), 0
        if seen is not None and seen.born == born:
            history, fell = seen.history, expected.born == born and found < expected.version
            if fell and expected.history == history:
                history += 1
                self._report(AcknowledgedDataLostError("", found + 1, expected.version, session_id=session_id))
            elif fell or expected.born != born or expected.history == history:
                version = max(version, seen.version)  # replies need not come in the order of the requests
            else:
                return  # another request has found a loss meanwhile; this reply may be of either branch
        self._seen[session_id] = Seen(born, version, history, generation, now)
        self._seen.move_to_end(session_id)
        while len(self._seen) > _CAPACITY or next(iter(self._seen.values())).at < now - _SECONDS:
            self._seen.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        self._seen.pop(session_id, None)

    def check(self) -> None:
        """After a reconnection: read the versions of the sessions that were used in the last minute."""
        if self._seen and (self._checking is None or self._checking.done()):
            self._checking = asyncio.get_running_loop().create_task(self._check(), name="check versions of sessions")

    async def _check(self) -> None:
        since = time.monotonic() - _CHECK_SECONDS
        due = [
            session_id
            for session_id, seen in self._seen.items()
            if seen.at > since and seen.generation != self._generation(session_id)
        ]
        for first in range(0, len(due), _AT_ONCE):
            await asyncio.gather(*map(self._read, due[first : first + _AT_ONCE]), return_exceptions=True)

    async def close(self) -> None:
        """Forget them."""
        self._seen.clear()
        task, self._checking = self._checking, None
        await cancel(task)
