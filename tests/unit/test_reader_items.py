"""What a reader has at hand: a step is what a coroutine would be, in both codecs."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.unit.codec_twins import on_each_twin

pytestmark = on_each_twin


def items_of(codec: Any, *at_hand: Any, clean: int | None = None) -> Any:
    """Items that wait for a page of three more, once, and end then."""

    class Pages(codec.Items):
        def __init__(self) -> None:
            self._items, self._index = list(at_hand), 0
            self._clean = len(at_hand) if clean is None else clean
            self.gate = asyncio.Event()
            self.pages = [["x", "y", "z"]]

        async def _more(self) -> Any:
            await self.gate.wait()
            if not self.pages:
                raise StopAsyncIteration
            self._items, self._index, self._clean = self.pages.pop(), 1, 3
            return self._items[0]

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
