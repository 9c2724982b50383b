"""The cursor of one reader in one stream. One file: each part of its place is moved by all that reads.

It merges the log and the pushes by sequence, without gap or repeat.

The log is the truth. Pushes only save requests to it: an entry that continues what was read is taken from its push;
anything else (a hole, an event, a lost subscription, a full buffer, silence) sends the cursor back to the log. When a
push counts, and when the log must be read first, is the rule of ``codec.PushBuffer``.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Final, NamedTuple

from helix_fast import codec
from helix_fast.clock import iso_now
from helix_fast.errors import (
    HelixError,
    ProducerLostError,
    SequenceGapError,
    StoreClosedError,
    StreamDeletedError,
    StreamFailedError,
    StreamResetError,
)
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.topology import Topology

from .chunks import Decoded, LineDecoder
from .control import LISTEN, message
from .entries import chunk_fields
from .read_ahead import ReadAhead
from .schema import StreamPosition
from .terms import NO_TERM, TermKey, Terms, new_tag, term_key

_READ: Final = script("streams", "stream_read")
BEGINNING: Final = StreamPosition("", 0)
MIN_PAGE: Final = 64
MAX_PAGE: Final = 1024
PAGE_BYTES: Final = 256 << 10


class CursorContext(NamedTuple):
    """The settings and connections that all cursors of a manager share."""

    requests: Requests
    topology: Topology
    ttl: int
    control: bytes
    """Channel on which a reader announces itself to the processes that write."""
    block_timeout: float
    """Seconds of silence after which a cursor reads the log."""


class StreamCursor:
    """The position of one reader in one stream, and how it gets on.

    Args:
        context: the manager's.
        stream_id: the stream.
        keys: its names.
        after: the position after which to begin.
        skip_gaps: go on after a hole in place of raising SequenceGapError.

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
    ) -> None:
        self._loop = asyncio.get_running_loop()  # kept: asking for it asks the kernel, before Python 3.12
        self.stream_id = stream_id
        self.epoch = after.epoch
        self.skip_gaps = skip_gaps
        self.decoder = LineDecoder()
        self.pushes = codec.PushBuffer()
        self.pushes.window = codec.Window(after.sequence)
        self.pushes.decoder = self.decoder
        self.closed = False
        self.ended = False
        self.error: HelixError | None = None
        self._context = context
        self._keys = keys
        self._after = after.sequence
        self._key = term_key(after.term)  # of the last chunk seen, or of the position
        self._terms: Terms | None = None
        self._terms_text = b""
        self._marker = self._before_marker = b""  # id of the last marker seen, and of the last chunk before it
        self._read_ahead = ReadAhead(context.requests, stream_id, keys.stream)
        self._opened = False
        self._page = MIN_PAGE
        self._far = False  # the last page was full: the end of the log is not near
        self._at_end = False  # the last page ended where the log ended
        self._subscribed = False
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def last(self) -> int:
        """Sequence of the last chunk handed out."""
        return self.pushes.window.last

    @property
    def term(self) -> str:
        """The term of the last chunk handed out, in the form of ``StreamPosition.term``."""
        return self._find_key().text

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

    # reading

    async def open(self) -> Decoded | None:
        """Read the first page.

        Returns:
            its chunks, possibly none; None if there is no such stream.

        Raises:
            StreamResetError, SequenceGapError: see ``ResumableReader``.
        """
        decoded = await self._read()
        if self._at_end and self.reading:
            await self._subscribe()
        return decoded

    async def next(self) -> Decoded | None:
        """The next chunks, at least one; None when the stream has ended.

        Raises:
            SequenceGapError, StreamResetError, StreamFailedError, ProducerLostError, StreamDeletedError: see
                ``ResumableReader``; it raises the same again when called again.
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
            if not pushes.live and self._at_end:
                await self._subscribe()
                continue
            if not pushes.live or pushes.stale:
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
        loop = self._loop
        waiter: asyncio.Future[None] = loop.create_future()
        self.pushes.waiter = waiter
        self._waiting_since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._context.block_timeout, _tick, weakref.ref(self))
        return waiter

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
            page = self._page
            publish = await self._context.requests.publish_command()
            announce = self.pushes.begin_read()
            reply = await self._request(page, publish, announce=announce)
        except BaseException:
            self.pushes.fail_read(announce)
            raise
        if not reply:
            return None
        if reply[0] == b"reset":
            raise self._fail(StreamResetError(reply[1].decode()))
        if reply[0] == b"gap":
            _kind, _epoch, resume, last, terms = reply
            if not self.skip_gaps:
                raise self._fail(SequenceGapError(self.last, int(resume) + 1, int(last)))
            self._go_back(int(resume), terms)
            return await self._read()
        _kind, epoch, base, _status, entries, terms = reply
        self._learn_terms(terms)
        if not self._opened:
            self._begin(epoch.decode(), int(base))
        if not self._key.number and self._terms is not None and self.last > int(base):
            self._key = self._terms.key_at(self.last)  # a bare sequence: what it is compared with from now on
        decoded = self._merge(entries)
        if len(entries) >= page:
            self.pushes.mark_stale()
            self._far = True
            self._resize(page, sum(len(fields[1]) for _entry, fields in entries))
        elif not self.pushes.stale:
            self._at_end = True
        return decoded

    def _learn_terms(self, text: bytes) -> None:
        if text != self._terms_text:
            self._terms_text = text
            self._terms = Terms(text.decode(), self.epoch)

    def _go_back(self, resume: int, terms: bytes) -> None:
        """What was seen after ``resume`` is lost: go on there, with what the log has now."""
        self._learn_terms(terms)
        self._after = resume
        self._key = NO_TERM
        self._far = self._at_end = False
        self._marker = self._before_marker = b""
        self._advance_to(b"", resume)
        self.pushes.mark_stale()

    async def _request(self, page: int, publish: bytes, *, announce: bool) -> Any:
        context, keys = self._context, self._keys
        listen = message(LISTEN, context.topology.presence.name, self.stream_id) if announce else b""
        return await context.requests.run(
            _READ,
            self.stream_id,
            (keys.stream, keys.meta, keys.lease),
            (
                self.last, self._chunk_id(), self.epoch, page, context.ttl, iso_now(),
                publish, keys.channel, context.control, listen,
                *self._find_key().comparable, new_tag(), int(self.last > self._after),
            ),
        )  # fmt: skip

    async def _read_far(self) -> Decoded | None:
        """A page by plain XRANGE, a third of the script's cost to the server; None if it begins with anything else.

        Another epoch, a lost producer and the end, which the script looks for, show in the log as an event or as a
        hole: then the script reads the page anew.
        """
        self._far = False
        page, pushes = self._page, self.pushes
        entry_id = self._chunk_id()
        entries = await self._read_ahead.read(entry_id, page)
        seen = self.last
        taken, last, body = codec.merge_entries(entries, seen)
        if not taken or self._is_other_term(entry_id, entries[0][0]):
            return None
        self._resize(taken, len(body))
        if taken == page:
            await self._read_ahead.prefetch(entries[-1][0], self._page)
        pushes.mark_stale()
        self._far = taken == page
        self._advance_to(entries[taken - 1][0], last)
        return self.decoder.decode(body, last, seen)

    def _advance_to(self, entry_id: bytes, last: int) -> None:
        self.pushes.entry_id = entry_id
        self.pushes.window = codec.Window(last)

    def _resize(self, entries: int, size: int) -> None:
        """Choose the next page's length by the size of so many entries."""
        self._page = max(MIN_PAGE, min(MAX_PAGE, PAGE_BYTES * entries // max(1, size)))

    def _begin(self, epoch: str, base: int) -> None:
        if self._after == 0:
            self.pushes.window = codec.Window(base)
            self._after = base
        elif self._after < base:
            # Sequences never go back, so a position below the epoch's first one is of an older epoch.
            raise self._fail(StreamResetError(epoch))
        self.epoch = epoch
        self._opened = True

    def _fail(self, error: HelixError) -> HelixError:
        self.error = error
        self.pushes.stop()
        return error

    async def _subscribe(self) -> None:
        """Join the channel. The page was read before that, so the log is read once more before a push counts."""
        if not self._subscribed:
            hub = self._context.topology.hub(self.stream_id)
            await self._context.requests.retrying(
                lambda: hub.subscribe(self._keys.channel, self.pushes, stream=True), self.stream_id
            )
            self._subscribed = True
        if not self.closed:
            self.pushes.start()

    def _merge(self, entries: list[list[Any]]) -> Decoded:
        """Decode the entries of a page as one run of chunks. A hole ends the page: the run before it comes first."""
        pushes = self.pushes
        after = last = self.last
        bodies: list[bytes] = []
        at = 0
        while at < len(entries):
            if bodies and self._is_other_term(self._chunk_id(), entries[at][0]) and _has_chunks(entries[at]):
                pushes.mark_stale()  # the chunks of a page are of one term
                break
            taken, last, usual = codec.merge_entries(entries[at:], last)
            if taken:
                bodies.append(usual)
                at += taken
                pushes.entry_id = entries[at - 1][0]
                continue
            entry_id, fields = entries[at]
            at += 1
            body, sequence, foreign = chunk_fields(fields)
            count = 0 if body is None else 1 if foreign else body.count(b"\n") + 1
            first = sequence - count + 1
            if first > last + 1:
                if bodies:
                    pushes.mark_stale()  # the hole comes up when this entry is read again
                    break
                if not self.skip_gaps:
                    raise self._fail(SequenceGapError(last, first))
                after = last = first - 1
            if body is None and pushes.entry_id != self._marker:
                self._before_marker = pushes.entry_id
            if body is None:
                self._marker = entry_id
            pushes.entry_id = entry_id
            if body is None:
                if self._ends(fields):
                    break
            elif sequence > last:
                if first <= last and (bodies or first < 1):
                    # Another store's overlapping entry: only its new chunks count.
                    body = b"\n".join(body.split(b"\n")[last - sequence :])
                # an empty body is a line as well, though no chunk
                bodies.append((body.replace(b"\n", b" ") if foreign else body) or b" ")
                last = sequence
        if last > self.last:
            pushes.window = codec.Window(last)
        return self.decoder.decode(b"\n".join(bodies), last, after) if bodies else (last + 1, [], False)

    def _is_other_term(self, one: bytes, other: bytes) -> bool:
        """Whether two ids are of different terms. Ids by plain XADD are of none."""
        number, another = one.partition(b"-")[0], other.partition(b"-")[0]
        terms = self._terms
        return (
            number != another
            and terms is not None
            and terms.key_of(int(another or 0)) != terms.key_of(int(number or 0))
        )

    def _ends(self, fields: list[bytes]) -> bool:
        """Whether an entry without chunks ends the stream; then remember how."""
        values = dict(zip(fields[::2], fields[1::2], strict=False))
        kind = values.get(b"event", b"")
        error = values.get(b"error", b"").decode(errors="replace")
        if kind == b"ended":
            self.ended = True
            self.pushes.stop()
        elif kind == b"failed":
            self._fail(StreamFailedError(error))
        elif kind == b"lost":
            self._fail(ProducerLostError(error))
        else:
            return False
        return True

    # the end

    def tick(self) -> None:
        """A block timeout has passed since the timer was set. After a silence as long as that, the log is read."""
        self._timer = None
        if not self.waiting or self.closed:
            return
        loop = self._loop
        left = self._waiting_since + self._context.block_timeout - loop.time()
        if left <= 0.001:
            self.pushes.mark_stale()
        else:
            self._timer = loop.call_later(left, _tick, weakref.ref(self))

    def abort(self) -> None:
        """The manager is closed."""
        if self.error is None:
            self._fail(StoreClosedError("the store was closed under a reader"))

    async def close(self, *, keep_end: bool = False) -> None:
        """Unsubscribe. Safe to call twice."""
        if not keep_end:
            self.closed = True
        self.pushes.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._subscribed:
            self._subscribed = False
            if not self._context.requests.closed:
                self._context.topology.hub(self.stream_id).unsubscribe(self._keys.channel, self.pushes)


def _has_chunks(entry: list[Any]) -> bool:
    return b"chunk" in entry[1][::2]


def _tick(reference: weakref.ref[StreamCursor]) -> None:
    cursor = reference()
    if cursor is not None:
        cursor.tick()
