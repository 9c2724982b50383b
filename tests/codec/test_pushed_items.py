"""Items that come from pushes, and pushes that reach their subscribers, in both codecs."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from tests.codec.test_reader_items import buffer_of, push
from tests.codec.twins import on_each_twin

pytestmark = on_each_twin


def pushed_items_of(codec: Any, buffer: Any) -> Any:
    """Items that come from the pushes of a buffer; where something else is to be done, the end."""

    class Pushed(codec.ChunkIterator):
        def __init__(self) -> None:
            self._items, self._index, self._error_at = [], 0, 0
            self._pushes, self._binding = buffer, self
            self.loop = buffer.loop = asyncio.get_running_loop()
            self._running_loop = asyncio.get_running_loop
            self._cursor, self.timers = self, 0

        def time_silence(self) -> None:
            self.timers += 1

        def _take(self, decoded: Any) -> None:
            _body, last, after = decoded
            self._items, self._index, self._error_at = list(range(after + 1, last + 1)), 0, last - after

        async def _advance(self) -> None:
            raise StopAsyncIteration

    return Pushed()


async def test_items_of_pushes_come_without_a_page(codec) -> None:
    buffer = buffer_of(codec)
    items = pushed_items_of(codec, buffer)
    buffer.pushed(push(codec, 6, 7))
    buffer.pushed(push(codec, 8, 8))
    assert [await items.__anext__() for _ in range(3)] == [6, 7, 8]
    waiting = asyncio.ensure_future(items.__anext__())
    await asyncio.sleep(0)
    assert (items._busy, items.timers, buffer.waiter.done()) == (True, 1, False)
    assert buffer.since <= items.loop.time()
    buffer.pushed(push(codec, 9, 9))
    assert await waiting == 9
    assert not items._busy
    buffer.timed = True
    waiting = asyncio.ensure_future(items.__anext__())
    await asyncio.sleep(0)
    buffer.pushed(push(codec, 7, 9))  # seen: there is something else to do
    assert await anext_or_end(waiting) == "the end"
    assert items.timers == 1, "a timer runs already"


async def anext_or_end(step: Any) -> Any:
    try:
        return await step
    except StopAsyncIteration:
        return "the end"


async def test_a_step_advances_where_no_push_can_come(codec) -> None:
    buffer = buffer_of(codec)
    items = pushed_items_of(codec, buffer)
    for name, value in (("stale", True), ("live", False), ("loop", None)):
        before = getattr(buffer, name)
        setattr(buffer, name, value)
        assert await anext_or_end(items.__anext__()) == "the end"
        setattr(buffer, name, before)
    items.loop = None  # the store has gone on with another event loop
    assert await anext_or_end(items.__anext__()) == "the end"
    items.loop, items._busy = buffer.loop, True
    assert await anext_or_end(items.__anext__()) == "the end"
    assert (items.timers, buffer.waiter) == (0, None)


async def test_a_step_that_waits_for_a_push_ends_in_each_way(codec) -> None:
    buffer = buffer_of(codec)
    items = pushed_items_of(codec, buffer)

    def begin() -> Any:
        step = items.__anext__()
        assert asyncio.isfuture(step.send(None))
        assert items._busy
        return step

    step = begin()
    with pytest.raises(KeyError):
        step.throw(KeyError("thrown"))
    assert not items._busy
    begin().close()
    assert not items._busy
    step = begin()
    del step
    gc.collect()
    assert not items._busy, "a step that is dropped waits no more"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(items.__anext__(), 0.001)
    assert not items._busy
    waiting = asyncio.ensure_future(items.__anext__())
    await asyncio.sleep(0)
    buffer.stop()
    assert await anext_or_end(waiting) == "the end"
    buffer.start()
    buffer.begin_read()
    buffer.decoder = None
    waiting = asyncio.ensure_future(items.__anext__())
    await asyncio.sleep(0)
    buffer.pushed(push(codec, 6, 6))
    with pytest.raises(AttributeError):
        await waiting
    assert not items._busy


class Other:
    """A subscriber that is no buffer."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def pushed(self, entry: Any) -> None:
        self.entries.append(entry)


async def test_an_entry_is_given_to_every_subscriber_that_is_left(codec) -> None:
    buffer, other = buffer_of(codec), Other()
    subscribers = [weakref.ref(buffer), weakref.ref(Other()), weakref.ref(other)]
    gc.collect()
    codec.push_payload(subscribers, b"9-6:6\n{}")
    (entry,) = other.entries
    assert buffer.pending == [entry]
    assert (entry.term, entry.first, entry.last, entry.body, entry.readers) == (9, 6, 6, b"{}", 3)
    codec.push_entry(subscribers, push(codec, 7, 7))
    assert [entry.first for entry in buffer.pending] == [6, 7]
    for payload in (b"!", b"", b"9-7:6\n{}", b"9-6:6"):
        buffer.begin_read()
        codec.push_payload(subscribers, payload)
        assert (buffer.stale, other.entries[-1]) == (True, None)
    with pytest.raises((TypeError, AttributeError)):
        codec.push_payload(subscribers, "9-6:6\n{}")
