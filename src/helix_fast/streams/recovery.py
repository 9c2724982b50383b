"""What became of a batch: after a refusal, a lost reply or a reconnection, the stream itself is asked.

Recovery changes nothing in an appender: it answers with an outcome, which the appender applies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from helix_fast.codec import Batch
from helix_fast.errors import (
    HelixError,
    StaleFencingTokenError,
    StoreResponseError,
    StreamClosedError,
    StreamDeletedError,
    StreamFencedError,
    StreamResetError,
)
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.retry import back_off, is_transient

from .terms import Terms

_INSPECT: Final = script("streams", "stream_inspect")
_APPEND: Final = script("streams", "stream_append")

MakeError = Callable[[Sequence[bytes]], HelixError]
"""Makes the error of a closed stream; it is given the chunks that were not stored and that no write waits for."""


class Position(NamedTuple):
    """What an appender knows when the outcome of its batch is unknown.

    Attributes:
        last: the stream's last sequence, as far as it is known.
        assisted: the server is to assign the sequence of the batch.
        trim_below: the id below which an assisted batch trims, None for nothing.
        cause: the error that the append met; None for a refusal by Redis's id check, and after a reconnection.
        failing_for: seconds since the first of the failures in a row. failures: how many came before this one.
    """

    stream_id: str
    keys: StreamKeys
    terms: Terms
    last: int
    assisted: bool = False
    trim_below: bytes | None = None
    cause: HelixError | None = None
    failing_for: float = 0.0
    failures: int = 0


class Stored(NamedTuple):
    """The batch is in the stream, from sequence ``first`` on; it was not published yet.

    ``generation`` is that of the connection before the stream was read, here and in Resend: a reconnection since then
    is looked into again.
    """

    first: int
    generation: int


class Assigned(NamedTuple):
    """The server has stored the batch from sequence ``first`` on, and published it."""

    first: int


class Resend(NamedTuple):
    """The batch is not in the stream, whose last sequence is ``after``: send it again.

    ``lost`` are the first and last of the acknowledged sequences that the server does not have any more.
    """

    after: int
    generation: int
    lost: tuple[int, int] | None = None


class Closed(NamedTuple):
    """Nothing more can be written."""

    make_error: MakeError


class Unknown(NamedTuple):
    """The place of the batch is trimmed: whether it was stored cannot be known. The stream is at ``last``."""

    last: int
    lost: tuple[int, int] | None = None


class Unreachable(NamedTuple):
    """The server could not be asked, or refuses for now. ``doubtful``: an assisted append may have been stored."""

    error: HelixError
    doubtful: bool = False


Outcome: TypeAlias = Stored | Assigned | Resend | Closed | Unknown | Unreachable


class Inspection:
    """The reply of ``stream_inspect``."""

    __slots__ = ("chunk", "epoch", "fence", "generation", "oldest", "status", "stored", "term", "top", "writer")

    def __init__(self, reply: Sequence[bytes], generation: int) -> None:
        self.generation: int = generation
        self.status: str = reply[0].decode()
        self.term: int = int(reply[1])
        self.epoch: str = reply[2].decode()
        self.fence: int | None = int(reply[4]) if reply[4] else None
        self.top: int = int(reply[8] or 0)
        self.oldest: int = int(reply[9].split(b"-")[1])
        self.chunk: bytes = reply[10]
        self.writer: bytes = reply[11]
        # the last sequence that is there, where a reader marked what is missing after it
        self.stored: int = int(reply[12]) if reply[12] else self.top


class Recovery:
    """Finds out the outcome of batches, for all appenders of one manager."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def resolve(self, batch: Batch, position: Position) -> Outcome:
        """Find out what became of a batch; waits before it asks where the append has failed."""
        if position.cause is not None:
            if not self._worth_retrying(position.cause, position.failing_for):
                return Unreachable(position.cause)
            await asyncio.sleep(back_off(position.failures))
        try:
            return await (self._assist(batch, position) if position.assisted else self._look_up(batch, position))
        except HelixError as error:
            return Unreachable(error)

    def _worth_retrying(self, cause: HelixError, failing_for: float) -> bool:
        return is_transient(cause) and failing_for <= self._requests.retry_timeout

    async def _inspect(self, position: Position, entry: bytes) -> Inspection | Closed:
        keys = position.keys
        generation = self._requests.topology.generation(position.stream_id)
        reply = await self._requests.run(_INSPECT, position.stream_id, (keys.stream, keys.meta), (entry,))
        if not reply:
            return Closed(lambda unsent: StreamDeletedError(position.stream_id, unsent))
        return Inspection(reply, generation)

    async def _look_up(self, batch: Batch, position: Position) -> Outcome:
        """Look for the batch in the stream."""
        entry = b"%d-%d" % (position.terms.current, batch.first) if batch.sent else b""
        found = await self._inspect(position, entry)
        if isinstance(found, Closed):
            return found
        if batch.sent and found.writer == batch.nonce and found.chunk == batch.body:
            return Stored(batch.first, found.generation)
        closed = _closed(position, found)
        if closed is not None:
            return closed
        lost = (found.stored + 1, position.last) if found.stored < position.last else None
        if found.top > position.last and batch.doubtful and found.oldest > batch.first:
            return Unknown(found.top, lost)
        return Resend(max(found.top, position.last), found.generation, lost)

    async def _assist(self, batch: Batch, position: Position) -> Outcome:
        """Let the server assign the sequence of a batch that begins at ``first`` or later."""
        args: list[Any] = [
            position.terms.current, batch.count, batch.body, batch.nonce, batch.first - 1, position.trim_below or b"",
            self._requests.topology.publish, position.keys.channel, int(batch.doubtful),
        ]  # fmt: skip
        while True:
            try:
                reply = await self._append(position, args)
                found = None if reply else await self._inspect(position, b"")
            except HelixError as error:
                return Unreachable(error, doubtful=args[-1] == 1)
            if reply == b"unknown":
                return Unknown(position.last + batch.count)
            if found is None:
                return Assigned(int(reply))
            closed = found if isinstance(found, Closed) else _closed(position, found)
            if closed is not None:
                return closed
            await asyncio.sleep(0)

    async def _append(self, position: Position, args: list[Any]) -> Any:
        name, keys = position.stream_id, (position.keys.stream, position.keys.meta)
        try:
            return await self._requests.topology.call(name, _APPEND.frame(keys, args))
        except HelixError as error:
            if is_transient(error):
                args[-1] = 1  # it may have been stored: the script looks for the nonce first
            elif not (isinstance(error, StoreResponseError) and error.server_code == "NOSCRIPT"):
                raise
        return await self._requests.run(_APPEND, name, keys, args)


def _closed(position: Position, found: Inspection) -> Closed | None:
    """Why nothing more can be written, if so."""
    name, terms, status, epoch, fence = position.stream_id, position.terms, found.status, found.epoch, found.fence
    if status in {"ended", "failed"}:
        return Closed(lambda unsent: StreamClosedError(name, status, unsent))
    if epoch != terms.epoch:
        return Closed(lambda unsent: StreamResetError(epoch, unsent))
    if found.term != terms.current:
        token = terms.token
        if token is not None and fence is not None and token < fence:
            return Closed(lambda unsent: StaleFencingTokenError(token, fence, unsent))
        return Closed(lambda unsent: StreamFencedError(name, unsent))
    return None
