"""How much of a stream is kept: at least what was asked for, and little more."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import (
    InvalidArgumentError,
    SequenceGapError,
)
from helix_fast.testing.contract.chunk_helpers import number, numbers, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams


@pytest.mark.parametrize("length", [1, 10, 25, 100, 500])
@pytest.mark.parametrize("size", [1, 7, 64])
async def test_trimming_keeps_at_least_the_length_and_at_most_a_tenth_and_a_batch_more(
    make_streams: MakeStreams, length: int, size: int
) -> None:
    streams = make_streams(max_stream_length=length)
    writer = await streams.create_writer("s", "a")
    last, kept_chunks = 0, 0
    while last < 2 * length + 150:
        last = await writer.write_many(numbers(range(size)))
        info = await streams.get_info("s")
        assert info is not None
        assert info.last_sequence == last
        kept_chunks = info.chunk_count
        assert kept_chunks >= min(length, last)
        assert kept_chunks <= length + length / 10 + size + 1
    kept = await take(await streams.create_resumable_reader("s", on_gap="skip"), kept_chunks)
    assert sequences(kept) == list(range(last - kept_chunks + 1, last + 1))


async def test_trimming_goes_on_across_take_overs_and_resets(make_streams: MakeStreams) -> None:
    length, last = 50, 0
    for token in range(20):
        streams = make_streams(max_stream_length=length)
        async with await streams.create_writer("s", "a", fencing_token=token) as writer:
            for _ in range(token % 5 * 4):
                last = await writer.write_many(numbers(range(token % 3 + 1)))
                info = await streams.get_info("s")
                assert info is not None
                assert min(length, last) <= info.chunk_count <= length * 1.1 + 8
                kept = await take(await streams.create_resumable_reader("s", on_gap="skip"), info.chunk_count)
                assert sequences(kept) == list(range(info.first_sequence, last + 1))
                if info.first_sequence > 2:
                    with pytest.raises(SequenceGapError) as caught:
                        await streams.create_resumable_reader("s", from_sequence=info.first_sequence - 2)
                    assert caught.value.first_available == info.first_sequence
        await streams.close()
    streams = make_streams(max_stream_length=length)
    await streams.reset_stream("s")
    writer = await streams.create_writer("s", "a", fencing_token=100)
    for n in range(1, 200):
        await writer.write(number(n))
        info = await streams.get_info("s")
        assert info is not None
        assert min(length, n) <= info.chunk_count <= length * 1.1 + 4


async def test_two_processes_trim_within_the_bounds(make_streams: MakeStreams) -> None:
    managers = [make_streams(max_stream_length=100) for _ in range(2)]
    writers = [await manager.create_writer("s", "a") for manager in managers]
    for n in range(300):
        await writers[n % 3 % 2].write_many(numbers(range(n % 4 + 1)))
        info = await managers[0].get_info("s")
        assert info is not None
        assert min(100, info.last_sequence) <= info.chunk_count <= 100 * 1.1 + 8


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": -1}, {"ttl": 1.5}, {"ttl": "5"}, {"max_stream_length": -1}, {"max_stream_length": True},
        {"block_timeout": 0}, {"block_timeout": float("nan")}, {"lease_ms": 1}, {"linger_ms": -1},
        {"max_chunk_bytes": 0}, {"max_buffered_bytes": 0}, {"key_prefix": "a{"}, {"key_prefix": 5},
    ],
    ids=repr,
)  # fmt: skip
def test_stream_settings_that_make_no_sense_are_refused(make_streams: MakeStreams, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        make_streams(**options)
