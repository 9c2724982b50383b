"""Hot: the append path of one chunk, in plain Python. Outgoing requests, batches, publication.

It imports no I/O, but calls the lane and completes the futures that it gets. `compiled/append.pxi` does the same in
fewer steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from helix_fast.codec.states import State

from .arguments import require_bytes
from .encode import BatchBuilder, ChunkEncoder
from .frame import AppendFramer
from .reader import StreamEntry
from .sequence import Sequencer
from .subscribers import RemoteSubscribers

if TYPE_CHECKING:
    from asyncio import Future


MAX_BATCH_BYTES: Final = 64 << 10
MAX_SEQUENCE: Final = 2**64 - 1


@final
class Outbox:
    """Requests that wait for the next write, and the slots for their replies. Owned by one thread.

    Attributes:
        frames: the requests, in order, or their pieces. slots: one a request, called with the reply; None drops it.
        ready: appenders to be asked for their frames by the next write.
        size: bytes of the frames.
        requests: how many were ever added.
        scheduled: the next write is scheduled.
    """

    __slots__ = ("frames", "ready", "requests", "scheduled", "size", "slots")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.slots: list[Any] = []
        self.ready: list[Any] = []
        self.size: int = 0
        self.requests: int = 0
        self.scheduled: bool = False

    def add(self, frame: bytes | tuple[bytes, ...], slot: Callable[[Any], None] | None) -> bool:
        """Add one, whole or in pieces; whether a write must be scheduled."""
        pieces: tuple[bytes, ...] = frame if isinstance(frame, tuple) else (frame,)
        for piece in pieces:
            require_bytes(piece, "frame")
        self.frames += pieces
        self.size += sum(map(len, pieces))
        self.slots.append(slot)
        self.requests += 1
        return not self.scheduled

    def take_ready(self) -> list[Any]:
        """The appenders that are ready; they are not any more."""
        ready, self.ready = self.ready, []
        return ready

    def clear(self) -> None:
        """Drop the requests."""
        self.frames.clear()
        self.slots.clear()
        self.size = 0


@final
class Write:
    """One awaited write: of ``count`` chunks, ``acked`` are stored; ``last`` is the sequence of the last of them.

    Attributes:
        owner: the writer that was called. original: its argument, by which a retry is recognised.
        task: the caller's, known once the call has failed.
        fresh: its writer has not written anything else since the call failed.
        lost: chunks that were withdrawn unsent after a failure.
    """

    __slots__ = ("acked", "count", "fresh", "future", "last", "lost", "original", "owner", "task")

    def __init__(self, original: object, count: int, future: Future[int], owner: object = None) -> None:
        self.owner: object = owner
        self.task: Any = None
        self.fresh: bool = True
        self.original: object = original
        self.count: int = count
        self.future: Future[int] = future
        self.acked: int = 0
        self.last: int = 0
        self.lost: int = 0

    def acknowledge(self, chunks: int, last: int) -> None:
        """Count ``chunks`` more as stored, the last of them at ``last``; with all stored, the future gets it."""
        self.acked += chunks
        self.last = last
        if self.acked == self.count and not self.future.done():
            self.future.set_result(last)

    def fail(self, error: BaseException) -> None:
        """Fail the call, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


@final
class Batch:
    """A closed batch. One of a single awaited chunk has its write in ``only``, to save a list.

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
        self.body: bytes = body
        self.count: int = count
        self.only = only
        self.several = writes
        self.nonce: bytes = nonce
        self.first: int = 0
        self.sent: bool = False
        self.doubtful: bool = False

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
        """The chunks of awaited writes, or all others."""
        mine: set[int] = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]


class FastAppend:
    """Fast path of ``write()``: with nothing buffered, a chunk goes out as one XADD and is published when acknowledged.

    Batching, retries and recovery are in ``streams.appender.Appender``, which has the methods that are abstract here.

    Args:
        stream_id: names the stream.
        topology: sends; its ``lane_for(stream_id)``, if there is one, takes everything. Its ``presence`` knows the
            subscribers.
        framer: makes the requests.
        terms: ``current`` is the number of the current term.
        buffer: a ``streams.write_buffer.WriteBuffer``.
        nonce: 4 characters that no other appender has; the nonces of its batches begin with them.
        max_length: chunks that the stream keeps, 0 for all.
        linger: seconds for which chunks are gathered; with any the fast path is not taken.
        make_future: makes the future of an awaited write.
        call_soon: the event loop's.
        loop_closed: whether the event loop is closed.

    Attributes:
        state: a ``codec.states.State``.
        single: the batch in flight, as long as only the fast path knows it; see ``buffer``.
        generation: of the connection for which the end of the stream is known.
        assisted_batches: so many batches are still to get their sequences from the server.
        failed: a ``FailedWrites``. trouble: of the batch in flight; None: all is well.
        observed: the span of the last batch, if there is an observer.
        numbered: counts nonces.
        trimmed: the last sequence when the stream was last trimmed. trims: the same once the batch in flight is stored.
        silent: a publication was skipped for lack of remote subscribers, and a count of them requested.
    """

    def __init__(
        self,
        stream_id: str,
        topology: Any,
        framer: AppendFramer,
        terms: Any,
        buffer: Any,
        nonce: bytes,
        max_length: int,
        linger: float,
        make_future: Callable[[], Any],
        call_soon: Callable[..., Any],
        loop_closed: Callable[[], bool],
    ) -> None:
        self.stream_id = stream_id
        self.topology = topology
        self.lane: Any = topology.lane_for(stream_id)
        self.framer = framer
        self.terms = terms
        self._buffer = buffer
        self.single: Batch | None = None
        self.sequence: Sequencer = buffer.sequence
        self.open: BatchBuilder = buffer.open
        self.batches: deque[Batch] = buffer.batches
        self.flushes: deque[Any] = buffer.flushes
        self.max_count: int = buffer.max_count
        self.trimmed: int = self.sequence.last
        self.trims: int = self.sequence.last
        self.nonce = nonce
        self.max_length = max_length
        self.linger = linger
        self.make_future = make_future
        self.call_soon = call_soon
        self.loop_closed = loop_closed
        self.state: int = State.IDLE
        self.generation = 0
        self.assisted_batches = 0
        self.failed: Any = None
        self.trouble: Any = None
        self.observed: Any = None
        self.numbered: int = 0
        self.subscribers: RemoteSubscribers = RemoteSubscribers(topology.presence, framer.channel)
        self.silent: bool = False

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self.state == State.CLOSED

    @property
    def buffer(self) -> Any:
        """The write buffer, which has the batch in flight from now on."""
        # The fast path keeps its batch here until the buffer is needed: with many streams each object is a cache miss.
        if self.single is not None:
            self._buffer.in_flight, self.single = self.single, None
        return self._buffer

    def _post(self, frame: bytes | tuple[bytes, ...], slot: Callable[[Any], None], *, follow: bool) -> None:
        if self.lane is None or self.lane.closed:
            self.topology.send(self.stream_id, frame, slot, follow=follow)
        elif self.lane.outbox.add(frame, slot):
            self.lane.wake()

    def next_nonce(self) -> bytes:
        """8 characters that no other batch has."""
        if len(self.nonce) != 4:
            raise ValueError("a nonce has 4 characters")
        self.numbered += 1
        return self.nonce + b"%04x" % (self.numbered & 0xFFFF)

    def transmit(self, frame: bytes | tuple[bytes, ...]) -> None:
        """Send the request of the batch in flight; ``__call__`` gets the reply."""
        # An append does not follow its slot to another node, which may know less: Recovery inspects the stream first.
        self._post(frame, self, follow=False)

    def enlist(self, delay: float) -> None:
        """Have the next batch sent on this turn of the event loop, or ``delay`` seconds from now."""
        self.state = State.READY
        # An observer wants the context of the task that sends: the lane's is another.
        if delay or self.lane is None or self.lane.closed or self.topology.observer is not None:
            self.schedule(delay)
            return
        outbox = self.lane.outbox
        outbox.ready.append(self)
        if not outbox.scheduled:
            self.lane.wake()

    def advance(self) -> None:
        """Nothing is in flight any more: go on with the next batch, if there is one."""
        if self.batches or self.open.count:
            self.enlist(0.0)
        else:
            self.state = State.IDLE

    def send_text(self, encoder: ChunkEncoder, delta: str, seconds: float) -> None:
        """Add a ``text_delta`` that is not awaited, of that time (Unix, seconds). Raises as ``encode_text``."""
        if not self.open.count or self.loop_closed():
            self.check_loop()  # once a batch: it costs as much as adding a chunk
        if self.state == State.CLOSED:
            self.check_open()
        if self.open.add_text(encoder, delta, int(seconds * 1000)) >= MAX_BATCH_BYTES or (
            self.open.count >= self.max_count
        ):
            self._buffer.close_batch()
        if self.state < State.READY:
            self.enlist(self.linger)

    def put(self, chunk: bytes, original: object, owner: object) -> Write:
        """Add one chunk; returns its Write, whose future gets the sequence once the chunk is stored."""
        topology = self.topology
        if (
            self.state != State.IDLE
            or self.linger
            or self.assisted_batches
            or self.failed.writes
            or topology.observer is not None
            or self.sequence.last == MAX_SEQUENCE
            or self.generation != topology.generation(self.stream_id)
            or (self.max_length and self.sequence.last + 1 - self.trimmed >= self.max_count)
        ):
            return self.put_many((chunk,), original, owner)
        write = Write(original, 1, self.make_future(), owner)
        batch = Batch(chunk, 1, None, self.next_nonce(), write)
        batch.first = first = self.sequence.reserve(1)
        batch.sent = True
        self.single = batch
        self.state = State.IN_FLIGHT
        try:
            self.transmit(self.framer.xadd(self.terms.current, first, 1, chunk, batch.nonce))
        except Exception as error:  # noqa: BLE001  the connections are closed
            self.suspend(error)
        return write

    def announce(self, first: int, last: int, body: bytes) -> bool:
        """Hand a stored batch to local subscribers and publish it for remote ones; whether there are local ones."""
        remote, number = self.subscribers, self.terms.current
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
        if self.state != State.IN_FLIGHT:
            return  # closed meanwhile: its writes have failed
        batch = self.single or self._buffer.in_flight
        write = batch.only
        if type(reply) is not bytes or write is None or self.flushes or self.observed is not None:
            self.replied(reply)
            return
        self.sequence.commit()
        self.trouble = None
        self.trimmed = self.trims
        if self.single is None:
            self._buffer.in_flight = None
        self.single = None
        here = False
        # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
        try:
            here = self.announce(batch.first, batch.first, batch.body)
        finally:
            # Readers in this process run before the writer, which may take its time.
            if here:
                self.call_soon(write.acknowledge, 1, batch.first)
            else:
                write.acknowledge(1, batch.first)
            self.advance()

    def check_loop(self) -> None:
        """Raise where the running event loop is not the appender's."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Raise what closed the appender."""
        raise NotImplementedError

    def put_many(self, chunks: Sequence[bytes], original: object, owner: object) -> Write:
        """Add chunks; the future of what is returned has the sequence of the last when all are stored."""
        raise NotImplementedError

    def replied(self, reply: Any) -> None:
        """The reply to a batch that is not of one awaited chunk, or that was refused."""
        raise NotImplementedError

    def schedule(self, delay: float) -> None:
        """Have the next batch sent on this turn of the event loop, or ``delay`` seconds from now."""
        raise NotImplementedError

    def suspend(self, error: Any) -> None:
        """The server cannot be reached."""
        raise NotImplementedError
