"""Hot: the reader's side of a stream, in plain Python. Pushed entries, their buffer, the steps of an `async for`."""

from __future__ import annotations

from typing import Any, Final, final

from .sequence import Window

MAX_PENDING_ENTRIES: Final = 512
MAX_PENDING_BYTES: Final = 1 << 20


class ChunkIterator:
    """Yields buffered items, one for each step of an ``async for``, then those of the next push.

    Where something else is to be done, a step awaits ``_advance``.

    A step takes its item when it is awaited, not before: a step that was dropped, or cancelled before it began, takes
    nothing.

    Attributes:
        _items: the items. _index: of the next one. _error_at: index of the first that is an error, which is not
            yielded; their number where none is.
        _pushes: the pushes; None: there are none. _take: takes what ``next_pushed`` returns.
        _cursor: its ``time_silence`` starts the timer that ends a wait, where none runs.
        _binding, _running_loop: ``loop`` of the one, and what the other returns, must be the loop of the pushes.
        _busy: somebody waits for the next item.
    """

    _take: Any

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._index = 0
        self._error_at = 0

    # Class attributes, as a subclass need not call __init__.
    _pushes: PushBuffer | None = None
    _cursor: Any = None
    _binding: Any = None
    _running_loop: Any = None
    _busy: bool = False

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        """The next item."""
        pushes = self._pushes
        if not self._has_item() and pushes is not None and self._takes_pushes(pushes):
            if not pushes.pending:
                self._busy = True
                try:
                    waiter = pushes.wait()
                    if not pushes.timed:
                        self._cursor.time_silence()
                    await waiter
                finally:
                    self._busy = False
            decoded = pushes.next_pushed()
            if decoded is not None:
                self._take(decoded)
        if not self._has_item():
            await self._advance()
            if not self._has_item():
                raise RuntimeError("there is no item")
        self._index += 1
        return self._items[self._index - 1]

    def _has_item(self) -> bool:
        return 0 <= self._index < min(self._error_at, len(self._items))

    def _takes_pushes(self, pushes: PushBuffer) -> bool:
        """Whether the next item may come from a push; else ``_advance`` finds out what is to be done."""
        return (
            pushes.live
            and not pushes.stale
            and not self._busy
            and self._running_loop() is pushes.loop
            and self._binding.loop is pushes.loop
        )

    async def _advance(self) -> None:
        """Wait until there is an item; StopAsyncIteration at the end."""
        raise NotImplementedError


@final
class StreamEntry:
    """One stored batch, as its subscribers get it. Shared by all readers of the stream in this process.

    Args:
        term: of its id. first: sequence of its first chunk, also in its id. last: of its last chunk.
        body: newline separated chunks.

    Attributes:
        readers: that it was delivered to, as far as they have not decoded it.
        decoded: what one of them decoded, for the others to copy.
    """

    __slots__ = ("body", "decoded", "first", "last", "readers", "term")

    def __init__(self, term: int, first: int, last: int, body: bytes) -> None:
        self.term: int = term
        self.first: int = first
        self.last: int = last
        self.body: bytes = body
        self.readers: int = 0
        self.decoded: Any = None


class PushBuffer:
    """The pushes that one reader has not taken yet, and whether they count. Owned by one thread.

    It holds the rule of catching up: *subscribe, read the log once more, then take the pushes that continue it*. That
    reading finds every entry that was pushed before it; later pushes are buffered here. Call ``start`` when the channel
    is joined, ``begin_read`` before each request to the log, ``next_pushed`` for the pushes, and ``stop`` at the end. A
    push that does not continue the entries seen (a hole, another term), an event, a lost subscription or a full buffer
    makes it stale: the log must be read again, and no push counts before.

    Attributes:
        window: the sequences seen. entry_id: id of the last entry seen. The owner advances both as it reads the log.
        decoder: its ``decode(body, last, after)`` makes the chunks of a push; ``decode_shared`` does where they may be
            copied for other readers, and else returns None.
        live: the channel is joined.
        stale: the log is to be read before any push counts.
        announce_on_read: the next request must announce this reader to the stream's writers.
        loop: the event loop of the reader.
        waiter: future of a reader that waits for anything to happen. since: when the wait began, on the loop's clock.
        timed: a timer runs that ends a wait.
        pending: the pushes. pending_bytes: of their bodies.
    """

    def __init__(self) -> None:
        self.window: Window = None  # type: ignore[assignment]
        self.entry_id: bytes = b""
        self.decoder: Any = None
        self.live: bool = False
        self.stale: bool = False
        self.announce_on_read: bool = False
        self.loop: Any = None
        self.waiter: Any = None
        self.since: float = 0.0
        self.timed: bool = False
        self.pending: list[StreamEntry] = []
        self.pending_bytes: int = 0

    def start(self) -> None:
        """The channel was joined: buffer its pushes, which count when the log has been read once more."""
        self.live = True
        self.resync()

    def begin_read(self) -> bool:
        """The log is about to be read: a push that arrives from now on may be newer than the reply.

        Returns:
            whether the request must announce this reader.
        """
        announce, self.announce_on_read = self.announce_on_read, False
        self.stale = False
        return announce

    def fail_read(self, announce: bool) -> None:
        """The reading failed and must be repeated; ``announce`` is what ``begin_read`` returned for it."""
        self.announce_on_read = self.announce_on_read or announce
        self.mark_stale()

    def stop(self) -> None:
        """Take no more pushes: the stream has ended, or its reader has."""
        self.live = False
        self._drop()
        self.wake()

    def pushed(self, entry: StreamEntry | None) -> None:
        """One message of the channel; None for one that only says that the log has something new."""
        if entry is not None and type(entry) is not StreamEntry:
            raise TypeError(f"entry must be StreamEntry, not {type(entry).__name__}")
        if not self.live:
            return
        if entry is None:
            self.mark_stale()
            return
        if not self.stale:
            self.pending.append(entry)
            self.pending_bytes += len(entry.body)
            if len(self.pending) > MAX_PENDING_ENTRIES or self.pending_bytes > MAX_PENDING_BYTES:
                # A slow reader holds no more than this. It reads the rest from the log, when it gets there.
                self.mark_stale()
                return
        self.wake()

    def resync(self) -> None:
        """The channel was joined, perhaps anew: messages may have been missed."""
        self.announce_on_read = True
        self.mark_stale()

    def mark_stale(self) -> None:
        """Have the log read, which contains all that was pushed."""
        self.stale = True
        self._drop()
        self.wake()

    def wait(self) -> Any:
        """A future that is done when anything happens; the wait for it begins."""
        self.waiter = waiter = self.loop.create_future()
        self.since = self.loop.time()
        return waiter

    def wake(self) -> None:
        """Wake the reader, if it waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def idle(self) -> bool:
        """Whether there is nothing to do but to wait for a push."""
        return self.live and not self.stale and not self.pending

    def next_pushed(self) -> Any:
        """The chunks of the next push that has new ones, decoded; None if there is no such push."""
        while self.live and not self.stale and self.pending:
            entry = self.pending.pop(0)
            self.pending_bytes -= len(entry.body)
            seen = self.window.last
            # After another term there may be a reset whose event has not arrived yet.
            known = not self.entry_id or self.entry_id.startswith(b"%d-" % entry.term)
            if entry.first < 1 or entry.first - 1 > seen or not known:
                self.mark_stale()
            elif entry.last > seen:
                self.window.offer(entry.first, entry.last)
                self.entry_id = b"%d-%d" % (entry.term, entry.first)
                return _take_decoded(entry, self.decoder, seen)
        return None

    def _drop(self) -> None:
        self.pending.clear()
        self.pending_bytes = 0


def _take_decoded(entry: StreamEntry, decoder: Any, seen: int) -> Any:
    """One reader's chunks of an entry: decoded, or copies of what another reader has decoded."""
    if entry.readers < 2 and entry.decoded is None:
        return decoder.decode(entry.body, entry.last, seen)
    if entry.decoded is None:
        entry.decoded = decoder.decode_shared(entry.body, entry.last, seen)
        if entry.decoded is None:
            entry.readers = 0  # its chunks cannot be shared: each reader decodes
            return decoder.decode(entry.body, entry.last, seen)
    shared = entry.decoded
    if shared[0] != seen + 1:
        return decoder.decode(entry.body, entry.last, seen)
    entry.readers -= 1
    if entry.readers < 1:
        entry.decoded = None  # the last reader gets the originals
        return shared
    return shared[0], [chunk.__copy__() for chunk in shared[1]], False
