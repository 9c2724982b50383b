"""The cursor of one reader in one stream. One file: each part of its place is moved by all that reads.

It merges the log and the pushes by sequence, without gap or repeat.

The log is the truth. Pushes only save requests to it: an entry that continues what was read is taken from its push;
anything else (a hole, an event, a lost subscription, a full buffer, silence) sends the cursor back to the log. When a
push counts, and when the log must be read first, is the rule of ``codec.PushBuffer``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from helix_fast import codec
from helix_fast.clock import iso_now
from helix_fast.errors import (
    HelixError,
    MalformedStreamError,
    ProducerLostError,
    SequenceGapError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StreamDeletedError,
    StreamFailedError,
    StreamNotFoundError,
    StreamResetError,
)
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.binding import LoopBinding, running_loop
from helix_fast.transport.topology import Topology

from .chunks import Decoded, LineDecoder
from .control import LISTEN, message
from .entries import EntryRun, check_foreign, stored_number, stored_text
from .read_ahead import PAGE_BYTES, PageSize, ReadAhead
from .schema import StreamPosition
from .silence import FIRST_PAUSE, Silence
from .terms import NO_TERM, TermKey, Terms, new_tag, term_key

_READ: Final = script("streams", "stream_read")
BEGINNING: Final = StreamPosition("", 0)
_LOST: Final = b"the producer was lost"  # as the script writes it
LONGEST_PAUSE: Final = 1.0
"""Seconds between two looks for a stream that does not exist yet. Its first chunk is pushed, its creation is not."""


class CursorContext(NamedTuple):
    """The settings and connections that all cursors of a manager share."""

    requests: Requests
    topology: Topology
    ttl: int
    control: bytes
    """Channel on which a reader announces itself to the processes that write."""
    block_timeout: float
    """Seconds of silence after which a cursor reads the log."""
    report: Callable[[HelixError], object]
    """Takes errors that end no reading."""


class StreamCursor:
    """The position of one reader in one stream, and how it gets on.

    Args:
        context: the manager's.
        stream_id: the stream.
        keys: its names.
        after: the position after which to begin.
        skip_gaps: go on after a hole in place of raising SequenceGapError.
        wait: seconds to wait for the stream to exist.

    Attributes:
        pushes: the entries that were pushed and not taken yet; also the position.
        closed: its reader reads no more. ended: the stream's end was read. error: what ended the reading.
    """

    def __init__(
        self,
        context: CursorContext,
        stream_id: str,
        keys: StreamKeys,
        *,
        after: StreamPosition = BEGINNING,
        skip_gaps: bool,
        wait: float = 0.0,
    ) -> None:
        self._loop = context.topology.binding.check()  # kept: asking for it asks the kernel, before Python 3.12
        self.stream_id = stream_id
        self.epoch: str = after.epoch
        self.skip_gaps = skip_gaps
        self.decoder: LineDecoder = LineDecoder()
        self.pushes: codec.PushBuffer = codec.PushBuffer()
        self.pushes.window = codec.Window(after.sequence)
        self.pushes.decoder = self.decoder
        self.pushes.loop = self._loop
        self.closed: bool = False
        self.ended: bool = False
        self.error: HelixError | None = None
        self._context = context
        self._keys = keys
        self._after = after.sequence
        self._base = 0
        self._wait = wait
        self._key = term_key(after.term)  # of the last chunk seen, or of the position
        self._text_of_key, self._ids_of_key = "", b"-"  # as `term` found it; what entry ids of the term begin with
        self._terms: Terms | None = None
        self._terms_text = b""
        self._marker = self._before_marker = b""  # id of the last marker seen, and of the last chunk before it
        self._read_ahead = ReadAhead(context.requests, stream_id, keys.stream)
        self._opened = False
        self._page = PageSize()
        self._far = False  # the last page was full: the end of the log is not near
        self._at_end = False  # the last page ended where the log ended
        self._subscribed = False
        self._joining: asyncio.Future[None] | None = None
        self._misplaced = False  # an entry without a sequence was reported
        self._silence = Silence(self._loop, self.pushes, context.block_timeout)

    @property
    def last(self) -> int:
        """Sequence of the last chunk handed out."""
        return self.pushes.window.last

    @property
    def term(self) -> str:
        """The term of the last chunk handed out, in the form of ``StreamPosition.term``."""
        entry_id = self.pushes.entry_id
        if not entry_id.startswith(self._ids_of_key) or entry_id == self._marker:
            key = self._find_key()
            self._text_of_key, self._ids_of_key = key.text, key.number.encode() + b"-"
        return self._text_of_key

    def _find_key(self) -> TermKey:
        entry_id = self._chunk_id()
        number = entry_id.partition(b"-")[0]
        if number and number != self._key.number.encode() and self._terms is not None:
            self._key = self._terms.key_of(int(number))  # NO_TERM for an entry by plain XADD
        return self._key

    def _chunk_id(self) -> bytes:
        """Id of the last entry with chunks that was seen: a marker behind it may be lost without harm."""
        entry_id = self.pushes.entry_id
        return self._before_marker if entry_id == self._marker else entry_id

    @property
    def reading(self) -> bool:
        """Whether more may come."""
        return not self.closed and not self.ended and self.error is None

    @property
    def waiting(self) -> bool:
        """Whether its reader waits for something to happen."""
        waiter = self.pushes.waiter
        return waiter is not None and not waiter.done()

    @property
    def binding(self) -> LoopBinding:
        """The event loop of the store."""
        return self._context.topology.binding

    def check_loop(self) -> None:
        """Raise InvalidArgumentError unless the running event loop is the reader's."""
        self.binding.check_part(self._loop, "reader")

    # reading

    async def open(self) -> Decoded | None:
        """Read the first page.

        Returns:
            its chunks, possibly none; None if there is no such stream.

        Raises:
            StreamResetError, SequenceGapError: see ``ResumableReader``.
        """
        decoded = await self._first_page()
        if self._at_end and self.reading:
            await self._subscribe()
        return decoded

    async def _first_page(self) -> Decoded | None:
        decoded = await self._read()
        if decoded is not None or not self._wait:
            return decoded
        give_up = self._loop.time() + self._wait
        pause = FIRST_PAUSE
        try:
            await self._subscribe()
            while (decoded := await self._read()) is None and self.reading:
                left = give_up - self._loop.time()
                if left <= 0:
                    break
                if self.pushes.idle():
                    await asyncio.wait((self.wait_for_push(),), timeout=min(left, pause))
                    pause = min(2 * pause, LONGEST_PAUSE)
                self.pushes.mark_stale()  # also drops the pushes: the page will contain them
        finally:
            if decoded is None:
                await self.close(keep_end=True)
        if self.error is not None:
            raise self.error
        return decoded

    async def next(self) -> Decoded | None:
        """The next chunks, at least one; None when the stream has ended.

        Raises:
            SequenceGapError, StreamResetError, StreamFailedError, ProducerLostError, StreamDeletedError: see
                ``ResumableReader``; it raises the same again when called again.
            StreamNotFoundError: the first call, of a cursor that was not opened before: there is no such stream.
            StoreConnectionError: the server could not be reached for the retry time; call again to go on.
        """
        pushes = self.pushes
        while True:
            if self.closed:
                return None
            if self.error is not None:
                await self.close(keep_end=True)
                raise self.error
            if self.ended:
                await self.close(keep_end=True)
                return None
            if not self._opened:
                decoded = await self._first_page()
                if decoded is None and not self.closed:
                    raise StreamNotFoundError(self.stream_id)
            elif not pushes.live and self._at_end:
                await self._subscribe()
                continue
            elif not pushes.live or pushes.stale:
                decoded = await self._read()
                if decoded is None:
                    self._fail(StreamDeletedError(self.stream_id))
            elif pushes.idle():
                await self.wait_for_push()
                continue
            else:
                decoded = pushes.next_pushed()
            if decoded is not None and decoded[1]:
                return decoded

    def wait_for_push(self) -> asyncio.Future[None]:
        """A future that is done when something happens: a push, a lost subscription, too long a silence, the end."""
        waiter: asyncio.Future[None] = self.pushes.wait()
        if not self.pushes.timed:
            self.time_silence()
        return waiter

    def time_silence(self) -> None:
        """Start the timer that ends a wait."""
        self._silence.begin()

    async def stored(self) -> Decoded | None:
        """The next chunks of the log, without waiting for more to come; None at its end. Raises as ``next``."""
        while not self._at_end:
            decoded = await self._read()
            if decoded is None:
                break
            if decoded[1]:
                return decoded
        return None

    async def _read(self) -> Decoded | None:
        """One page of the log. Nothing is awaited once its chunks count as read: a cancellation would lose them."""
        announce = False
        try:
            if self._far and (decoded := await self._read_far()) is not None:
                return decoded
            publish = await self._context.requests.publish_command()
            announce = self.pushes.begin_read()
            reply = await self._context.requests.retrying(
                partial(self._request, publish, announce=announce), self.stream_id
            )
        except BaseException:
            self.pushes.fail_read(announce)
            raise
        if not reply:
            return None
        if reply[0] == b"reset":
            raise self._fail(StreamResetError(reply[1].decode(errors="replace")))
        if reply[0] == b"gap":
            _kind, _epoch, given, last, text = reply
            mine = self._terms
            self._learn_terms(text)
            resume = int(given)
            if mine is not None and self._terms is not None:
                shared = mine.parting(self._terms, self.last, int(last))
                resume = resume if shared is None else min(resume, shared)
            if not self.skip_gaps:
                raise self._fail(SequenceGapError(self.last, resume + 1, int(last)))
            self._go_back(resume)
            return await self._read()
        _kind, epoch, base, status, error, more, entries, terms = reply
        self._learn_terms(terms)
        if not self._opened:
            self._begin(epoch, base)
        if not self._key.number and self._terms is not None and self.last > self._base:
            self._key = self._terms.key_at(self.last)  # a bare sequence: what it is compared with from now on
        # of sealed entries the script takes one at a time
        far = bool(more) and (self._terms is None or not self._terms.sealed)
        if more:
            self.pushes.mark_stale()
            self._page.fit(len(entries), sum(len(fields[1]) for _entry, fields in entries))
        if far:
            await self._read_ahead.prefetch(entries[-1][0], self._page.count)
        decoded = self._merge(entries)
        if more:
            self._far = far
        elif not self.pushes.stale:
            self._at_end = True
            if self.reading:
                self._end_by_status(status, error)
        return decoded

    def _learn_terms(self, text: bytes) -> None:
        if text != self._terms_text:
            if not text:
                raise self._fail(StreamDeletedError(self.stream_id))  # its meta hash is gone, by eviction say
            try:
                self._terms = Terms(text.decode(), self.epoch)
            except ValueError as error:
                raise self._fail(
                    MalformedStreamError(self._keys.meta.decode(), f"terms are not ours: {error}")
                ) from error
            self._terms_text = text

    def _go_back(self, resume: int) -> None:
        """What was seen after ``resume`` is lost: go on there, with what the log has now."""
        self._after = resume
        self._key = NO_TERM
        self._far = self._at_end = False
        self._marker = self._before_marker = b""
        self._advance_to(b"", resume)
        self.pushes.mark_stale()

    async def _request(self, publish: bytes, *, announce: bool) -> Any:
        """One attempt to get a page. After a failure the next one asks for less: a bad link passes small replies."""
        context, keys = self._context, self._keys
        listen = message(LISTEN, context.topology.presence.name, self.stream_id) if announce else b""
        arguments = (
            self.last, self._chunk_id(), self.epoch, self._page.count, context.ttl, iso_now(),
            publish, keys.channel, context.control, listen, PAGE_BYTES,
            *self._find_key().comparable, new_tag(), int(self.last > self._after),
        )  # fmt: skip
        try:
            return await context.requests.run(
                _READ, self.stream_id, (keys.stream, keys.meta, keys.lease), arguments, retry_timeout=0
            )
        except StoreConnectionError:
            self._page.shrink()
            raise
        except StoreResponseError as error:
            check_foreign(keys.stream, error)
            raise

    async def _read_far(self) -> Decoded | None:
        """A page by plain XRANGE, a third of the script's cost to the server; None if it begins with anything else.

        Another epoch, a lost producer and the end, which the script looks for, show in the log as an event or as a
        hole: then the script reads the page anew.
        """
        self._far = False
        page, pushes = self._page.count, self.pushes
        entry_id = self._chunk_id()
        seen = self.last
        found = await self._read_ahead.read(entry_id, page, seen)
        if found is None:
            self._page.shrink()
            return None
        if not found.taken or (self._terms is not None and self._terms.part(entry_id, found.first_id)):
            return None
        self._page.fit(found.taken, len(found.body))
        if found.taken == page:
            await self._read_ahead.prefetch(found.last_id, self._page.count)
        pushes.mark_stale()
        self._far = found.taken == page
        self._advance_to(found.last_id, found.last)
        return self.decoder.decode(found.body, found.last, seen)

    def _advance_to(self, entry_id: bytes, last: int) -> None:
        self.pushes.entry_id = entry_id
        self.pushes.window = codec.Window(last)

    def _begin(self, epoch: bytes, base: bytes) -> None:
        name, first = stored_text(self._keys.meta, "epoch", epoch), stored_number(self._keys.meta, "base", base)
        self._base = first
        if self._after == 0:
            self.pushes.window = codec.Window(first)
            self._after = first
        elif self._after < first:
            # Sequences never go back, so a position below the epoch's first one is of an older epoch.
            raise self._fail(StreamResetError(name))
        self.epoch = name
        self._opened = True
        if not name:
            self._silence.look_soon()

    def _fail(self, error: HelixError) -> HelixError:
        self.error = error
        self._stop()
        return error

    def _stop(self) -> None:
        if self._loop.is_closed():
            self.pushes.waiter = None  # what waited has ended with its loop, and cannot be woken
        self.pushes.stop()

    async def _subscribe(self) -> None:
        """Join the channel. The page was read before that, so the log is read once more before a push counts."""
        if not self._subscribed:
            hub = self._context.topology.hub(self.stream_id)
            joining = self._context.requests.retrying(
                lambda: hub.subscribe(self._keys.channel, self.pushes, stream=True), self.stream_id
            )
            self._joining = asyncio.ensure_future(joining)  # so that `abort` need not wait for a server that is away
            try:
                await asyncio.wait((self._joining,))
            finally:
                if not self._loop.is_closed():
                    self._joining.cancel()
            if self.error is not None:
                return
            self._joining.result()
            self._subscribed = True
        if not self.closed:
            self.pushes.start()

    def _merge(self, entries: list[list[Any]]) -> Decoded:
        """Decode the entries of a page as one run of chunks. A hole ends the page: the run before it comes first."""
        pushes = self.pushes
        entry_id = self._chunk_id()
        try:
            run = EntryRun(entries, self.last, entry_id, self._terms, skip_gaps=self.skip_gaps)
        except SequenceGapError as gap:
            raise self._fail(gap) from None
        except ValueError as error:
            raise self._fail(MalformedStreamError(self._keys.stream.decode(), str(error))) from error
        if run.entry_id:
            pushes.entry_id = run.entry_id
            if run.entry_id != run.chunk_id:
                self._marker, self._before_marker = run.entry_id, run.chunk_id
        if run.cut:
            pushes.mark_stale()  # what follows comes up when its entry is read again
        if run.foreign:
            self._silence.look_soon()
        if run.misplaced and not self._misplaced:
            self._misplaced = True
            key, entry = self._keys.stream.decode(), run.misplaced.decode()
            self._context.report(MalformedStreamError(key, f"entry {entry} has no sequence, and is not read"))
        if run.ended:
            self._stop_ended()
        elif run.error is not None:
            self._fail(run.error)
        if run.last > self.last:
            pushes.window = codec.Window(run.last)
        return self.decoder.decode(run.body, run.last, run.after) if run.body else (run.last + 1, [], False)

    def _end_by_status(self, status: bytes, error: bytes) -> None:
        """The log has no end. A store of another kind may have written one to the meta hash alone."""
        if status == b"ended":
            self._stop_ended()
        elif status == b"failed":
            make = ProducerLostError if error == _LOST else StreamFailedError
            self._fail(make(error.decode(errors="replace")))
        elif status == b"missed":
            self._silence.look_soon(int(error) / 1000)
        elif status == b"lost":
            self._fail(ProducerLostError(error.decode(errors="replace")))

    def _stop_ended(self) -> None:
        self.ended = True
        self.pushes.stop()

    # the end

    def abort(self) -> None:
        """The manager is closed."""
        if self.error is None:
            self._fail(StoreClosedError("the store was closed under a reader"))
        if self._joining is not None and not self._loop.is_closed():
            self._joining.cancel()

    async def close(self, *, keep_end: bool = False) -> None:
        """Unsubscribe. Safe to call twice."""
        if not keep_end:
            self.closed = True
        self._stop()
        self._silence.stop()
        if self._subscribed:
            self._subscribed = False
            if not self._context.requests.closed and running_loop() is self._loop:
                self._context.topology.hub(self.stream_id).unsubscribe(self._keys.channel, self.pushes)
