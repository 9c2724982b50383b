"""The one queue of a process into one stream: all of its writers there put their chunks in, one batch is in flight.

Redis's own id check orders the batches ("Order without scripts" in docs/architecture.md). Whatever goes wrong, the
batch in flight keeps its id, nonce and bytes until it is known what became of it: it is resent, and found where it had
been stored. Nothing is guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from helix_fast.codec import MAX_BATCH_BYTES, Write
from helix_fast.errors import (
    HelixError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StreamClosedError,
)
from helix_fast.flag import Flag
from helix_fast.keys import StreamKeys
from helix_fast.transport.binding import cancel
from helix_fast.transport.topology import Topology

from .recovery import Recovery
from .terms import Terms
from .write_buffer import Intake

REFUSED: Final = "ERR The ID specified in XADD"
AGAIN_SECONDS: Final = 1.0
"""How long after giving up what was sent without waiting is tried again."""


class Appender(Intake):
    """See the module. Used from one event loop.

    Args:
        stream_id: names the stream; also the tag by which its server is found.
        topology: the servers.
        keys: the stream's key and channel names.
        terms: what the opening script told.
        last: the stream's last sequence then.
        nonce, max_length: see Intake.
        linger: seconds for which chunks that nobody waits for are gathered.
        recovery: finds out what became of a batch.
        report: takes errors that nobody waits for.
    """

    def __init__(
        self,
        stream_id: str,
        topology: Topology,
        keys: StreamKeys,
        terms: Terms,
        last: int,
        *,
        nonce: bytes,
        max_length: int,
        linger: float,
        recovery: Recovery,
        report: Callable[[HelixError], None],
    ) -> None:
        super().__init__(stream_id, topology, keys, terms, last, nonce, max_length, linger)
        self.generation = topology.generation(stream_id)
        self.writers = 0
        self.lease_ms = 0
        self.stop_requested = Flag()
        self.stop_reason: str | None = None
        self.lost = (0, 0)  # acknowledged sequences that the server lost, as last reported
        self.keys = keys
        self.failures = 0
        self._recovery = recovery
        self._report = report
        self._again: asyncio.TimerHandle | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._unheard: HelixError | None = None

    def stop(self, reason: str) -> None:
        """Someone asked the stream's writers to stop."""
        if not self.stop_requested.is_set():
            self.stop_reason = reason or None
            self.stop_requested.set()

    # giving

    @property
    def alive(self) -> bool:
        """Whether it can still write: nothing has ended it, and its event loop is open."""
        return self.dead is None and not self._loop.is_closed()

    def check_alive(self) -> None:
        """Raise what ended this appender, if something did."""
        if self.dead is not None:
            raise self.dead(())

    def added(self, size: int) -> None:
        """Call after adding to ``batch``: sends it on this turn of the event loop, or seals it when it is full."""
        if size >= MAX_BATCH_BYTES or self.batch.count >= self.max_count:
            self.seal()
        if not self.busy and self.scheduled is None:
            self.schedule()

    def schedule(self) -> None:
        """Have what waits sent; see the base class."""
        if self.linger:
            self.scheduled = self._loop.call_later(self.linger, self.pump)
        else:
            self.scheduled = self._loop.call_soon(self.pump)

    def put_many(self, chunks: Sequence[bytes], original: object, owner: object) -> Write:
        """Add chunks; see the base class."""
        self.check_alive()
        future: asyncio.Future[int] = self._loop.create_future()
        write = Write(original, len(chunks), future, owner)
        if self.raised.writes:
            write.task = asyncio.current_task()
            chunks = self._repeat(write, chunks)
            if not chunks:
                self._kick()
                return write
        batch = self.batch
        here = 0
        for chunk in chunks:
            here += 1
            size = batch.add(chunk)
            if size >= MAX_BATCH_BYTES or batch.count >= self.max_count:
                self._writes.append((write, here, batch.count))
                here = 0
                self.seal()
        if here:
            self._writes.append((write, here, batch.count))
        if not self.busy and self.scheduled is None:
            self.schedule()
        return write

    def _repeat(self, write: Write, chunks: Sequence[bytes]) -> Sequence[bytes]:
        """A write that raised is called again: take over what became of it, return the chunks still to be added."""
        before = self.raised.take(write)
        if before is None:
            return chunks
        write.settle(before.acked, before.last)
        if write.future.done():
            return ()
        if self.flight is not None:
            self.flight.writes = [(write if w is before else w, n, end) for w, n, end in self.flight.writes]
        return chunks[write.count - before.lost :] if before.lost else ()

    async def flush(self) -> None:
        """Wait until all that was given is stored, or raise why it cannot be."""
        if self._unheard is not None:
            error, self._unheard = self._unheard, None
            raise error
        target = self.given + self.batch.count
        if self.settled >= target:
            return
        self.check_alive()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.flushes.append((target, future))
        self._kick()
        await future

    def _kick(self) -> None:
        if not self.busy:
            if self.scheduled is not None:
                self.scheduled.cancel()
            self.pump()

    # sending

    def pump(self) -> None:
        """Send what waits, unless something is under way."""
        self.scheduled = None
        if self.busy or self.dead is not None:
            return
        if self.flight is None:
            if not self.queue:
                self.seal()
            if not self.queue:
                return
            self.flight = self.queue.popleft()
        self._start()

    def _start(self) -> None:
        """Send the batch in flight, or find out first whether it may be sent."""
        batch = self.flight
        assert batch is not None
        self.busy = True
        if self.topology.observer is not None and not batch.sent:
            watch, name = self.topology.observer.batch, self.stream_id
            self.observed = watch(name, batch.count, len(batch.body), self.observed)
        if batch.sent or self.generation != self.topology.generation(self.stream_id):
            self._recover(None)  # an earlier attempt, or a reconnection: look before sending
        elif self.assisted_batches:
            self._recover(None)
        else:
            self._transmit()

    def _transmit(self) -> None:
        batch = self.flight
        assert batch is not None
        batch.first = first = self.sequence.reserve(batch.count)
        batch.sent = True
        last = first + batch.count - 1
        frame = self.framer.xadd(self.terms.number, first, batch.count, batch.body, batch.nonce, self.cut(last))
        try:
            self.topology.send(self.stream_id, frame, self, follow=False)
        except HelixError as error:  # the connections are closed
            self.pause(error)

    def cut(self, last: int) -> bytes | None:
        """The id below which a batch that ends at ``last`` may trim, or None where it need not.

        Trimming is exact, and done once in a while: an entry is marked deleted in its node, which costs little, while
        every MINID walks over the ones marked before.
        """
        if not self.max_length or last - self.trimmed < self.max_count:
            return None
        self.trims = last  # counts once the batch is stored: one that is refused trims nothing
        cut = last - self.max_length - self.max_count + 2
        return self.terms.id_at(cut) if cut > 1 else None

    def replied(self, reply: Any) -> None:
        """The reply to a batch of several chunks, or a refusal."""
        if type(reply) is bytes:
            self.sequence.commit()
            self.collisions = 0
            self._stored(publish=True)
        else:
            self._recover(reply)

    def _stored(self, *, publish: bool) -> None:
        """The batch in flight is in the stream."""
        batch = self.flight
        assert batch is not None
        self.flight = None
        self.busy = False
        self.trouble_since = None
        self.in_trouble = False
        self.trimmed = self.trims
        if self.observed is not None:
            self.observed.done()
        first = batch.first
        try:
            if publish:
                # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
                self.announce(first, first + batch.count - 1, batch.body)
        finally:
            for write, count, end in batch.writes:
                write.settle(count, first + end - 1)
        self.settled += batch.count
        if self.flushes:
            self.settle_flushes()
        if self.queue or self.batch.count:
            self.pump()

    # trouble

    def _recover(self, reply: object) -> None:
        self.subscribers.assume_present()  # after a failover, for example, there may be some that were not counted
        refused = isinstance(reply, StoreResponseError) and str(reply).startswith(REFUSED)
        cause = reply if isinstance(reply, HelixError) and not refused else None
        if refused:
            self.collisions += 1
        elif isinstance(reply, StoreConnectionError) and self.flight is not None:
            self.flight.doubtful = True
        self._recovering = asyncio.get_running_loop().create_task(
            self._recovery.resolve(self, cause), name=f"recover {self.stream_id}"
        )

    def resend(self) -> None:
        """The batch is not in the stream: send it again."""
        self.sequence.rollback()
        self._transmit()

    def moved(self, last: int) -> None:
        """Another writer of this term brought the stream to ``last``."""
        self.sequence.rollback()
        self.sequence.jump(last)

    def abandon(self, error: HelixError, last: int) -> None:
        """What became of the batch cannot be known: say so and go on after ``last``."""
        batch = self.flight
        assert batch is not None
        self.moved(max(last, self.sequence.last))
        self.flight = None
        self.busy = False
        self.settled += batch.count
        for write, _count, _end in batch.writes:
            write.fail(error)
        # a repeat of one that had raised before cannot wait for this batch any more
        self.raised.drop(write for write, _count, _end in batch.writes)
        self.tell_flushes(error)
        self._report(error)
        if self.queue or self.batch.count:
            self.pump()

    def found(self, first: int, *, publish: bool) -> None:
        """The batch is in the stream."""
        batch = self.flight
        assert batch is not None
        batch.first = first
        last = first + batch.count - 1
        self.sequence.rollback()
        if last > self.sequence.last:
            self.sequence.jump(last)
        self._stored(publish=publish)

    def pause(self, error: HelixError) -> None:
        """The server cannot be reached for too long: those who wait are told, what was sent without waiting stays.

        The batch in flight stays as it is, since it may have been stored; writes behind it are taken back. What nobody
        waits for is tried again a little later, as often as it takes, and reported where nobody else was told.
        """
        self.busy = False
        raised = self.take_back()
        self.raised.add(write for write in raised.values() if write.lost < write.count)
        self.trouble_since = None
        heard = self.tell_flushes(error)
        for write in raised.values():
            heard = not write.future.done() or heard
            write.fail(error)
        if self.unawaited and self._again is None and not isinstance(error, StoreClosedError):
            self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._try_again)
            if not heard and not self.in_trouble:
                self.in_trouble = True
                self._report(error)

    def _try_again(self) -> None:
        self._again = None
        self._kick()

    def die(self, make: Callable[[Sequence[bytes]], HelixError]) -> None:
        """Nothing more can be written: everyone is told, and what was sent without waiting is reported."""
        self.dead = make
        self.busy = False
        batches = self.clear()
        unsent = [line for batch in batches for line in batch.lines(awaited=False)]
        for batch in batches:
            for write, _count, _end in batch.writes:
                write.fail(make(()))
        error = make(unsent)
        if not self.tell_flushes(error) and unsent:
            self._unheard = error
        if unsent:
            self._report(error)

    async def close(self) -> None:
        """Stop; what is not stored by now is not sent any more, and whoever waits for it is told. Does not flush."""
        if self.scheduled is not None:
            self.scheduled.cancel()
            self.scheduled = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        task = self._recovering
        if self._loop.is_closed():
            task = None  # it has ended with its loop
        elif task is not None:
            task.cancel()
        if self.dead is None:
            try:
                self.die(lambda unsent: StreamClosedError(self.stream_id, "closed", unsent))
            except RuntimeError:
                if not self._loop.is_closed():  # else: a task that waited was not even cancelled, and cannot be woken
                    raise
        await cancel(task)
