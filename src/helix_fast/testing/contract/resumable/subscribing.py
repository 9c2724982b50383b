"""subscribe(): every chunk to a callback, in order, one at a time, whatever the callback does."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from helix_fast import (
    HelixError,
    InvalidArgumentError,
    InvalidIdError,
    SequenceGapError,
    StoreClosedError,
    StreamFailedError,
    StreamResetError,
)
from helix_fast.interfaces import ResumableStorage, StreamManager
from helix_fast.streams.chunks import StreamChunk
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers
from helix_fast.testing.contract.fixtures import MakeStorage
from helix_fast.testing.waiting import until


class Heard:
    """A callback that remembers."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []

    def __call__(self, chunk: StreamChunk, sequence: int) -> None:
        self.got.append((sequence, number_of(chunk)))

    async def wait(self, count: int) -> list[tuple[int, int]]:
        await until(lambda: len(self.got) >= count, what=f"{count} chunks")
        return self.got


def pairs(first: int, last: int) -> list[tuple[int, int]]:
    return [(n, n) for n in range(first, last + 1)]


async def append(storage: ResumableStorage, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await storage.append("s", number(n), n)


async def test_stored_and_live_chunks_from_a_sequence(storage: ResumableStorage) -> None:
    await storage.create("s")
    await append(storage, 1, 5)
    all_of_it, rest = Heard(), Heard()
    storage.subscribe("s", all_of_it, from_sequence=0)
    storage.subscribe("s", rest, from_sequence=3)
    await append(storage, 6, 30)
    assert await all_of_it.wait(30) == pairs(1, 30)
    assert await rest.wait(27) == pairs(4, 30)


async def test_without_a_sequence_only_what_is_written_after_the_call(make_storage: MakeStorage) -> None:
    for attempt in range(5):
        storage = make_storage(key_prefix=f"p{attempt}:")
        await storage.create("s")
        await append(storage, 1, 5)
        heard = Heard()
        storage.subscribe("s", heard)  # not a coroutine: what comes next is written after it
        await append(storage, 6, 9)
        assert await heard.wait(4) == pairs(6, 9)


async def test_a_stream_that_is_made_later_is_heard_from_its_first_chunk(storage: ResumableStorage) -> None:
    live, whole = Heard(), Heard()
    storage.subscribe("s", live)
    storage.subscribe("s", whole, from_sequence=0)
    await asyncio.sleep(0.02)
    await storage.create("s")
    await append(storage, 1, 3)
    assert await live.wait(3) == await whole.wait(3) == pairs(1, 3)


async def test_callbacks_run_one_at_a_time_and_in_order(storage: ResumableStorage) -> None:
    running = 0
    heard = Heard()

    async def slow(chunk: StreamChunk, sequence: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.001)
        heard(chunk, sequence)
        running -= 1

    await storage.create("s")
    done = storage.subscribe("s", slow, from_sequence=0)
    await append(storage, 1, 40)
    await storage.end("s")
    await asyncio.wait_for(_wait(done), 10)
    assert heard.got == pairs(1, 40), "awaiting the subscription waits for the last chunk's delivery"


async def _wait(subscription: Any) -> None:
    await subscription


async def test_a_callback_that_raises_is_reported_and_hears_on(storage: ResumableStorage) -> None:
    errors: list[HelixError] = []
    storage.on("error", errors.append)
    heard, other = Heard(), Heard()

    def moody(chunk: StreamChunk, sequence: int) -> None:
        heard(chunk, sequence)
        if sequence % 2:
            raise RuntimeError(f"not {sequence}")

    async def moody_too(chunk: StreamChunk, sequence: int) -> None:
        moody(chunk, sequence)

    await storage.create("s")
    storage.subscribe("s", moody, from_sequence=0)
    storage.subscribe("s", other, from_sequence=0)
    await append(storage, 1, 6)
    assert await heard.wait(6) == await other.wait(6) == pairs(1, 6)
    await until(lambda: len(errors) == 3, what="the reports")
    assert [str(error.__cause__) for error in errors] == ["not 1", "not 3", "not 5"]
    heard.got.clear()
    storage.subscribe("s", moody_too, from_sequence=4)
    assert await heard.wait(2) == pairs(5, 6)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task cannot be asked whether it is being cancelled")
async def test_a_callback_that_waits_for_something_cancelled_is_reported_and_hears_on(
    storage: ResumableStorage,
) -> None:
    errors: list[HelixError] = []
    storage.on("error", errors.append)
    heard = Heard()

    async def waits(chunk: StreamChunk, sequence: int) -> None:
        heard(chunk, sequence)
        if sequence == 1:
            other = asyncio.get_running_loop().create_future()
            other.cancel()
            await other

    await storage.create("s")
    storage.subscribe("s", waits, from_sequence=0)
    await append(storage, 1, 3)
    assert await heard.wait(3) == pairs(1, 3)
    assert [type(error.__cause__) for error in errors] == [asyncio.CancelledError]


async def test_after_unsubscribing_no_callback_runs(storage: ResumableStorage) -> None:
    heard = Heard()
    await storage.create("s")
    unsubscribe = storage.subscribe("s", heard, from_sequence=0)
    await append(storage, 1, 3)
    await heard.wait(3)
    await unsubscribe()
    await unsubscribe()
    await append(storage, 4, 6)
    await asyncio.sleep(0.02)
    assert heard.got == pairs(1, 3)


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_callback_may_unsubscribe_itself(storage: ResumableStorage, awaited: bool) -> None:
    heard = Heard()
    await storage.create("s")
    await storage.append_many("s", numbers(range(1, 101)), 1)

    def stop(chunk: StreamChunk, sequence: int) -> None:
        heard(chunk, sequence)
        if sequence == 3:
            unsubscribe()

    async def stop_awaited(chunk: StreamChunk, sequence: int) -> None:
        heard(chunk, sequence)
        if sequence == 3:
            await unsubscribe()

    unsubscribe = storage.subscribe("s", stop_awaited if awaited else stop, from_sequence=0)
    await asyncio.wait_for(_wait(unsubscribe), 5)
    assert heard.got == pairs(1, 3)


async def test_what_ends_a_subscription_early_is_reported(make_storage: MakeStorage, streams: StreamManager) -> None:
    storage = make_storage(max_stream_length=20)
    errors: list[HelixError] = []
    storage.on("error", errors.append)
    await storage.create("s")
    await append(storage, 1, 60)
    await asyncio.wait_for(_wait(storage.subscribe("s", Heard(), from_sequence=2)), 5)
    assert [type(error) for error in errors] == [SequenceGapError]
    reset, failed = storage.subscribe("s", Heard()), Heard()
    await asyncio.sleep(0.02)
    await streams.reset_stream("s")
    await asyncio.wait_for(_wait(reset), 5)
    assert [type(error) for error in errors[1:]] == [StreamResetError]
    last = storage.subscribe("s", failed, from_sequence=60)
    await storage.append("s", number(61), 61)
    await storage.fail("s", "broken")
    await asyncio.wait_for(_wait(last), 5)
    assert failed.got == pairs(61, 61)
    assert [type(error) for error in errors[2:]] == [StreamFailedError]


async def test_closing_the_storage_ends_its_subscriptions(storage: ResumableStorage) -> None:
    await storage.create("s")
    subscriptions = [storage.subscribe("s", Heard()) for _ in range(3)]
    subscriptions.append(storage.subscribe("none", Heard()))
    await asyncio.sleep(0.02)
    await storage.close()
    for subscription in subscriptions:
        await asyncio.wait_for(_wait(subscription), 5)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    with pytest.raises(StoreClosedError):
        storage.subscribe("s", Heard())


async def test_bad_arguments_are_refused(storage: ResumableStorage) -> None:
    with pytest.raises(InvalidIdError):
        storage.subscribe("a{", Heard())
    for odd in (-1, 1.5, "0x", True):
        with pytest.raises(InvalidArgumentError):
            storage.subscribe("s", Heard(), from_sequence=odd)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        storage.subscribe("s", None)  # type: ignore[arg-type]
