"""``writer.until_stopped``: a source is passed on until somebody asks to stop, then cancelled where it waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import InvalidArgumentError
from helix_fast.interfaces import StreamManager, StreamWriter
from helix_fast.testing.contract.chunk_helpers import rest
from helix_fast.testing.contract.fixtures import MakeStreams


class Model:
    """A source that yields some tokens and then waits for ever, as a model that thinks."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.waiting: asyncio.Event = asyncio.Event()
        self.closed: bool = False

    async def stream(self) -> AsyncIterator[str]:
        try:
            for n in range(self.tokens):
                yield str(n)
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.fixture
async def writer(streams: StreamManager) -> StreamWriter:
    return await streams.create_writer("s", "agent")


async def pass_on(writer: StreamWriter, model: Model) -> tuple[list[str], bool]:
    """The tokens that were passed on, and whether a stop request ended it."""
    found = []
    source = writer.until_stopped(model.stream())
    async for token in source:
        found.append(token)
        writer.send_text(token)
    return found, source.stopped


async def test_a_source_that_waits_is_cancelled_and_closed(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    writer = await here.create_writer("s", "agent")
    model = Model(3)
    passing = asyncio.ensure_future(pass_on(writer, model))
    await asyncio.wait_for(model.waiting.wait(), 30)
    assert not passing.done()
    await there.request_stop("s", "the user went away")
    assert await asyncio.wait_for(passing, 30) == (["0", "1", "2"], True)
    assert model.closed
    assert writer.stop_reason == "the user went away"
    await writer.close()
    await here.end_stream("s")
    assert [one.chunk.delta for one in await rest(await there.create_resumable_reader("s"))] == ["0", "1", "2"]  # type: ignore[union-attr]


async def test_a_source_that_ends_was_not_stopped(streams: StreamManager, writer: StreamWriter) -> None:
    async def three() -> AsyncIterator[int]:
        for n in range(3):
            await asyncio.sleep(0)
            yield n

    source = writer.until_stopped(three())
    assert [n async for n in source] == [0, 1, 2]
    await streams.request_stop("s")
    await asyncio.wait_for(writer.stop_requested.wait(), 30)
    assert [n async for n in source] == []
    assert not source.stopped


async def test_after_a_stop_request_nothing_is_passed_on(streams: StreamManager, writer: StreamWriter) -> None:
    model = Model(3)
    source = writer.until_stopped(model.stream())
    assert await anext(source) == "0"
    await streams.request_stop("s")
    await asyncio.wait_for(writer.stop_requested.wait(), 30)
    assert [token async for token in source] == []
    assert (source.stopped, model.closed) == (True, True)
    assert await pass_on(writer, Model(3)) == ([], True)


async def test_a_source_may_ask_for_the_stop_itself(streams: StreamManager, writer: StreamWriter) -> None:
    async def until_it_is_enough() -> AsyncIterator[int]:
        yield 1
        await streams.request_stop("s")
        await asyncio.Event().wait()

    source = writer.until_stopped(until_it_is_enough())
    assert [n async for n in source] == [1]
    assert source.stopped


async def test_a_cancelled_task_is_cancelled(streams: StreamManager, writer: StreamWriter) -> None:
    """Also if the stop request comes at the same time, where Python can tell."""
    for both in (False, True) if sys.version_info >= (3, 11) else (False,):
        model = Model(0)
        passing = asyncio.ensure_future(pass_on(writer, model))
        await asyncio.wait_for(model.waiting.wait(), 30)
        if both:
            asking = asyncio.ensure_future(streams.request_stop("s"))
            await writer.stop_requested.wait()
            passing.cancel()
            await asking
        else:
            passing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await passing
        assert model.closed


async def test_the_task_goes_on_as_if_it_had_never_been_cancelled(streams: StreamManager, writer: StreamWriter) -> None:
    async def whole() -> int:
        await pass_on(writer, model)
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.sleep(0), 30)
        task: Any = asyncio.current_task()
        return int(task.cancelling()) if sys.version_info >= (3, 11) else 0

    model = Model(1)
    passing = asyncio.ensure_future(whole())
    await asyncio.wait_for(model.waiting.wait(), 30)
    await streams.request_stop("s")
    assert await asyncio.wait_for(passing, 30) == 0


async def test_an_error_of_the_source_goes_up(writer: StreamWriter) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    source = writer.until_stopped(broken())
    assert await anext(source) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(source)
    assert not source.stopped


async def test_a_source_that_iterates_over_something_else_is_closed_too(
    streams: StreamManager, writer: StreamWriter
) -> None:
    """As the streams of OpenAI and Anthropic do; to close them frees their connection."""

    class Response:
        def __init__(self) -> None:
            self.closed = 0

        def __aiter__(self) -> AsyncIterator[str]:
            return Model(1).stream()

        async def close(self) -> None:
            self.closed += 1

    stopped, left = Response(), Response()
    source = writer.until_stopped(stopped)
    assert await anext(source) == "0"
    async with writer.until_stopped(left) as other:
        assert await anext(other) == "0"
    assert left.closed == 1
    await streams.request_stop("s")
    assert [token async for token in source] == []
    assert stopped.closed == 1


async def test_a_source_is_an_async_iterable(writer: StreamWriter) -> None:
    async def model() -> AsyncIterator[str]:
        return Model(1).stream()

    forgotten = model()
    for wrong in ([1, 2], None, forgotten):
        with pytest.raises(InvalidArgumentError, match="async iterable") as caught:
            writer.until_stopped(wrong)  # type: ignore[arg-type]
        assert ("await it" in caught.value.hint) == (wrong is forgotten)
    forgotten.close()
