"""Sequence bookkeeping of appends, in plain Python: the twin of `compiled/append.pxi`, and the contract of both.

The compiled classes do the same in fewer steps; nothing is here that an appender does not do for each awaited chunk.
No I/O, no clock and no event loop: futures, lanes and topologies are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from .encode import Batch, ChunkEncoder
from .frame import AppendFramer
from .reader import StreamEntry
from .sequence import Sequencer
from .subscribers import RemoteSubscribers

if TYPE_CHECKING:
    from asyncio import Future

MAX_BATCH_BYTES: Final = 64 << 10


@final
class Outbox:
    """Requests that wait for the next write, and who gets their replies. Owned by one thread.

    Attributes:
        frames, slots: what was put in, in order; a slot is called with the reply, None drops it.
        size: bytes of the frames.
        requests: put in so far.
        scheduled: the next write is, so that nobody need be told of another frame.
    """

    __slots__ = ("frames", "requests", "scheduled", "size", "slots")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.slots: list[Any] = []
        self.size = 0
        self.requests = 0
        self.scheduled = False

    def add(self, frame: bytes, slot: Callable[[Any], None] | None) -> bool:
        """Put one in; whether a write must be scheduled."""
        if type(frame) is not bytes:
            raise TypeError(f"frame must be bytes, not {type(frame).__name__}")
        self.frames.append(frame)
        self.slots.append(slot)
        self.size += len(frame)
        self.requests += 1
        return not self.scheduled

    def clear(self) -> None:
        """Empty it."""
        self.frames.clear()
        self.slots.clear()
        self.size = 0


@final
class Write:
    """One awaited write: of ``count`` chunks, ``acked`` are stored; ``last`` is the sequence of the last of them.

    Attributes:
        owner: the writer that was called. original: what it was given: a repeated call is recognised by it.
        task: that called it, known once it has raised.
        fresh: its writer has not written anything else since it raised.
        lost: chunks that were taken back unsent after a failure.
    """

    __slots__ = ("acked", "count", "fresh", "future", "last", "lost", "original", "owner", "task")

    def __init__(self, original: object, count: int, future: Future[int], owner: object = None) -> None:
        self.owner = owner
        self.task: Any = None
        self.fresh = True
        self.original = original
        self.count = count
        self.future = future
        self.acked = 0
        self.last = 0
        self.lost = 0

    def settle(self, chunks: int, last: int) -> None:
        """``chunks`` more of it are stored, the last of them at ``last``."""
        self.acked += chunks
        self.last = last
        if self.acked == self.count and not self.future.done():
            self.future.set_result(last)

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


@final
class Sealed:
    """A batch whose bytes are fixed. One of a single awaited chunk names its write in ``only``, to save a list.

    Attributes:
        first: sequence of its first chunk, once it was sent.
        sent: whether it was ever sent. doubtful: whether the reply to an attempt was lost.
    """

    __slots__ = ("body", "count", "doubtful", "first", "nonce", "only", "sent", "several")

    def __init__(
        self,
        body: bytes,
        count: int,
        writes: list[tuple[Write, int, int]] | None,
        nonce: bytes,
        only: Write | None = None,
    ) -> None:
        self.body = body
        self.count = count
        self.only = only
        self.several = writes
        self.nonce = nonce
        self.first = 0
        self.sent = False
        self.doubtful = False

    @property
    def writes(self) -> list[tuple[Write, int, int]]:
        """(write, its chunks in the batch, end of them in the batch) of each awaited write."""
        if self.only is not None:
            return [(self.only, 1, 1)]
        return self.several or []

    @writes.setter
    def writes(self, writes: list[tuple[Write, int, int]]) -> None:
        self.only, self.several = None, writes

    def lines(self, *, awaited: bool) -> list[bytes]:
        """The chunks that were given to an awaited write, or those that were not."""
        mine: set[int] = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]


class StraightAppender:
    """The straight way of an awaited chunk: out as a batch of its own, acknowledged, published. The base of Appender.

    Whatever is not straight is left to the subclass: the methods that raise NotImplementedError here.

    Args:
        stream_id: names the stream.
        topology: sends; its ``lane_for(stream_id)``, where it has one, takes everything. Its ``presence`` knows the
            subscribers.
        framer: makes the requests.
        terms: ``number`` is the current term.
        last: the stream's last sequence.
        nonce: 4 characters that tell this appender's batches from others'.
        max_length: chunks that the stream keeps, 0 for all.
        max_count: chunks of a batch at most, and between two cuts.
        linger: seconds for which chunks are gathered; with any nothing is straight.
        make_future: makes what an awaited write waits for.
        call_soon: calls a function behind all that is about to run: the event loop's.
    """

    def __init__(
        self,
        stream_id: str,
        topology: Any,
        framer: AppendFramer,
        terms: Any,
        last: int,
        nonce: bytes,
        max_length: int,
        max_count: int,
        linger: float,
        make_future: Callable[[], Any],
        call_soon: Callable[..., Any],
    ) -> None:
        self.stream_id = stream_id
        self.topology = topology
        self.lane = topology.lane_for(stream_id)
        self.framer = framer
        self.terms = terms
        self.sequence = Sequencer(last)
        self.trimmed = self.trims = last
        self.nonce = nonce
        self.max_length = max_length
        self.max_count = max_count
        self.linger = linger
        self.make_future = make_future
        self.call_soon = call_soon
        self.batch = Batch()
        self.busy = False
        """A batch is under way, or a recovery is."""
        self.flight: Sealed | None = None
        """The batch whose fate is open."""
        self.dead: Callable[[Sequence[bytes]], Any] | None = None
        self.generation = 0
        self.given = 0
        self.settled = 0
        self.batches = 0
        self.assisted_batches = 0
        self.collisions = 0
        self.trouble_since: float | None = None
        self.in_trouble = False
        self.observed: Any = None
        self.queue: deque[Sealed] = None  # type: ignore[assignment]
        self.flushes: deque[tuple[int, Any]] = None  # type: ignore[assignment]
        self.raised: Any = None
        self.scheduled: Any = None
        self.subscribers = RemoteSubscribers(topology.presence, framer.channel)
        self.silent = False
        """A publication was skipped for lack of remote subscribers; a count has been requested."""

    def _post(self, frame: bytes, slot: Callable[[Any], None], *, follow: bool) -> None:
        if self.lane is None or self.lane.closed:
            self.topology.send(self.stream_id, frame, slot, follow=follow)
        elif self.lane.outbox.add(frame, slot):
            self.lane.wake()

    def next_nonce(self) -> bytes:
        """8 characters that no other batch has."""
        if len(self.nonce) != 4:
            raise ValueError("a nonce has 4 characters")
        self.batches += 1
        return self.nonce + b"%04x" % (self.batches & 0xFFFF)

    def send_text(self, encoder: ChunkEncoder, delta: str, seconds: float) -> None:
        """Add a ``text_delta`` that nobody waits for, of that time (Unix); the batch is sealed when it is full.

        Raises:
            TypeError, UnicodeEncodeError: ``delta`` is no text; nothing was added.
        """
        if self.batch.add_text(encoder, delta, int(seconds * 1000)) >= MAX_BATCH_BYTES or (
            self.batch.count >= self.max_count
        ):
            self.seal()
        if not self.busy and self.scheduled is None:
            self.schedule()

    def put(self, chunk: bytes, original: object, owner: object) -> Write:
        """Add one chunk; the future of what is returned has its sequence when it is stored. See StreamWriter.write.

        With nothing under way it leaves at once as a batch of its own: the way of a writer that awaits every chunk.
        """
        topology = self.topology
        if (
            self.busy
            or self.linger
            or self.flight is not None
            or self.batch.count
            or self.assisted_batches
            or self.dead is not None
            or self.queue
            or self.raised.writes
            or topology.observer is not None
            or self.generation != topology.generation(self.stream_id)
            or (self.max_length and self.sequence.last + 1 - self.trimmed >= self.max_count)
        ):
            return self.put_many((chunk,), original, owner)
        write = Write(original, 1, self.make_future(), owner)
        batch = Sealed(chunk, 1, None, self.next_nonce(), write)
        batch.first = first = self.sequence.reserve(1)
        batch.sent = True
        self.given += 1
        self.flight = batch
        self.busy = True
        try:
            self._post(self.framer.xadd(self.terms.number, first, 1, chunk, batch.nonce), self, follow=False)
        except Exception as error:  # noqa: BLE001  the connections are closed
            self.pause(error)
        return write

    def announce(self, first: int, last: int, body: bytes) -> bool:
        """Deliver a stored batch: to the readers in this process at once, to others by a publication.

        Returns:
            whether there are readers in this process.
        """
        remote, number = self.subscribers, self.terms.number
        channel = self.topology.presence.local.get(remote.channel)
        if channel is not None:
            channel.push_entry(StreamEntry(number, first, last, body))
        if remote.present:
            frame = self.framer.publish(number, first, last, body)
            remote.pending += 1
            self._post(frame, remote, follow=True)
        elif not self.silent:
            self.silent = True
            self.topology.presence.poll_later(self)
        return channel is not None

    def notify_catch_up(self) -> None:
        """Have the stream's subscribers read its log."""
        self.subscribers.pending += 1
        self._post(self.framer.catch_up_frame, self.subscribers, follow=True)

    def __call__(self, reply: Any) -> None:
        """The reply to the batch in flight."""
        batch = self.flight
        if batch is None:
            return  # closed meanwhile: its writers have been told
        write = batch.only
        if type(reply) is not bytes or write is None or self.flushes or self.observed is not None:
            self.replied(reply)
            return
        self.sequence.commit()
        self.collisions = 0
        self.flight = self.trouble_since = None
        self.busy = self.in_trouble = False
        self.trimmed = self.trims
        self.settled += 1
        here = False
        # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
        try:
            here = self.announce(batch.first, batch.first, batch.body)
        finally:
            # What listens here comes first, then the writer, which may take its time.
            if here:
                self.call_soon(write.settle, 1, batch.first)
            else:
                write.settle(1, batch.first)
        if self.queue or self.batch.count:
            self.pump()

    def put_many(self, chunks: Sequence[bytes], original: object, owner: object) -> Write:
        """Add chunks; the future of what is returned has the sequence of the last when all are stored."""
        raise NotImplementedError

    def replied(self, reply: Any) -> None:
        """The reply to a batch that is not of one awaited chunk, or that was refused."""
        raise NotImplementedError

    def seal(self) -> None:
        """Close the open batch."""
        raise NotImplementedError

    def schedule(self) -> None:
        """Have what waits sent on this turn of the event loop, or when it has lingered."""
        raise NotImplementedError

    def pause(self, error: Any) -> None:
        """The server cannot be reached."""
        raise NotImplementedError

    def pump(self) -> None:
        """Send what waits."""
        raise NotImplementedError
