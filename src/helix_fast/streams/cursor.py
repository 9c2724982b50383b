"""What a reader reads: the log and the pushes of one stream, merged by sequence, without gap or repeat.

The log is the truth. Pushes only save the way to it: an entry that follows what was seen is taken from its push,
anything else (a hole, an event, a lost subscription, an overrun buffer, silence) sends the feed to the log.
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
from .read_ahead import FarPages

_READ: Final = script("streams", "stream_read")
MIN_PAGE: Final = 64
MAX_PAGE: Final = 1024
PAGE_BYTES: Final = 256 << 10


class Source(NamedTuple):
    """What the feeds of one manager share."""

    requests: Requests
    topology: Topology
    ttl: int
    control: bytes
    """Channel on which the processes that write hear of a new listener."""
    block_timeout: float
    """Seconds of silence after which a feed looks into the log."""


class Feed(codec.Inbox):
    """One reader's view of one stream. See the module.

    Args:
        source: the manager's.
        stream_id: the stream.
        keys: its names.
        after: sequence after which to begin.
        epoch: of that position, or None.
        skip_gaps: go on after a hole in place of raising SequenceGapError.
    """

    def __init__(
        self, source: Source, stream_id: str, keys: StreamKeys, *, after: int = 0, epoch: str | None, skip_gaps: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()  # kept: asking asks the kernel for a process id before Python 3.12
        super().__init__()
        self.stream_id = stream_id
        self.epoch = epoch or ""
        self._source = source
        self._keys = keys
        self._after = after
        self.skip_gaps = skip_gaps
        self.window = codec.Window(after)
        self.decoder: LineDecoder = LineDecoder()
        self._pages = FarPages(source.requests, stream_id, keys.stream)
        self._opened = False
        self._page = MIN_PAGE
        self._far = False  # the last page was full: the end of the log is not near
        self._stored_all = False  # the last page ended where the log ended then
        self._subscribed = False
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def last(self) -> int:
        """Sequence of the last chunk handed out."""
        return self.window.last

    @property
    def reading(self) -> bool:
        """Whether there may be more to come."""
        return not self.closed and not self.ended and self.error is None

    @property
    def waiting(self) -> bool:
        """Whether its reader waits for something to happen."""
        return self.waiter is not None and not self.waiter.done()

    # reading

    async def open(self) -> Decoded | None:
        """Read the first page.

        Returns what it holds, possibly nothing; None where there is no such stream.

        Raises:
            StreamResetError, SequenceGapError: see ``ResumableReader``.
        """
        decoded = await self._read()
        if self._stored_all and not self.ended and self.error is None:
            await self._subscribe()
        return decoded

    async def next(self) -> Decoded | None:
        """The next chunks, at least one; None when the stream has ended.

        Raises:
            SequenceGapError, StreamResetError, StreamFailedError, ProducerLostError, StreamDeletedError: see
                ``ResumableReader``; it raises the same again when called again.
            StoreConnectionError: the server could not be reached for the retry time; call again to go on.
        """
        while True:
            if self.closed:
                return None
            if self.error is not None:
                await self.close(keep_end=True)
                raise self.error
            if self.ended:
                await self.close(keep_end=True)
                return None
            if not self.live and self._stored_all:
                await self._subscribe()
                continue
            if not self.live or self.dirty:
                decoded = await self._catch_up()
            elif self.waits():
                await self.arrival()
                continue
            else:
                decoded = self.at_hand()
            if decoded is not None and decoded[1]:
                return decoded

    def arrival(self) -> asyncio.Future[None]:
        """A future that is done when something happens: a push, a word of the hub, too long a silence, the end."""
        loop = self._loop
        waiter: asyncio.Future[None] = loop.create_future()
        self.waiter = waiter
        self._waiting_since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._source.block_timeout, _tick, weakref.ref(self))
        return waiter

    async def _catch_up(self) -> Decoded | None:
        try:
            decoded = await self._read()
        except BaseException:
            self.dirty = True  # also where the reader was cancelled: what was to be looked at still is
            raise
        if decoded is None:
            self.error = StreamDeletedError(self.stream_id)
        return decoded

    async def stored(self) -> Decoded | None:
        """The next chunks of the log, without waiting for more to come; None at its end. Raises as ``next``."""
        while not self._stored_all:
            decoded = await self._read()
            if decoded is None:
                break
            if decoded[1]:
                return decoded
        return None

    async def _read(self) -> Decoded | None:
        """One page of the log. Nothing is awaited once its chunks count as read: a cancellation would lose them."""
        if self._far and (decoded := await self._read_far()) is not None:
            return decoded
        source, keys = self._source, self._keys
        page = self._page
        publish = await source.requests.publish_command()
        self.dirty = False  # before the request: what is pushed from now on may be newer than its answer
        joined, self.joined = self.joined, False
        try:
            reply = await source.requests.run(
                _READ,
                self.stream_id,
                (keys.stream, keys.meta, keys.lease),
                (
                    self.window.last,
                    self.entry,
                    self.epoch,
                    page,
                    source.ttl,
                    iso_now(),
                    publish,
                    keys.channel,
                    source.control,
                    message(LISTEN, source.topology.audience.name, self.stream_id) if joined else b"",
                ),
            )
        except BaseException:
            self.joined = self.joined or joined
            raise
        if not reply:
            return None
        if reply[0] == b"reset":
            raise self._finish(StreamResetError(reply[1].decode()))
        _kind, epoch, base, _status, entries = reply
        if not self._opened:
            self._begin(epoch.decode(), int(base))
        decoded = self._merge(entries)
        if len(entries) >= page:
            self.dirty = self._far = True
            self._resize(page, sum(len(fields[1]) for _entry, fields in entries))
        elif not self.dirty:
            self._stored_all = True
        return decoded

    async def _read_far(self) -> Decoded | None:
        """A page by plain XRANGE, a third of the script's cost to the server; None where it begins with anything else.

        What the script looks for (another epoch, a lost producer, the end) shows at the end of the log, as an event or
        as a hole: then the script reads the page anew.
        """
        self._far = False
        page = self._page
        entries = await self._pages.read(self.entry, page)
        seen = self.window.last
        taken, last, body = codec.merge_entries(entries, seen)
        if not taken:
            return None
        self._resize(taken, len(body))
        if taken == page:
            await self._pages.ask(entries[-1][0], self._page)
        self.dirty = True
        self._far = taken == page
        self.entry = entries[taken - 1][0]
        self.window = codec.Window(last)
        return self.decoder.decode(body, last, seen)

    def _resize(self, entries: int, size: int) -> None:
        """Choose the next page's length by the size of so many entries."""
        self._page = max(MIN_PAGE, min(MAX_PAGE, PAGE_BYTES * entries // max(1, size)))

    def _begin(self, epoch: str, base: int) -> None:
        if self._after == 0:
            self.window = codec.Window(base)
        elif self._after < base:
            # Sequences never go back, so a position below the epoch's first one is of an older epoch.
            raise self._finish(StreamResetError(epoch))
        self.epoch = epoch
        self._opened = True

    def _finish(self, error: HelixError) -> HelixError:
        self.error = error
        return error

    async def _subscribe(self) -> None:
        """Join the channel; what was written since the page was read is read after that."""
        if not self._subscribed:
            hub = self._source.topology.hub(self.stream_id)
            await self._source.requests.retrying(lambda: hub.subscribe(self._keys.channel, self), self.stream_id)
            self._subscribed = True
        if not self.closed:
            self.live = self.joined = True
            self.look()

    def _merge(self, entries: list[list[Any]]) -> Decoded:
        """Decode the entries of a page as one run of chunks. A hole ends the page: the run before it comes first."""
        after = last = self.window.last
        bodies: list[bytes] = []
        at = 0
        while at < len(entries):
            taken, last, usual = codec.merge_entries(entries[at:], last)
            if taken:
                bodies.append(usual)
                at += taken
                self.entry = entries[at - 1][0]
                continue
            entry, fields = entries[at]
            at += 1
            body, sequence, foreign = chunk_fields(fields)
            count = 0 if body is None else 1 if foreign else body.count(b"\n") + 1
            first = sequence - count + 1
            if first > last + 1:
                if bodies:
                    self.dirty = True  # the hole comes up when this entry is read again
                    break
                if not self.skip_gaps:
                    raise self._finish(SequenceGapError(last, first))
                after = last = first - 1
            self.entry = entry
            if body is None:
                if self._over(fields):
                    break
            elif sequence > last:
                if first <= last and (bodies or first < 1):
                    body = b"\n".join(body.split(b"\n")[last - sequence :])  # others' doing: what is new of it counts
                # an empty body is a line as well, though no chunk
                bodies.append((body.replace(b"\n", b" ") if foreign else body) or b" ")
                last = sequence
        if last > self.window.last:
            self.window = codec.Window(last)
        return self.decoder.decode(b"\n".join(bodies), last, after) if bodies else (last + 1, [], False)

    def _over(self, fields: list[bytes]) -> bool:
        """Whether an entry without chunks ends the stream; then remember how."""
        values = dict(zip(fields[::2], fields[1::2], strict=False))
        kind = values.get(b"event", b"")
        error = values.get(b"error", b"").decode(errors="replace")
        if kind == b"ended":
            self.ended = True
        elif kind == b"failed":
            self.error = StreamFailedError(error)
        elif kind == b"lost":
            self.error = ProducerLostError(error)
        else:
            return False
        return True

    def tick(self) -> None:
        """A block timeout has passed since the timer was set; silence as long as that is looked into."""
        self._timer = None
        if not self.waiting or self.closed:
            return
        loop = self._loop
        left = self._waiting_since + self._source.block_timeout - loop.time()
        if left <= 0.001:
            self.look()
        else:
            self._timer = loop.call_later(left, _tick, weakref.ref(self))

    def abort(self) -> None:
        """The manager is closed."""
        if self.error is None:
            self.error = StoreClosedError("the store was closed under a reader")
        self.rouse()

    async def close(self, *, keep_end: bool = False) -> None:
        """Unsubscribe. Safe to call twice."""
        if not keep_end:
            self.closed = True
            self.rouse()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._subscribed:
            self._subscribed = self.live = False
            if not self._source.requests.closed:
                self._source.topology.hub(self.stream_id).unsubscribe(self._keys.channel, self)


def _tick(reference: weakref.ref[Feed]) -> None:
    feed = reference()
    if feed is not None:
        feed.tick()
