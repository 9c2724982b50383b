"""A TTL on every key from its first moment, as the server has it."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import InvalidArgumentError, RedisResumableStorage
from helix_fast.testing.contract.chunk_helpers import number, numbers, take
from helix_fast.testing.contract.fixtures import MakeStorage, MakeStreams
from tests.support.eventually import eventually

STREAM = "helix:stream:{s}"


async def assert_every_key_expires(raw: Any, seconds: int) -> int:
    """Every key of the server has a TTL, none above `seconds`; returns how many keys of streams there are.

    The index of streams lives a tenth longer.
    """
    index = [key async for key in raw.scan_iter("helix:streams:*")]
    keys = [key async for key in raw.scan_iter() if key not in index]
    for key in [*keys, *index]:
        left = await raw.pttl(key)
        assert 0 < left <= seconds * 1000 + (key in index) * (seconds * 100 + 1000), f"{key!r} lives {left} ms"
    return len(keys)


async def test_every_key_has_its_ttl_after_every_operation(
    make_streams: MakeStreams, make_storage: MakeStorage, raw: Any
) -> None:
    streams, storage = make_streams(ttl=100), make_storage(ttl=100)
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
        lambda: storage.append("s", number(2), 202),
        lambda: streams.create_writer("s", "c", fencing_token=1),
        lambda: storage.append("s", number(3), 203, fencing_token=2),
        lambda: streams.create_writer("s", "c", fencing_token=3, lease_ms=50_000),
        lambda: streams.reset_stream("s"),
        lambda: storage.create("s"),
        lambda: storage.create("t"),
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

    async def nothing_is_left() -> bool:  # what keeps terms growing lives until the clock is past them
        return not [key async for key in raw.scan_iter() if not key.startswith(b"helix:streams:")]

    await eventually(nothing_is_left)


async def test_no_key_is_left_without_ttl_by_pausing_a_foreign_stream(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(ttl=100)
    await raw.xadd(STREAM, {"chunk": '{"type":"x"}', "sequence": "1"}, id="1-0")
    await raw.expire(STREAM, 50)
    await streams.pause_stream("s")
    assert await assert_every_key_expires(raw, 50) == 2


async def test_a_lost_producer_leaves_no_key_without_ttl(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(ttl=100)
    writer = await streams.create_writer("s", "a", lease_ms=10_000)
    await writer.write(number(1))
    for expected in (3, 2):  # a respite, and the loss
        await raw.delete(STREAM + ":lease")
        await streams.create_resumable_reader("s")
        assert await assert_every_key_expires(raw, 100) == expected
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
    assert [await raw.pttl(key) async for key in raw.scan_iter()] == [-1, -1, -1], "two keys, and the index"
    assert await streams.delete_stream("s")


async def test_entries_of_plain_xadd_count_as_kept(
    make_streams: MakeStreams, make_storage: MakeStorage, raw: Any
) -> None:
    streams, storage = make_streams(max_stream_length=100), make_storage(max_stream_length=100)
    for n in range(1, 91):
        await raw.xadd(STREAM, {"chunk": f'{{"type":"number","n":{n}}}', "sequence": str(n)}, id=f"{n}-0")
    writer = await streams.create_writer("s", "a")
    for n in range(91, 400):
        if n % 2:
            assert await writer.write(number(n)) == n
        else:
            await storage.append("s", number(n), n)
        info = await storage.get_metadata("s")
        assert info is not None
        assert info.chunk_count >= min(100, n)
    assert info.chunk_count <= 110 + 1, "they go once all of them may"


def test_an_option_of_a_connection_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        RedisResumableStorage(port=0)
