"""What a reader has at hand, in plain Python: the twin of `compiled/reader.pxi`, and the contract of both."""

from __future__ import annotations

from typing import Any, Final

from .frame import parse_push
from .sequence import Window

MAX_PUSHED_ENTRIES: Final = 512
MAX_PUSHED_BYTES: Final = 1 << 20


class Items:
    """Hands out items that are there, one for each step of an ``async for``, and awaits ``_advance`` for more.

    A step takes its item when it is awaited, not before: one that was made and dropped, or cancelled before it began,
    takes nothing.

    Attributes:
        _items: the items. _index: of the next one. _clean: end of those that may be handed out.
    """

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._index = 0
        self._clean = 0

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        """The next item."""
        if not 0 <= self._index < min(self._clean, len(self._items)):
            await self._advance()
            if not 0 <= self._index < min(self._clean, len(self._items)):
                raise RuntimeError("there is no item")
        self._index += 1
        return self._items[self._index - 1]

    async def _advance(self) -> None:
        """Wait until there is an item; StopAsyncIteration at the end."""
        raise NotImplementedError


class Inbox:
    """The pushes that a reader has not read yet, as far as they continue what it has seen. Owned by one thread.

    A listener of its stream's channel. Whatever does not continue what was seen (a hole, the word that something is in
    the log, another term, a lost subscription, more than it holds) makes it ``dirty``: the log is to be read, and no
    push counts.

    Attributes:
        window: what was seen. entry: id of the entry seen last.
        decoder: its ``decode(body, last, after)`` makes the chunks of a push.
        joined: the channel was, and its publishers do not know of it yet.
        live: everything before the pushes was read. closed, ended, error: nothing more is taken.
        waiter: future of a reader that waits for anything to happen.
        pushes: that wait to be read. pushed_bytes: theirs.
    """

    def __init__(self) -> None:
        self.window: Window = None  # type: ignore[assignment]
        self.entry = b""
        self.decoder: Any = None
        self.live = False
        self.dirty = False
        self.joined = False
        self.closed = False
        self.ended = False
        self.error: Any = None
        self.waiter: Any = None
        self.pushes: list[bytes] = []
        self.pushed_bytes = 0

    def pushed(self, payload: bytes) -> None:
        """A message of the channel."""
        if type(payload) is not bytes:
            raise TypeError(f"payload must be bytes, not {type(payload).__name__}")
        if not self.dirty:
            if payload == b"!":
                self.look()
                return
            self.pushes.append(payload)
            self.pushed_bytes += len(payload)
            if len(self.pushes) > MAX_PUSHED_ENTRIES or self.pushed_bytes > MAX_PUSHED_BYTES:
                # A slow reader holds no more than this; the rest it reads from the log, when it gets there.
                self.look()
                return
        self.rouse()

    def resync(self) -> None:
        """The channel was joined, again perhaps: messages may have been missed."""
        self.joined = True
        self.look()

    def look(self) -> None:
        """Have the log read, which has all that the pushes have."""
        self.dirty = True
        self.pushes.clear()
        self.pushed_bytes = 0
        self.rouse()

    def rouse(self) -> None:
        """Wake the reader, if it waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def waits(self) -> bool:
        """Whether nothing is to be done but to wait for a push."""
        return self._taking() and not self.pushes

    def at_hand(self) -> Any:
        """What the decoder makes of the next push that has something new; None where there is none."""
        while self._taking() and self.pushes:
            payload = self.pushes.pop(0)
            self.pushed_bytes -= len(payload)
            seen = self.window.last
            try:
                term, first, last, body = parse_push(payload)
                # Behind another term there may be a reset of which no word has come yet.
                known = not self.entry or self.entry.startswith(b"%d-" % term)
                drop = self.window.offer(first, last) if known else -2
            except (ValueError, OverflowError):
                drop = -2  # nothing of ours: the log is the truth
            if drop == -2:
                self.look()
            elif drop >= 0:
                self.entry = payload[: payload.index(b":")]
                return self.decoder.decode(body, last, seen)
        return None

    def _taking(self) -> bool:
        return self.live and not (self.dirty or self.closed or self.ended) and self.error is None
