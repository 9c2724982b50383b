"""What became of a batch, and of a stream: after a refusal, a lost reply or a reconnection, the stream itself is asked.

Recovery changes nothing in an appender: it answers with an outcome, which the appender applies.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from helix_fast.codec import Batch
from helix_fast.errors import (
    HelixError,
    MalformedStreamError,
    StaleFencingTokenError,
    StoreClosedError,
    StoreResponseError,
    StreamClosedError,
    StreamDeletedError,
    StreamFencedError,
    StreamResetError,
)
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.lane import settle
from helix_fast.transport.retry import back_off, is_transient

from .entries import check_current, check_foreign, reading_meta, stored_fence, typed
from .sealed import sealed_entry
from .terms import Terms, new_tag

_REJOIN: Final = script("streams", "stream_rejoin")
_APPEND: Final = script("streams", "stream_append")
# arguments of it that change from call to call
_NUMBER: Final = 0
_REPEATED: Final = 8
_TAG: Final = 9

MakeError = Callable[[Sequence[bytes]], HelixError]
"""Makes the error of a closed stream; it is given the chunks that were not stored and that no write waits for."""


class Position(NamedTuple):
    """What an appender knows of its stream.

    Attributes:
        generation: of the connection on which it learned that.
        fence: the fencing token that the stream had then, as decimal text; empty: none.
        history: the server's history then, empty where it is not known.
        last: the stream's last sequence, as far as it is known.
        assisted: the server is to assign the sequence of the batch.
        trim_below: the id below which an assisted batch trims, None for nothing.
        cause: the error that the append met; None for a refusal by Redis's id check, and after a reconnection.
        failing_for: seconds since the first of the failures in a row. failures: how many came before this one.
    """

    stream_id: str
    keys: StreamKeys
    terms: Terms
    generation: int
    fence: bytes
    history: bytes
    last: int
    assisted: bool = False
    trim_below: bytes | None = None
    cause: HelixError | None = None
    failing_for: float = 0.0
    failures: int = 0


class Gone(NamedTuple):
    """There is no such stream. ``lost``: the server's history is another one than that in which it was."""

    lost: bool


class Rejoined:
    """What the stream is now: the reply of ``stream_rejoin``.

    Attributes:
        generation: of the connection before the stream was read: a later reconnection is looked into again.
        terms, fence, history, status: the stream's. last: its last sequence.
        oldest: sequence in the id of the first entry that is kept.
        chunk, writer: of the batch that was asked for; empty: there is no such one.
    """

    __slots__ = ("chunk", "fence", "generation", "history", "last", "oldest", "status", "terms", "writer")

    def __init__(self, reply: Sequence[Any], generation: int, token: int | None, first: int) -> None:
        self.generation: int = generation
        self.status: str = reply[0].decode()
        self.terms: Terms = Terms(reply[3].decode(), reply[2].decode(), token)
        check_current(self.terms, reply[1])
        self.fence: bytes = reply[4]
        self.last: int = int(reply[7] or 0)
        self.oldest: int = int(reply[8].split(b"-")[1])
        self.chunk: bytes = reply[9]
        self.writer: bytes = reply[10]
        self.history: bytes = reply[11]
        sealed = sealed_entry(reply[12]) if reply[12] else None
        if sealed is not None:
            self.chunk, self.writer = sealed.batch(first)


class Closed(NamedTuple):
    """Nothing more can be written."""

    make_error: MakeError


class Stored(NamedTuple):
    """The batch is in the stream, from sequence ``first`` on; it was not published yet.

    Attributes:
        closed: why nothing more can be written, if so: behind the batch the stream ended, or was taken over.
    """

    first: int
    closed: Closed | None


class Assigned(NamedTuple):
    """The server has stored the batch from sequence ``first`` on, in the term of that number, and published it."""

    number: int
    first: int


class Resend(NamedTuple):
    """The batch is not in the stream: send it again, behind the stream's last sequence."""


class Unknown(NamedTuple):
    """The place of the batch is trimmed: whether it was stored cannot be known."""


class Unreachable(NamedTuple):
    """The server could not be asked, or refuses for now. ``doubtful``: an assisted append may have been stored."""

    error: HelixError
    doubtful: bool = False


Outcome: TypeAlias = Stored | Assigned | Resend | Closed | Unknown | Unreachable
Found: TypeAlias = Rejoined | Gone | None
"""What a look at the stream has found; None: nobody looked."""


class Recovery:
    """Finds out the outcome of batches, and what became of a stream, for all appenders of one manager."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def resolve(self, batch: Batch, position: Position) -> tuple[Outcome, Found]:
        """Find out what became of a batch; waits before it asks where the append has failed."""
        if position.cause is not None:
            if not self._worth_retrying(position.cause, position.failing_for):
                return Unreachable(position.cause), None
            await asyncio.sleep(back_off(position.failures))
        try:
            if position.assisted and position.generation == self._requests.topology.generation(position.stream_id):
                return await self._assist(batch, position, None)
            return await self._look_up(batch, position)
        except HelixError as error:
            return Unreachable(error), None

    def _worth_retrying(self, cause: HelixError, failing_for: float) -> bool:
        return is_transient(cause) and failing_for <= self._requests.retry_timeout

    async def rejoin(self, position: Position, entry: bytes = b"") -> Rejoined | Gone:
        """Find out what the stream is now; begins a term where its history, or the caller's, is another one.

        Args:
            entry: id of the batch in question.
        """
        keys, terms, topology = position.keys, position.terms, self._requests.topology
        publish = await self._requests.publish_command()
        token = b"" if terms.token is None else b"%d" % terms.token
        while True:
            generation = topology.generation(position.stream_id)
            moved = generation != position.generation
            arguments = (
                *terms.key, position.last, token, position.fence, entry, new_tag(), int(moved),
                publish, keys.channel, terms.epoch,
            )  # fmt: skip
            try:
                reply = await self._requests.run(
                    _REJOIN, position.stream_id, (keys.stream, keys.meta, keys.lease), arguments
                )
            except StoreResponseError as error:
                check_foreign(keys.stream, error)
                raise
            if moved or generation == topology.generation(position.stream_id):
                break  # else the way broke meanwhile, and what answered may be another server
        if reply[0] == b"none":
            return Gone(bool(reply[1] and position.history) and reply[1] != position.history)
        with reading_meta(keys.meta):
            found = Rejoined(reply, generation, terms.token, int(entry.partition(b"-")[2] or 0))
        stored_fence(keys.meta, found.fence)
        return found

    async def _look_up(self, batch: Batch, position: Position) -> tuple[Outcome, Found]:
        """Look for the batch in the stream."""
        searched = position.assisted and batch.sent  # its sequence is not known: the server finds it by its nonce
        entry = b"%d-%d" % (position.terms.current, batch.first) if batch.sent and not searched else b""
        found = await self.rejoin(position, entry)
        closed = why_closed(position, found)
        if isinstance(found, Rejoined) and entry and found.writer == batch.nonce and found.chunk == batch.body:
            return Stored(batch.first, closed), found
        if closed is not None:
            return closed, found
        assert isinstance(found, Rejoined)
        if searched:
            return await self._assist(batch, position, found)
        if found.last > position.last and batch.doubtful and found.oldest > batch.first:
            return Unknown(), found
        return Resend(), found

    async def _assist(self, batch: Batch, position: Position, found: Found) -> tuple[Outcome, Found]:
        """Let the server assign the sequence of a batch that begins at ``first`` or later."""
        terms = found.terms if isinstance(found, Rejoined) else position.terms
        args: list[Any] = [
            terms.key.number, batch.count, batch.body, batch.nonce, b"%d-%d" % (position.terms.current, batch.first),
            position.trim_below or b"", self._requests.topology.publish, position.keys.channel, int(batch.doubtful),
            terms.key.tag,
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        failures, give_up = 0, loop.time() + self._requests.retry_timeout
        while True:
            known = found.generation if isinstance(found, Rejoined) else position.generation
            try:
                same = known == self._requests.topology.generation(position.stream_id)
                reply = await self._append(position, args) if same else None
            except HelixError as error:
                # Where the reply was lost, the script looks for the nonce first.
                lost = not isinstance(error, (StoreResponseError, MalformedStreamError))
                args[_REPEATED] = int(lost or args[_REPEATED])
                if not is_transient(error) or loop.time() >= give_up:
                    return Unreachable(error, doubtful=args[_REPEATED] == 1), found
                await asyncio.sleep(back_off(failures))
                failures += 1
                reply = None
            if reply == b"unknown":
                return Unknown(), found
            if reply:
                number, _, first = reply.partition(b"-")
                return Assigned(int(number), int(first)), found
            try:
                found = await self.rejoin(position._replace(generation=known))
            except HelixError as error:
                return Unreachable(error, doubtful=args[_REPEATED] == 1), found
            closed = why_closed(position, found)
            if closed is not None:
                return closed, found
            assert isinstance(found, Rejoined)
            args[_NUMBER], args[_TAG] = found.terms.key
            await asyncio.sleep(0)

    async def _append(self, position: Position, args: list[Any]) -> Any:
        """Run ``stream_append`` once: another server, where the slot moves or a retry arrives, may know less."""
        name, keys, topology = position.stream_id, (position.keys.stream, position.keys.meta), self._requests.topology
        for by_text in (False, True):
            if self._requests.closed:
                raise StoreClosedError("the store is closed")
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            frame = _APPEND.frame(keys, args, by_text=by_text)
            topology.send(name, frame, partial(settle, future), follow=False)
            reply = await future
            if not isinstance(reply, HelixError):
                return reply
            if by_text or not isinstance(reply, StoreResponseError) or reply.server_code != "NOSCRIPT":
                raise typed(position.keys.stream, reply)
        raise AssertionError


def why_closed(position: Position, found: Rejoined | Gone) -> Closed | None:
    """Why nothing more can be written, if so."""
    name, terms = position.stream_id, position.terms
    if isinstance(found, Gone):
        return Closed(lambda unsent: StreamDeletedError(name, unsent))
    status, epoch, token = found.status, found.terms.epoch, terms.token
    fence, seen = int(found.fence or -1), int(position.fence or -1)
    if status in {"ended", "failed"}:
        return Closed(lambda unsent: StreamClosedError(name, status, unsent))
    if epoch != terms.epoch:
        return Closed(lambda unsent: StreamResetError(epoch, unsent))
    if token is not None and token < fence:
        return Closed(lambda unsent: StaleFencingTokenError(token, fence, unsent))
    if token is None and seen < fence:
        return Closed(lambda unsent: StreamFencedError(name, unsent))
    return None
