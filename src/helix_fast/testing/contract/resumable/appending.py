"""ResumableStorage: chunks by the sequences that the caller gives them."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import (
    ChunkTooLargeError,
    InvalidArgumentError,
    InvalidIdError,
    MalformedChunkError,
    SequenceConflictError,
    SequenceGapError,
    StaleFencingTokenError,
    StreamClosedError,
    StreamNotFoundError,
    StreamResetError,
    TextDeltaChunk,
)
from helix_fast.interfaces import ResumableStorage, StreamManager
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers, sequences
from helix_fast.testing.contract.fixtures import MakeStorage, RequestsOf
from helix_fast.testing.contract.ids import every_subclass, plain


async def test_what_is_appended_is_read(storage: ResumableStorage) -> None:
    info = await storage.create("s")
    assert (info.stream_id, info.status, info.last_sequence, info.first_sequence) == ("s", "active", 0, 1)
    assert info.epoch
    await storage.append("s", number(1), 1)
    await storage.append("s", TextDeltaChunk(delta="x"), 2)
    await storage.append_many("s", numbers(range(3, 8)), 3)
    found = await storage.read_from("s")
    assert sequences(found) == list(range(1, 8))
    assert found[1].chunk == TextDeltaChunk(delta="x")
    assert {one.epoch for one in found} == {info.epoch}
    await storage.end("s", [1])
    info = await storage.get_metadata("s")  # type: ignore[assignment]
    assert (info.status, info.output, info.last_sequence, info.chunk_count) == ("ended", [1], 7, 7)
    assert await storage.delete("s")
    assert await storage.get_metadata("s") is None
    assert await storage.read_from("s") == []


async def test_create_leaves_what_exists_as_it_is(storage: ResumableStorage) -> None:
    first = await storage.create("s")
    await storage.append("s", number(1), 1)
    again = await storage.create("s")
    assert (again.epoch, again.last_sequence) == (first.epoch, 1)
    await storage.fail("s", "broken")
    with pytest.raises(StreamClosedError) as caught:
        await storage.create("s")
    assert caught.value.status == "failed"


@pytest.mark.parametrize("wrong", [1, 2, 3, 5, 6, 100])
async def test_another_sequence_than_the_next_is_a_conflict_and_writes_nothing(
    storage: ResumableStorage, wrong: int
) -> None:
    await storage.create("s")
    await storage.append_many("s", numbers([1, 2, 3]), 1)
    with pytest.raises(SequenceConflictError) as caught:
        await storage.append("s", number(99), wrong)
    assert (caught.value.expected, caught.value.actual, caught.value.code) == (4, wrong, "sequence_conflict")
    with pytest.raises(SequenceConflictError):
        await storage.append_many("s", numbers([99, 98]), wrong)
    assert [number_of(one.chunk) for one in await storage.read_from("s")] == [1, 2, 3]


async def test_the_same_bytes_at_the_last_sequence_are_a_retry(storage: ResumableStorage) -> None:
    await storage.create("s")
    for n in (1, 2):
        for _ in range(3):
            await storage.append("s", number(n), n)
    for _ in range(2):
        await storage.append_many("s", numbers([3, 4, 5]), 3)
        await storage.append("s", TextDeltaChunk(delta="no time of its own"), 6)
        await storage.append("s", TextDeltaChunk(delta="no time of its own"), 6)
        break
    await storage.append_many("s", numbers([7, 8]), 7)
    await storage.append_many("s", numbers([7, 8]), 7)
    await storage.append("s", number(8), 8)
    assert sequences(await storage.read_from("s")) == list(range(1, 9))
    with pytest.raises(SequenceConflictError):
        await storage.append("s", number(7), 7)
    with pytest.raises(SequenceConflictError):
        await storage.append("s", number(80), 8)
    with pytest.raises(SequenceConflictError):
        await storage.append_many("s", numbers([70, 8]), 7)


async def test_a_retry_is_known_across_a_take_over_and_an_end(
    storage: ResumableStorage, streams: StreamManager
) -> None:
    await storage.create("s", fencing_token=1)
    await storage.append_many("s", numbers([1, 2]), 1, fencing_token=1)
    await storage.create("s", fencing_token=2)
    await storage.append_many("s", numbers([1, 2]), 1, fencing_token=2)
    await storage.append("s", number(2), 2, fencing_token=3)
    async with await streams.create_writer("s", "a", fencing_token=3) as writer:
        await writer.write_many(numbers([3, 4]))
    await storage.end("s")
    await storage.append("s", number(4), 4)
    with pytest.raises(StreamClosedError):
        await storage.append("s", number(5), 5)
    assert sequences(await storage.read_from("s")) == [1, 2, 3, 4]


async def test_large_appends_are_all_or_none(storage: ResumableStorage) -> None:
    await storage.create("s")
    chunks = [number(n, pad="x" * 500) for n in range(1, 1501)]  # several entries
    await storage.append_many("s", chunks, 1)
    await storage.append_many("s", chunks, 1)
    found = await storage.read_from("s")
    assert [number_of(one.chunk) for one in found] == list(range(1, 1501))
    with pytest.raises(SequenceConflictError):
        await storage.append_many("s", chunks, 1502)
    assert len(await storage.read_from("s")) == 1500
    await storage.append_many("s", [], 1501)


@pytest.mark.parametrize("after", [0, 1, 7, 99, 100, 250])
@pytest.mark.parametrize("limit", [None, 0, 1, 64, 65, 1000])
async def test_read_from_gives_the_rest_up_to_the_limit(
    storage: ResumableStorage, after: int, limit: int | None
) -> None:
    await storage.create("s")
    for n in range(1, 101):
        await storage.append("s", number(n), n)
    await storage.append_many("s", numbers(range(101, 251)), 101)
    found = await storage.read_from("s", after, limit)
    expected = list(range(after + 1, 251))
    assert sequences(found) == (expected if limit is None else expected[:limit])
    assert [number_of(one.chunk) for one in found] == sequences(found)


async def test_read_from_tells_gaps_and_resets(make_storage: MakeStorage, streams: StreamManager) -> None:
    storage = make_storage(max_stream_length=20)
    await storage.create("s")
    for n in range(1, 61):
        await storage.append("s", number(n), n)
    with pytest.raises(SequenceGapError) as caught:
        await storage.read_from("s", 3)
    assert caught.value.requested == 3
    first = caught.value.first_available
    assert sequences(await storage.read_from("s", first - 1)) == list(range(first, 61))
    await streams.reset_stream("s")
    with pytest.raises(StreamResetError):
        await storage.read_from("s", 59)
    assert await storage.read_from("s", 60) == await storage.read_from("s") == []


async def test_appending_needs_an_open_stream(storage: ResumableStorage) -> None:
    with pytest.raises(StreamNotFoundError):
        await storage.append("s", number(1), 1)
    await storage.create("s")
    await storage.append("s", number(1), 1)
    await storage.fail("s", "e")
    with pytest.raises(StreamClosedError) as caught:
        await storage.append("s", number(2), 2)
    assert caught.value.status == "failed"
    await storage.delete("s")
    with pytest.raises(StreamNotFoundError):
        await storage.append("s", number(2), 2)


async def test_a_stale_token_appends_nothing(storage: ResumableStorage) -> None:
    await storage.create("s", fencing_token=10)
    for attempt in (
        storage.append("s", number(1), 1, fencing_token=9),
        storage.append_many("s", numbers([1]), 1, fencing_token=2),
        storage.create("s", fencing_token=9),
        storage.end("s", fencing_token=9),
        storage.fail("s", "e", fencing_token=9),
    ):
        with pytest.raises(StaleFencingTokenError) as caught:
            await attempt
        assert caught.value.current == 10
    assert await storage.read_from("s") == []
    await storage.append("s", number(1), 1, fencing_token=10)


async def test_bad_input_is_refused_before_anything_is_sent(make_storage: MakeStorage, requests_of: RequestsOf) -> None:
    storage = make_storage(max_chunk_bytes=100)
    await storage.create("s")
    before = requests_of(storage)
    odd: Any
    for odd in (0, -1, 1.0, True, None, "1", 2**53):
        with pytest.raises(InvalidArgumentError):
            await storage.append("s", number(1), odd)
    for odd in (-1, 1.5, None, "0x"):
        with pytest.raises(InvalidArgumentError):
            await storage.read_from("s", odd)
    for odd in (-1, 1.5, "5"):
        with pytest.raises(InvalidArgumentError):
            await storage.read_from("s", 0, odd)
    for odd in (None, 5, {}, {"type": 1}, {"type": "x", "v": float("nan")}, b"{}", "x"):
        with pytest.raises(MalformedChunkError) as caught:
            await storage.append("s", odd, 1)
        assert caught.value.sequence == 1
        with pytest.raises(MalformedChunkError) as caught:
            await storage.append_many("s", [number(1), odd], 1)
        assert caught.value.sequence == 2
    with pytest.raises(ChunkTooLargeError):
        await storage.append("s", number(1, pad="x" * 100), 1)
    for odd in (5, None):
        with pytest.raises(InvalidArgumentError):
            await storage.append_many("s", odd, 1)
    for odd in ("", "a{b", None):
        for attempt in (
            lambda odd=odd: storage.create(odd),
            lambda odd=odd: storage.append(odd, number(1), 1),
            lambda odd=odd: storage.read_from(odd),
            lambda odd=odd: storage.get_metadata(odd),
            lambda odd=odd: storage.end(odd),
            lambda odd=odd: storage.delete(odd),
        ):
            with pytest.raises(InvalidIdError):
                await attempt()
    assert requests_of(storage) == before
    await storage.append("s", number(1), 1)


async def test_writers_and_appends_share_one_stream(storage: ResumableStorage, streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a")
    assert await writer.write(number(1)) == 1
    await storage.append("s", number(2), 2)
    assert await writer.write(number(3)) == 3
    assert await writer.write_many(numbers([4, 5])) == 5
    with pytest.raises(SequenceConflictError) as caught:
        await storage.append("s", number(4), 4)
    assert caught.value.expected == 6
    await storage.append_many("s", numbers([6, 7]), 6)
    assert [number_of(one.chunk) for one in await storage.read_from("s")] == list(range(1, 8))


@every_subclass
async def test_a_str_of_a_subclass_as_id_of_a_log_is_its_text(storage: ResumableStorage, name: str) -> None:
    await storage.create(name)
    await storage.append(name, {"type": "text_delta", "delta": name}, 1)
    (found,) = await storage.read_from(plain(name))
    assert isinstance(found.chunk, TextDeltaChunk)
    assert found.chunk.delta == plain(name)
