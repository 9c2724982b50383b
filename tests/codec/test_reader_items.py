"""Iteration over chunks, and the buffer of pushes, in both codecs: a step behaves as a coroutine would."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from helix_fast.codec.plain import reader as plain_reader
from tests.codec.twins import on_each_twin

pytestmark = on_each_twin


def items_of(codec: Any, *items: Any, error_at: int | None = None) -> Any:
    """Items that wait for a page of three more, once, and end then."""

    class Pages(codec.ChunkIterator):
        def __init__(self) -> None:
            self._items, self._index = list(items), 0
            self._error_at = len(items) if error_at is None else error_at
            self.gate = asyncio.Event()
            self.pages = [["x", "y", "z"]]

        async def _advance(self) -> None:
            await self.gate.wait()
            if not self.pages:
                raise StopAsyncIteration
            self._items, self._index, self._error_at = self.pages.pop(), 0, 3

    return Pages()


async def test_items_come_in_order_across_pages_until_the_end(codec) -> None:
    items = items_of(codec, 1, (2, 3), None, ValueError("a value"))
    items.gate.set()
    found = [item async for item in items]
    assert found[:3] == [1, (2, 3), None]
    assert isinstance(found[3], ValueError)
    assert found[4:] == ["x", "y", "z"]
    assert aiter(items) is items


async def test_a_step_is_taken_like_a_coroutine(codec) -> None:
    items = items_of(codec, *range(5))
    assert await items.__anext__() == 0
    assert await asyncio.wait_for(items.__anext__(), 1) == 1
    assert await asyncio.ensure_future(items.__anext__()) == 2
    assert await asyncio.get_running_loop().create_task(items.__anext__()) == 3
    assert (await asyncio.gather(items.__anext__(), asyncio.sleep(0)))[0] == 4
    waiting = asyncio.ensure_future(items.__anext__())
    await asyncio.sleep(0)
    assert not waiting.done()
    items.gate.set()
    assert await waiting == "x"
    assert await anext(items, None) == "y"
    assert await anext(items) == "z"
    assert await anext(items, "the end") == "the end"


async def test_a_step_that_does_not_begin_takes_nothing(codec) -> None:
    items = items_of(codec, 1, 2, 3)
    step = items.__anext__()
    step.close()
    cancelled = asyncio.ensure_future(items.__anext__())
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(KeyError):
        items.__anext__().throw(KeyError("thrown"))
    later, sooner = items.__anext__(), items.__anext__()
    assert await sooner == 1  # the first to await gets the first item
    assert await later == 2


async def test_a_step_that_waits_is_cancelled_and_another_goes_on(codec) -> None:
    items = items_of(codec)
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(items.__anext__(), 0.001)
    items.gate.set()
    assert await items.__anext__() == "x"


async def test_a_step_is_awaited_once(codec) -> None:
    items = items_of(codec, 1, 2)
    step = items.__anext__()
    assert await step == 1
    with pytest.raises(RuntimeError, match="awaited"):
        await step
    assert await items.__anext__() == 2


async def test_a_step_that_waits_takes_what_is_thrown_and_ends_when_closed(codec) -> None:
    items = items_of(codec)
    for end in ("throw", "close"):
        step = items.__anext__()
        waits_for = step.send(None)
        assert asyncio.isfuture(waits_for)
        if end == "throw":
            with pytest.raises(KeyError):
                step.throw(KeyError("thrown"))
        else:
            step.close()
    items.gate.set()
    assert await items.__anext__() == "x"


async def test_items_beyond_the_list_are_never_yielded(codec) -> None:
    items = items_of(codec, 1, 2, error_at=9)
    items.gate.set()
    assert [await items.__anext__() for _ in range(3)] == [1, 2, "x"]
    items._index = -1
    items.pages = [["again", "b", "c"]]
    assert await items.__anext__() == "again"


async def test_items_and_steps_are_collected(codec) -> None:
    items = items_of(codec)
    step = items.__anext__()
    step.send(None)
    items.itself, items.step = items, step
    gone: list[int] = []
    items.last = Last(gone)
    del items, step
    gc.collect()
    assert gone == [1]


class Last:
    def __init__(self, gone: list[int]) -> None:
        self.gone = gone

    def __del__(self) -> None:
        self.gone.append(1)


async def test_a_step_that_catches_what_is_thrown_has_its_item(codec) -> None:
    class Catching(codec.ChunkIterator):
        async def _advance(self) -> None:
            try:
                await asyncio.Event().wait()
            except KeyError:
                self._items, self._index, self._error_at = [("the", "item")], 0, 1

    step = Catching().__anext__()
    step.send(None)
    with pytest.raises(StopIteration) as caught:
        step.throw(KeyError("thrown"))
    assert caught.value.value == ("the", "item")


# the buffer of pushes


class Decoder:
    """Returns its arguments."""

    def decode(self, body: bytes, last: int, after: int) -> Any:
        return body, last, after


class Waiter:
    def __init__(self) -> None:
        self.woken = False

    def done(self) -> bool:
        return self.woken

    def set_result(self, _result: None) -> None:
        assert not self.woken
        self.woken = True


def buffer_of(codec: Any, seen: int = 5) -> Any:
    """A buffer whose owner has joined the channel, and read the log up to sequence ``seen`` after that."""
    buffer = codec.PushBuffer()
    buffer.window, buffer.decoder = codec.Window(seen), Decoder()
    buffer.start()
    assert buffer.begin_read()
    return buffer


def push(codec: Any, first: int, last: int, body: bytes = b"{}") -> Any:
    return codec.StreamEntry(9, first, last, body)


async def test_pushes_that_continue_what_was_seen_are_taken_in_order(codec) -> None:
    buffer = buffer_of(codec)
    waiter = buffer.waiter = Waiter()
    assert buffer.idle()
    for first, last in ((1, 5), (4, 7), (8, 8), (6, 8), (9, 12)):  # seen, half seen, new, seen, new
        buffer.pushed(push(codec, first, last))
    assert waiter.woken
    assert not buffer.idle()
    assert [buffer.next_pushed() for _ in range(4)] == [(b"{}", 7, 5), (b"{}", 8, 7), (b"{}", 12, 8), None]
    assert (buffer.window.last, buffer.entry_id, buffer.pending, buffer.pending_bytes) == (12, b"9-9", [], 0)
    assert buffer.idle()


@pytest.mark.parametrize("ends", [None, (7, 7), (0, 6), (2**64 - 1, 2**64 - 1)])
async def test_what_does_not_continue_has_the_log_read(codec, ends) -> None:
    buffer = buffer_of(codec)
    buffer.pushed(ends and push(codec, *ends))
    waiter = buffer.waiter = Waiter()
    buffer.pushed(push(codec, 6, 6))
    assert waiter.woken
    assert buffer.next_pushed() is None
    assert buffer.stale
    assert (buffer.pending, buffer.pending_bytes, buffer.window.last, buffer.idle()) == ([], 0, 5, False)
    assert not buffer.begin_read()
    buffer.pushed(push(codec, 6, 6))
    assert buffer.next_pushed() == (b"{}", 6, 5)


async def test_a_push_of_another_term_is_not_believed(codec) -> None:
    """After a reset or a deletion sequences go on, and its event may arrive later than the push."""
    for entry_id in (b"8-5", b"90-5", b"9", b"-9", b"99-5"):
        buffer = buffer_of(codec)
        buffer.entry_id = entry_id
        buffer.pushed(push(codec, 6, 6))
        assert buffer.next_pushed() is None
        assert (buffer.stale, buffer.window.last, buffer.entry_id) == (True, 5, entry_id)
    buffer = buffer_of(codec)
    buffer.entry_id = b"9-5"
    buffer.pushed(push(codec, 6, 6))
    assert buffer.next_pushed() == (b"{}", 6, 5)


@pytest.mark.parametrize("body", [b"", b"x" * 10_000])
async def test_a_reader_that_does_not_come_holds_only_so_much(codec, body) -> None:
    buffer = buffer_of(codec)
    most = 0
    for n in range(6, 2000):
        buffer.pushed(push(codec, n, n, body))
        assert sum(len(entry.body) for entry in buffer.pending) == buffer.pending_bytes
        most = max(most, len(buffer.pending))
    assert buffer.stale
    assert most == (plain_reader.MAX_PENDING_ENTRIES if not body else plain_reader.MAX_PENDING_BYTES // len(body))


async def test_a_push_counts_only_when_the_log_was_read_after_joining(codec) -> None:
    buffer = codec.PushBuffer()
    buffer.window, buffer.decoder = codec.Window(5), Decoder()
    buffer.pushed(push(codec, 6, 6))
    assert (buffer.idle(), buffer.next_pushed(), buffer.pending) == (False, None, []), "the channel was not joined"
    buffer.start()
    buffer.pushed(push(codec, 6, 6))
    assert (buffer.idle(), buffer.next_pushed(), buffer.pending) == (False, None, []), "the log was not read"
    assert buffer.begin_read(), "the first reading announces this reader to the writers"
    buffer.pushed(push(codec, 6, 6))
    buffer.fail_read(True)
    assert (buffer.idle(), buffer.next_pushed()) == (False, None), "the reading failed"
    assert buffer.begin_read(), "so does the next one, where the first has failed"
    buffer.pushed(push(codec, 6, 7))
    assert buffer.next_pushed() == (b"{}", 7, 5)
    assert buffer.idle()
    buffer.mark_stale()
    assert not buffer.begin_read(), "the channel is the same"


@pytest.mark.parametrize("verb", ["stop", "mark_stale", "resync"])
async def test_nothing_is_next_where_nothing_is_to_be_taken(codec, verb) -> None:
    buffer = buffer_of(codec)
    buffer.pushed(push(codec, 6, 6))
    getattr(buffer, verb)()
    buffer.pushed(push(codec, 6, 6))
    assert buffer.next_pushed() is None
    assert not buffer.idle()
    assert (buffer.pending, buffer.pending_bytes, buffer.window.last) == ([], 0, 5)


async def test_a_reader_that_waits_is_woken_once_by_anything_that_happens(codec) -> None:
    for happens in ("mark_stale", "resync", "stop", "wake"):
        buffer = buffer_of(codec)
        getattr(buffer, happens)()
        waiter = buffer.waiter = Waiter()
        getattr(buffer, happens)()
        getattr(buffer, happens)()
        assert waiter.woken
        assert buffer.stale == (happens in {"mark_stale", "resync"})
        assert buffer.announce_on_read == (happens == "resync")
        assert buffer.live == (happens != "stop")


async def test_a_buffer_takes_entries_and_knows_what_it_lacks(codec) -> None:
    buffer = buffer_of(codec)
    for entry in (b"9-6:6\n{}", "text", (9, 6, 6, b"{}")):
        with pytest.raises(TypeError):
            buffer.pushed(entry)
    assert (buffer.pending, buffer.stale) == ([], False)
    unfinished = codec.PushBuffer()
    unfinished.start()
    unfinished.begin_read()
    unfinished.pushed(push(codec, 1, 1))
    with pytest.raises((AttributeError, TypeError)):
        unfinished.next_pushed()


async def test_an_entry_is_what_it_was_made_of(codec) -> None:
    entry = codec.StreamEntry(1, 2, 2**64 - 1, b"a\nb")
    assert (entry.term, entry.first, entry.last, entry.body) == (1, 2, 2**64 - 1, b"a\nb")
    assert (entry.readers, entry.decoded) == (0, None)
    with pytest.raises(AttributeError):
        entry.no_such = 1
