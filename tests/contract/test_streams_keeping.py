"""How long streams are kept: a TTL on every key from its first moment, and trimming within its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import (
    InvalidArgumentError,
    RedisResumableStorage,
    SequenceGapError,
)
from tests.contract.conftest import MakeStorage, MakeStreams
from tests.support.streams import number, numbers, sequences, take

STREAM = "helix:stream:{s}"


async def assert_every_key_expires(raw: Any, seconds: int) -> int:
    """Every key of the server has a TTL, none above `seconds`; returns how many keys there are."""
    keys = [key async for key in raw.scan_iter()]
    for key in keys:
        left = await raw.pttl(key)
        assert 0 < left <= seconds * 1000, f"{key!r} lives {left} ms"
    return len(keys)


async def test_every_key_has_its_ttl_after_every_operation(make_storage: MakeStorage, raw: Any) -> None:
    streams = make_storage(ttl=100)
    writer = await streams.create_writer("s", "a", lease_ms=90_000)
    assert await assert_every_key_expires(raw, 100) == 3
    other = await streams.create_writer("s", "b")
    operations = [
        lambda: writer.write(number(1)),
        lambda: writer.write_many(numbers(range(200))),
        lambda: streams.create_resumable_reader("s"),
        lambda: streams.pause_stream("s"),
        lambda: streams.resume_stream("s"),
        lambda: streams.request_stop("s"),
        lambda: streams.append("s", number(2), 202),
        lambda: streams.create_writer("s", "c", fencing_token=1),
        lambda: streams.append("s", number(3), 203, fencing_token=2),
        lambda: streams.create_writer("s", "c", fencing_token=3, lease_ms=50_000),
        lambda: streams.reset_stream("s"),
        lambda: streams.create("s"),
        lambda: streams.create("t"),
        lambda: streams.fail_stream("t", "e"),
        lambda: streams.end_stream("s"),
        lambda: streams.reset_stream("s"),
        lambda: streams.create_writer("s", "a"),
    ]
    for operation in operations:
        await operation()
        assert await assert_every_key_expires(raw, 100) >= 2
    assert other.stream_id == "s"
    await streams.delete_stream("s")
    await streams.delete_stream("t")
    assert await raw.dbsize() == 0


async def test_no_key_is_left_without_ttl_by_pausing_a_foreign_stream(make_storage: MakeStorage, raw: Any) -> None:
    streams = make_storage(ttl=100)
    await raw.xadd(STREAM, {"chunk": '{"type":"x"}', "sequence": "1"}, id="1-0")
    await raw.expire(STREAM, 50)
    await streams.pause_stream("s")
    assert await assert_every_key_expires(raw, 50) == 2


async def test_a_lost_producer_leaves_no_key_without_ttl(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(ttl=100)
    writer = await streams.create_writer("s", "a", lease_ms=10_000)
    await writer.write(number(1))
    await raw.delete(STREAM + ":lease")
    await streams.create_resumable_reader("s")
    info = await streams.get_info("s")
    assert info is not None
    assert info.status == "failed"
    assert await assert_every_key_expires(raw, 100) == 2


async def test_an_open_writer_keeps_its_stream_alive(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(ttl=1)
    writer = await streams.create_writer("s", "a")
    lives = []
    for n in range(12):
        await writer.write(number(n))
        await take(await streams.create_resumable_reader("s", from_sequence=n), 1)
        await raw.execute_command("WAIT", 1, 150)  # 150 ms of the server's time
        lives.append(await raw.pttl(STREAM))
    assert min(lives) > 0
    assert await assert_every_key_expires(raw, 1) == 2


@pytest.mark.parametrize("ttl", [None, 0])
async def test_without_ttl_streams_are_kept_until_deleted(make_streams: MakeStreams, raw: Any, ttl: int | None) -> None:
    streams = make_streams(ttl=ttl)
    writer = await streams.create_writer("s", "a")
    await writer.write(number(1))
    await streams.end_stream("s")
    await streams.reset_stream("s")
    assert [await raw.pttl(key) async for key in raw.scan_iter()] == [-1, -1]
    assert await streams.delete_stream("s")


@pytest.mark.parametrize("length", [1, 10, 25, 100, 500])
@pytest.mark.parametrize("size", [1, 7, 64])
async def test_trimming_keeps_at_least_the_length_and_at_most_a_tenth_and_a_batch_more(
    make_streams: MakeStreams, length: int, size: int
) -> None:
    streams = make_streams(max_stream_length=length)
    writer = await streams.create_writer("s", "a")
    last = 0
    while last < 4 * length + 300:
        last = await writer.write_many(numbers(range(size)))
        info = await streams.get_info("s")
        assert info is not None
        assert info.last_sequence == last
        assert info.chunk_count >= min(length, last)
        assert info.chunk_count <= length + length / 10 + size + 1
    kept = await take(await streams.create_resumable_reader("s", on_gap="skip"), info.chunk_count)
    assert sequences(kept) == list(range(last - info.chunk_count + 1, last + 1))


async def test_trimming_goes_on_across_take_overs_and_resets(make_streams: MakeStreams) -> None:
    length, last = 50, 0
    for token in range(40):
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


async def test_appends_trim_within_the_bounds(make_storage: MakeStorage) -> None:
    storage = make_storage(max_stream_length=50)
    await storage.create("s")
    last = 0
    for n in range(200):
        chunks = numbers(range(n % 4 + 1))
        await storage.append_many("s", chunks, last + 1, fencing_token=n // 20)
        last += len(chunks)
        info = await storage.get_metadata("s")
        assert info is not None
        assert min(50, last) <= info.chunk_count <= 50 * 1.1 + 5
        assert info.last_sequence == last


async def test_entries_of_plain_xadd_count_as_kept(make_storage: MakeStorage, raw: Any) -> None:
    storage = make_storage(max_stream_length=100)
    for n in range(1, 91):
        await raw.xadd(STREAM, {"chunk": f'{{"type":"number","n":{n}}}', "sequence": str(n)}, id=f"{n}-0")
    writer = await storage.create_writer("s", "a")
    for n in range(91, 400):
        if n % 2:
            assert await writer.write(number(n)) == n
        else:
            await storage.append("s", number(n), n)
        info = await storage.get_metadata("s")
        assert info is not None
        assert info.chunk_count >= min(100, n)
    assert info.chunk_count <= 110 + 1, "they go once all of them may"


async def test_without_a_length_all_is_kept(make_storage: MakeStorage) -> None:
    for length in (None, 0):
        storage = make_storage(max_stream_length=length)
        async with await storage.create_writer(f"s{length}", "a") as writer:
            for n in range(9000):
                writer.send(number(n))
        assert len(await storage.read_from(f"s{length}")) == 9000
        await storage.append(f"s{length}", number(1), 9001)
        assert (await storage.read_from(f"s{length}", limit=1))[0].sequence == 1


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": -1}, {"ttl": 1.5}, {"ttl": "5"}, {"max_stream_length": -1}, {"max_stream_length": True},
        {"block_timeout": 0}, {"block_timeout": float("nan")}, {"lease_ms": 1}, {"linger_ms": -1},
        {"max_chunk_bytes": 0}, {"max_buffered_bytes": 0}, {"key_prefix": "a{"}, {"key_prefix": 5}, {"port": 0},
    ],
)  # fmt: skip
async def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        RedisResumableStorage(**options)
