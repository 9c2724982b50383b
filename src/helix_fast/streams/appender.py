"""The appender of one stream. One file: its states and every change of them are read together.

All writers of a process share it, and one batch is in flight.

Redis's own id check orders the batches ("How a chunk is written" in docs/architecture.md). After any trouble the batch
in flight keeps its id, nonce and bytes until its outcome is known. Nothing is guessed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from helix_fast import codec
from helix_fast.codec import Batch, Write
from helix_fast.codec.states import State
from helix_fast.errors import (
    AcknowledgedDataLostError,
    HelixError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StreamClosedError,
    WriteOutcomeUnknownError,
)
from helix_fast.flag import Flag
from helix_fast.keys import StreamKeys
from helix_fast.transport.binding import cancel
from helix_fast.transport.lane import LONG_PIECE, Frame
from helix_fast.transport.observer import Span
from helix_fast.transport.topology import Topology

from .acknowledged import Acknowledged
from .failed_writes import FailedWrites
from .recovery import (
    Assigned,
    Closed,
    Found,
    Gone,
    MakeError,
    Outcome,
    Position,
    Recovery,
    Rejoined,
    Resend,
    Stored,
    Unknown,
    why_closed,
)
from .terms import TermKey, Terms
from .write_buffer import WriteBuffer

REFUSED: Final = "ERR The ID specified in XADD"
RETRY_SECONDS: Final = 1.0
"""Back-off of a suspended appender that has chunks which no write or flush waits for."""
# After so many refusals in a row another process is writing as busily as we are: the server assigns the sequences of
# the next batches. Chosen so that two writers that meet now and then never leave the fast path.
COLLISIONS: Final = 3
ASSISTED_BATCHES: Final = 64


class Trouble:
    """Failures in a row; the next stored batch ends them.

    Attributes:
        collisions: refusals by Redis's id check.
        since: when the first of the failures was, on the event loop's clock; None: none since the last suspension.
        failures: attempts that failed since then.
        reported: that unawaited chunks are stuck was reported.
    """

    __slots__ = ("collisions", "failures", "reported", "since")

    def __init__(self) -> None:
        self.collisions: int = 0
        self.since: float | None = None
        self.failures: int = 0
        self.reported: bool = False


class Appender(codec.FastAppend):
    """Batches, retries and recovery of one stream; ``codec.FastAppend`` is its fast path. Used from one event loop.

    ``state`` (see ``State``) says what it is doing. It is changed here and in the base class alone.

    Args:
        stream_id: names the stream; also the tag by which its server is found.
        topology: the servers.
        keys: the stream's key and channel names.
        terms, last, fence, history: the stream's terms, last sequence, fencing token and the server's history when it
            was opened.
        generation: of the connection before that.
        nonce: 4 characters that tell this appender's batches from others'; a batch's number makes them 8.
        max_length: chunks that the stream keeps, 0 for all.
        linger: seconds for which chunks are gathered.
        recovery: finds out the outcome of a batch.
        report: takes errors that no call can raise.
    """

    terms: Terms
    failed: FailedWrites
    trouble: Trouble | None
    state: State
    numbered: int
    generation: int
    assisted_batches: int
    trimmed: int
    observed: Span | None

    def __init__(
        self,
        stream_id: str,
        topology: Topology,
        keys: StreamKeys,
        terms: Terms,
        last: int,
        fence: bytes,
        history: bytes,
        *,
        generation: int,
        nonce: bytes,
        max_length: int,
        linger: float,
        recovery: Recovery,
        report: Callable[[HelixError], None],
    ) -> None:
        # Kept, since asking for the running loop asks the kernel for the process's id on Python before 3.12.
        self._loop = asyncio.get_running_loop()
        framer = codec.AppendFramer(keys.stream, keys.channel, topology.publish)
        super().__init__(
            stream_id, topology, framer, terms, WriteBuffer(last, max_length), nonce, max_length, linger,
            self._loop.create_future, self._loop.call_soon, self._loop.is_closed,
        )  # fmt: skip
        self.numbered = secrets.randbelow(1 << 24)
        self.failed = FailedWrites()
        self.generation = generation
        self.writers = 0
        self.lease_ms = 0
        self.stop_requested: Flag = Flag()
        self.stop_reason: str | None = None
        self.keys = keys
        self._recovery = recovery
        self._report = report
        self.fence: bytes = fence
        self._history = history
        self._acknowledged = Acknowledged()  # but for those from here to the last sequence, all of the current term
        self._run_first = last + 1
        self._make_error: MakeError | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._unraised: HelixError | None = None
        self._checked: asyncio.Future[None] | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        size: int = self.buffer.size
        return size

    def stop(self, reason: str) -> None:
        """The stream's writers are asked to stop."""
        if not self.stop_requested.is_set():
            self.stop_reason = reason or None
            self.stop_requested.set()

    # chunks in

    @property
    def alive(self) -> bool:
        """Whether it can still write: nothing has ended it, and its event loop is open."""
        return not self.closed and not self._loop.is_closed()

    def check_loop(self) -> None:
        """Raise where the running event loop is not the appender's."""
        self.topology.binding.check_part(self._loop, "writer")

    def check_open(self) -> None:
        """Raise what closed this appender, if something did."""
        if self._make_error is not None:
            raise self._make_error(())

    def send(self, chunk: bytes) -> None:
        """Add a chunk that nobody waits for."""
        self.buffer.add(chunk)
        self._added()

    def _added(self) -> None:
        if self.state < State.READY:
            self.enlist(self.linger)

    def put_many(self, chunks: Sequence[bytes], original: object, owner: object) -> Write:
        """Add chunks; see the base class."""
        self.check_open()
        write = Write(original, len(chunks), self.make_future(), owner)
        if self.failed.writes:
            write.task = asyncio.current_task()
            chunks = self._not_stored(write, chunks)
            if not chunks:
                self._send_now()
                return write
        self.buffer.add_awaited(write, chunks)
        self._added()
        return write

    def _not_stored(self, write: Write, chunks: Sequence[bytes]) -> Sequence[bytes]:
        """The chunks still to be added; of a retried write, those that were withdrawn. It takes over the others."""
        before = self.failed.take(write)
        if before is None:
            return chunks
        write.acknowledge(before.acked, before.last)
        if write.future.done():
            return ()
        self.buffer.replace(before, write)
        return chunks[write.count - before.lost :] if before.lost else ()

    async def flush(self) -> None:
        """Wait until all that was added is stored, or raise why it cannot be."""
        if self._unraised is not None:
            error, self._unraised = self._unraised, None
            raise error
        if self.buffer.empty and not self.buffer.discarded:
            return
        self.check_open()
        future: asyncio.Future[None] = self._loop.create_future()
        self.buffer.add_flush(future)
        self._send_now()
        await future

    # batches out

    def schedule(self, delay: float) -> None:
        """Call ``push`` on this turn of the event loop, or after ``delay`` seconds; see the base class."""
        if delay:
            self._lingering = self._loop.call_later(delay, self.push)
        else:
            self._loop.call_soon(self.push)

    def push(self) -> None:
        """Send the next batch, if one is due."""
        self._lingering = None
        frame = self.next_frame()
        if frame is not None:
            self._send(frame)

    def _send_now(self) -> None:
        """Linger no more, and go on where the appender was suspended."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
            self.enlist(0.0)
        elif self.state < State.READY and not self.buffer.empty:
            self.enlist(0.0)

    def next_frame(self) -> Frame | None:
        """The request of the next batch, which is in flight from then on. None: there is none, or none now."""
        if self.state != State.READY:
            return None
        try:
            return self._next_frame()
        except Exception as error:  # noqa: BLE001  an observer's, say: the stream must not stand still for ever
            trouble = HelixError(f"no request was made of stream {self.stream_id!r}: {error!r}")
            trouble.__cause__ = error
            batch = self.buffer.in_flight
            self.suspend(trouble, refused=batch is not None and not batch.sent)
            return None

    def _next_frame(self) -> Frame | None:
        batch = self.buffer.next_batch()
        if batch is None:
            self.state = State.IDLE
            return None
        batch.nonce = batch.nonce or self.next_nonce()
        observer = self.topology.observer
        if observer is not None and not batch.sent:
            self.observed = observer.batch(self.stream_id, batch.count, len(batch.body), self.observed)
        # After an earlier attempt or a reconnection: look before sending.
        if batch.sent or self.assisted_batches or self.generation != self.topology.generation(self.stream_id):
            self._recover(None)
            return None
        return self._frame(batch)

    def _frame(self, batch: Batch) -> Frame | None:
        try:
            batch.first = first = self.sequence.reserve(batch.count)
            below = self._trim_below(first + batch.count - 1)
            make = self.framer.xadd if len(batch.body) < LONG_PIECE else self.framer.xadd_pieces
            frame: Frame = make(self.terms.current, first, batch.count, batch.body, batch.nonce, below)
        except (ValueError, OverflowError) as error:
            self.sequence.rollback()
            self.suspend(HelixError(f"no request can be made of stream {self.stream_id!r}: {error}"))
            return None
        batch.sent = True
        self.state = State.IN_FLIGHT
        return frame

    def _send(self, frame: Frame) -> None:
        try:
            self.transmit(frame)
        except HelixError as error:  # the connections are closed
            self.suspend(error)

    def _trim_below(self, last: int) -> bytes | None:
        """The id below which a batch that ends at ``last`` may trim, or None where it need not.

        Trimming is exact, and done once in a while: an entry is marked deleted in its node, which costs little, while
        every MINID walks over the ones marked before.
        """
        if not self.max_length or last - self.trimmed < self.max_count:
            return None
        self.trims = last  # counts once the batch is stored: one that is refused trims nothing
        cut = last - self.max_length - self.max_count + 2
        return self.terms.id_at(cut) if cut > 1 else None

    # replies

    def replied(self, reply: Any) -> None:
        """The reply to a batch of several chunks, or a refusal."""
        if type(reply) is bytes:
            self.sequence.commit()
            self._stored(publish=True)
        else:
            self._recover(reply)

    def _stored(self, *, publish: bool) -> None:
        """The batch in flight is in the stream."""
        batch = self.buffer.in_flight
        assert batch is not None
        self.trouble = None
        self.trimmed = self.trims
        if self.observed is not None:
            self.observed.done()
            if self.topology.observer is None:
                self.observed = None  # else the fast path of replies stays off, and the last span in memory
        try:
            if publish:
                # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
                self.announce(batch.first, batch.first + batch.count - 1, batch.body)
        finally:
            self.buffer.acknowledge()
            self.advance()

    def _recover(self, reply: object) -> None:
        """Find out the outcome of the batch in flight; ``reply`` is its error, None after a reconnection."""
        batch, now = self.buffer.in_flight, self._loop.time()
        assert batch is not None
        self.state = State.RECOVERING
        self.subscribers.assume_present()  # after a failover there may be others, that no count has told of
        trouble = self.trouble = self.trouble or Trouble()
        refused = isinstance(reply, StoreResponseError) and str(reply).startswith(REFUSED)
        cause = reply if isinstance(reply, HelixError) and not refused else None
        if refused:
            trouble.collisions += 1
        elif isinstance(reply, StoreConnectionError):
            batch.doubtful = True
        if cause is not None and trouble.since is None:
            trouble.since, trouble.failures = now, 0
        if not self.assisted_batches and trouble.collisions >= COLLISIONS:
            self.assisted_batches, trouble.collisions = ASSISTED_BATCHES, 0
        below = None
        if self.assisted_batches:
            if not batch.sent:
                batch.first, batch.sent = self.sequence.last + 1, True
            below = self._trim_below(self.sequence.last + batch.count)
        position = self.position()._replace(
            assisted=self.assisted_batches > 0, trim_below=below,
            cause=cause, failing_for=now - (trouble.since or now), failures=trouble.failures,
        )  # fmt: skip
        trouble.failures += cause is not None
        self._recovering = self._loop.create_task(self._resolve(batch, position), name=f"recover {self.stream_id}")

    def position(self) -> Position:
        """What it knows of its stream."""
        return Position(
            self.stream_id, self.keys, self.terms, self.generation, self.fence, self._history, self.sequence.last
        )

    async def _resolve(self, batch: Batch, position: Position) -> None:
        try:
            outcome, found = await self._recovery.resolve(batch, position)
            if self.state == State.RECOVERING:
                self._apply(batch, outcome, found)
        except Exception as error:  # noqa: BLE001
            # A bug here must not leave the writers waiting for ever.
            trouble = HelixError(f"recovery of stream {self.stream_id!r} failed: {error!r}")
            trouble.__cause__ = error
            self.suspend(trouble)

    def _apply(self, batch: Batch, outcome: Outcome, found: Found) -> None:
        """Go on with the batch in flight, whose outcome is known now."""
        self._find_lost(found)
        if isinstance(outcome, Stored):
            # Published in the term in which it was sent, before another one is joined.
            self._confirm_stored(batch, self.terms.key, outcome.first, publish=True)
            if outcome.closed is not None:
                self.fail_permanently(outcome.closed.make_error)  # joined, it would write into another holder's term
                return
            self._join(found)
        elif isinstance(outcome, Assigned):
            self._join(found)
            self.assisted_batches -= 1
            key = self.terms.key_of(outcome.number)
            self._confirm_stored(batch, key if key.number else self.terms.key, outcome.first, publish=False)
        elif isinstance(outcome, Resend):
            self._join(found)
            if self.generation != self.topology.generation(self.stream_id):
                self._recover(None)  # the way broke after the look
                return
            frame = self._frame(batch)
            if frame is not None:
                self._send(frame)
        elif isinstance(outcome, Unknown):
            self._join(found)
            self.sequence.rollback()
            self._give_up_batch(batch)
        elif isinstance(outcome, Closed):
            self.fail_permanently(outcome.make_error)
        else:
            self._join(found)
            batch.doubtful = batch.doubtful or outcome.doubtful
            refused = isinstance(outcome.error, StoreResponseError) and not batch.doubtful
            if refused:
                self.sequence.rollback()
            self.suspend(outcome.error, refused=refused)

    def _find_lost(self, found: Found) -> None:
        """Report what was acknowledged here and is not in the log any more, once."""
        if isinstance(found, Gone):
            self._close_run()
            self._report_lost(self._acknowledged.take_all() if found.lost else [])
        elif found is not None:
            self._compare(found.terms, found.last, found.history)

    def _compare(self, terms: Terms, last: int, history: bytes) -> None:
        """Report what was acknowledged here and is not in a log of these terms that ends at ``last``.

        Another epoch without a loss is that of a reset, which goes on behind our last sequence, or of a stream that was
        deleted and made again, in the same history of the server.
        """
        self._close_run()
        if terms.epoch == self.terms.epoch:
            self._report_lost(self._acknowledged.take_lost(terms, last))
            return
        forked = bool(history and self._history) and history != self._history
        ranges = self._acknowledged.take_all()  # the new epoch has none of them, and is compared from here on
        # Begun on a branch that is lost; or the server came back without the stream, and another writer began it anew.
        if terms.oldest < self.terms.current or (forked and terms.first <= self.sequence.last):
            self._report_lost(ranges)

    def _report_lost(self, ranges: list[tuple[int, int]]) -> None:
        for first, last in ranges:
            self._report(AcknowledgedDataLostError(self.stream_id, first, last))

    def _close_run(self) -> None:
        self._acknowledged.add(self.terms.key, self._run_first, self.sequence.last)
        self._run_first = self.sequence.last + 1

    def adopt(self, before: Appender) -> None:
        """Take over what an earlier appender of the stream had acknowledged; report what of it is lost."""
        before._compare(self.terms, self.sequence.last, self._history)
        self.merge(before)

    def merge(self, before: Appender) -> None:
        """Take over what an earlier appender of the stream had acknowledged, unless a reset has deleted it."""
        before._close_run()
        if before.terms.epoch == self.terms.epoch:
            self._acknowledged.merge(before._acknowledged)

    async def look(self) -> None:
        """Look for what was acknowledged here, also after it was closed. Raises where the server cannot be asked."""
        found = await self._recovery.rejoin(self.position())
        self._find_lost(found)
        self._join(found)

    def _join(self, found: Found) -> None:
        """Go on in the term that the stream has now, behind its last sequence."""
        if isinstance(found, Rejoined):
            self.generation, self.fence = found.generation, found.fence
            self._history = found.history or self._history
            self._overtaken(found.last)
            self.terms: Terms = found.terms

    def _overtaken(self, last: int) -> None:
        """The batch in flight is not in the stream, which another writer may have brought to ``last``."""
        self._close_run()
        self.sequence.rollback()
        self.sequence.jump(max(last, self.sequence.last))
        self._run_first = self.sequence.last + 1

    def _confirm_stored(self, batch: Batch, term: TermKey, first: int, *, publish: bool) -> None:
        batch.first = first
        last = first + batch.count - 1
        self._overtaken(last)
        self._acknowledged.add(term, first, last)
        self._stored(publish=publish)

    # after a reconnection

    def check(self) -> asyncio.Future[None] | None:
        """Look what became of the stream, and of what was acknowledged, where nothing else is about to.

        Returns:
            a future that is done when that is known; None: nothing is to be done, or it is done with the next batch.
        """
        if self.state == State.SUSPENDED:
            self._send_now()
        if self.state != State.IDLE:
            return self._checked if self.state == State.RECOVERING else None
        self.state = State.RECOVERING
        self._recovering = self._loop.create_task(self._check(), name=f"check {self.stream_id}")
        self._checked = self._recovering
        return self._checked

    async def _check(self) -> None:
        position = self.position()
        try:
            found = await self._recovery.rejoin(position)
        except HelixError:
            found = None  # looked into again before the next batch
        except Exception as error:  # noqa: BLE001  a bug here must not leave the writers waiting for ever
            found = None
            self._report(HelixError(f"the look at stream {self.stream_id!r} failed: {error!r}"))
        if self.state != State.RECOVERING:
            return
        self._find_lost(found)
        closed = why_closed(position, found) if found is not None else None
        if closed is not None:
            self.fail_permanently(closed.make_error)
            return
        self._join(found)
        self.advance()

    def _give_up_batch(self, batch: Batch) -> None:
        """The outcome of the batch in flight cannot be known: say so and go on behind it."""
        error = WriteOutcomeUnknownError(self.stream_id, batch.first, batch.first + batch.count - 1)
        self.buffer.give_up(error)
        # a retry of a write that had failed before cannot wait for this batch any more
        self.failed.drop(write for write, _count, _end in batch.writes)
        self._fail_flushes(error)
        self._report(error)
        self.advance()

    def _fail_flushes(self, error: HelixError) -> bool:
        if self.observed is not None:
            self.observed.done(error)
        waited: bool = self.buffer.fail_flushes(error)
        return waited

    # ends

    def suspend(self, error: HelixError, *, refused: bool = False) -> None:
        """Stop trying for now: fail the waiting calls, withdraw their chunks that were never sent, keep the rest.

        The batch in flight stays as it is, since it may have been stored, unless the server has ``refused`` it. Chunks
        that nobody waits for are tried again every RETRY_SECONDS; where no call was failed by the error, it is reported
        once.
        """
        if self.state == State.CLOSED:
            return
        writes = self.buffer.withdraw_unsent(refused=refused)
        self.failed.add(write for write in writes if write.lost < write.count)
        self.state = State.IDLE if self.buffer.empty else State.SUSPENDED
        trouble = self.trouble = self.trouble or Trouble()
        trouble.since = None
        noticed = self._fail_flushes(error)
        for write in writes:
            noticed = not write.future.done() or noticed
            write.fail(error)
        if self.buffer.has_unawaited and self._retrying is None and not isinstance(error, StoreClosedError):
            self._retrying = self._loop.call_later(RETRY_SECONDS, self._retry)
            if not noticed and not trouble.reported:
                trouble.reported = True
                self._report(error)

    def _retry(self) -> None:
        self._retrying = None
        self._send_now()

    def fail_permanently(self, make_error: MakeError) -> None:
        """Nothing more can be written: fail the waiting calls, and report the chunks that no write waits for."""
        self._make_error = make_error
        self.state = State.CLOSED
        batches = self.buffer.clear()
        unsent = [line for batch in batches for line in batch.lines(awaited=False)]
        for batch in batches:
            for write, _count, _end in batch.writes:
                write.fail(make_error(()))
        error = make_error(unsent)
        if not self._fail_flushes(error) and unsent:
            self._unraised = error
        if unsent:
            self._report(error)

    async def close(self) -> None:
        """Stop at once: chunks that are not stored are not sent any more, and the calls that wait for them fail."""
        for timer in (self._lingering, self._retrying):
            if timer is not None:
                timer.cancel()
        self._lingering = self._retrying = None
        task = self._recovering
        if self._loop.is_closed():
            task = None  # it has ended with its loop
        elif task is not None:
            task.cancel()
        if not self.closed:
            try:
                self.fail_permanently(lambda unsent: StreamClosedError(self.stream_id, "closed", unsent))
            except RuntimeError:
                if not self._loop.is_closed():  # else: a task that waited was not even cancelled, and cannot be woken
                    raise
        await cancel(task)
