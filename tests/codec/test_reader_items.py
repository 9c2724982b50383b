"""What a reader has at hand, in both codecs: a step is what a coroutine would be, and no push is taken twice."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from helix_fast.codec.plain import reader as plain_reader
from tests.codec.twins import on_each_twin

pytestmark = on_each_twin


def items_of(codec: Any, *at_hand: Any, clean: int | None = None) -> Any:
    """Items that wait for a page of three more, once, and end then."""

    class Pages(codec.Items):
        def __init__(self) -> None:
            self._items, self._index = list(at_hand), 0
            self._clean = len(at_hand) if clean is None else clean
            self.gate = asyncio.Event()
            self.pages = [["x", "y", "z"]]

        async def _advance(self) -> None:
            await self.gate.wait()
            if not self.pages:
                raise StopAsyncIteration
            self._items, self._index, self._clean = self.pages.pop(), 0, 3

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
    assert await sooner == 1  # whoever awaits first has the first item
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


async def test_items_beyond_the_list_are_never_at_hand(codec) -> None:
    items = items_of(codec, 1, 2, clean=9)
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


# the inbox


class Decoder:
    """Tells what it was given."""

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


def inbox_of(codec: Any, seen: int = 5) -> Any:
    inbox = codec.Inbox()
    inbox.window, inbox.decoder, inbox.live = codec.Window(seen), Decoder(), True
    return inbox


def push(first: int, last: int, body: bytes = b"{}") -> bytes:
    return b"9-%d:%d\n%b" % (first, last, body)


async def test_pushes_that_continue_what_was_seen_are_taken_in_order(codec) -> None:
    inbox = inbox_of(codec)
    waiter = inbox.waiter = Waiter()
    assert inbox.waits()
    for first, last in ((1, 5), (4, 7), (8, 8), (6, 8), (9, 12)):  # seen, half seen, new, seen, new
        inbox.pushed(push(first, last))
    assert waiter.woken
    assert not inbox.waits()
    assert [inbox.at_hand() for _ in range(4)] == [(b"{}", 7, 5), (b"{}", 8, 7), (b"{}", 12, 8), None]
    assert (inbox.window.last, inbox.entry, inbox.pushes, inbox.pushed_bytes) == (12, b"9-9", [], 0)
    assert inbox.waits()


@pytest.mark.parametrize("payload", [b"!", push(7, 7), b"", b"nonsense", push(0, 6), push(9, 8), b"9-6:6"])
async def test_what_does_not_continue_has_the_log_read(codec, payload) -> None:
    inbox = inbox_of(codec)
    inbox.pushed(payload)
    waiter = inbox.waiter = Waiter()
    inbox.pushed(push(6, 6))
    assert waiter.woken
    assert inbox.at_hand() is None
    assert inbox.dirty
    assert (inbox.pushes, inbox.pushed_bytes, inbox.window.last, inbox.waits()) == ([], 0, 5, False)
    inbox.dirty = False
    inbox.pushed(push(6, 6))
    assert inbox.at_hand() == (b"{}", 6, 5)


async def test_a_push_of_another_term_is_not_believed(codec) -> None:
    """Behind a reset or a deletion sequences go on, and the word of it may come later than the push."""
    for entry in (b"8-5", b"90-5", b"9", b"-9"):
        inbox = inbox_of(codec)
        inbox.entry = entry
        inbox.pushed(push(6, 6))
        assert inbox.at_hand() is None
        assert (inbox.dirty, inbox.window.last, inbox.entry) == (True, 5, entry)
    inbox = inbox_of(codec)
    inbox.entry = b"9-5"
    inbox.pushed(push(6, 6))
    assert inbox.at_hand() == (b"{}", 6, 5)


async def test_a_step_that_catches_what_is_thrown_has_its_item(codec) -> None:
    class Catching(codec.Items):
        async def _advance(self) -> None:
            try:
                await asyncio.Event().wait()
            except KeyError:
                self._items, self._index, self._clean = [("the", "item")], 0, 1

    step = Catching().__anext__()
    step.send(None)
    with pytest.raises(StopIteration) as caught:
        step.throw(KeyError("thrown"))
    assert caught.value.value == ("the", "item")


@pytest.mark.parametrize("body", [b"", b"x" * 10_000])
async def test_a_reader_that_does_not_come_holds_only_so_much(codec, body) -> None:
    inbox = inbox_of(codec)
    most = 0
    for n in range(6, 2000):
        inbox.pushed(push(n, n, body))
        assert sum(map(len, inbox.pushes)) == inbox.pushed_bytes
        most = max(most, len(inbox.pushes))
    assert inbox.dirty
    assert most == (
        plain_reader.MAX_PUSHED_ENTRIES if not body else plain_reader.MAX_PUSHED_BYTES // len(push(6, 6, body))
    )


@pytest.mark.parametrize(
    ("attribute", "value"), [("live", False), ("closed", True), ("ended", True), ("error", KeyError()), ("dirty", True)]
)
async def test_nothing_is_at_hand_where_nothing_is_to_be_taken(codec, attribute, value) -> None:
    inbox = inbox_of(codec)
    inbox.pushed(push(6, 6))
    setattr(inbox, attribute, value)
    assert inbox.at_hand() is None
    assert not inbox.waits()
    assert inbox.window.last == 5


async def test_whoever_waits_is_woken_once_by_whatever_happens(codec) -> None:
    for happens in ("look", "resync", "rouse"):
        inbox = inbox_of(codec)
        getattr(inbox, happens)()
        waiter = inbox.waiter = Waiter()
        getattr(inbox, happens)()
        getattr(inbox, happens)()
        assert waiter.woken
        assert inbox.dirty == (happens != "rouse")
        assert inbox.joined == (happens == "resync")


async def test_an_inbox_takes_bytes_and_knows_what_it_lacks(codec) -> None:
    inbox = inbox_of(codec)
    for payload in (None, "text", bytearray(b"!")):
        with pytest.raises(TypeError):
            inbox.pushed(payload)
    assert (inbox.pushes, inbox.dirty) == ([], False)
    unfinished = codec.Inbox()
    unfinished.live = True
    unfinished.pushed(push(1, 1))
    with pytest.raises((AttributeError, TypeError)):
        unfinished.at_hand()
