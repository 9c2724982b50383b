"""What other programs store under a stream's keys: read where it can be, else a typed error that names the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helix_fast import (
    HelixError,
    MalformedChunkError,
    MalformedStreamError,
    ProducerLostError,
    RedisResumableStorage,
    RedisStreamManager,
    StreamDeletedError,
    StreamFailedError,
)
from helix_fast.errors import StoreResponseError
from helix_fast.testing.contract.chunk_helpers import number, number_of, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams
from helix_fast.testing.contract.resumable.subscribing import Heard
from helix_fast.testing.waiting import until

STREAM = "helix:stream:{s}"
META = STREAM + ":meta"
DEEP = b'{"type":"custom","eventName":"e","data":%b1%b}' % (b"[" * 5000, b"]" * 5000)
LARGEST = "18446744073709551615-18446744073709551615"
Reading = Callable[[RedisStreamManager, RedisResumableStorage], Awaitable[Any]]


async def xadd(raw: Any, chunk: bytes | str, sequence: int | str, entry: str = "*", **more: str) -> None:
    await raw.xadd(STREAM, {"chunk": chunk, "sequence": str(sequence), **more}, id=entry)


# chunks


@pytest.mark.parametrize("alone", [True, False])
async def test_deep_chunk_is_malformed_and_readers_go_on_behind_it(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any, alone: bool
) -> None:
    errors: list[HelixError] = []
    storage.on("error", errors.append)
    heard = Heard()
    await xadd(raw, json.dumps(number(1)), 1)
    live = await streams.create_resumable_reader("s")
    await take(live, 1)
    storage.subscribe("s", heard, from_sequence=0)
    if alone:
        await xadd(raw, DEEP, 2)
        await xadd(raw, json.dumps(number(3)), 3)
    else:
        await xadd(raw, DEEP + b"\n" + json.dumps(number(3)).encode(), 3, writer="abcd0001")
    for reader in (live, streams.read("s", from_sequence=1), streams.read("s", from_sequence=1)):
        with pytest.raises(MalformedChunkError) as caught:
            await take(reader, 1)
        assert caught.value.sequence == 2
        assert sequences(await take(reader, 1)) == [3]
    plain = await streams.create_reader("s")
    assert plain is not None
    assert number_of(await plain.__anext__()) == 1
    with pytest.raises(MalformedChunkError):
        await plain.__anext__()
    with pytest.raises(MalformedChunkError):
        await storage.read_from("s")
    assert await heard.wait(2) == [(1, 1), (3, 3)]
    assert [type(error) for error in errors] == [MalformedChunkError]
    info = await streams.get_info("s")
    assert info is not None
    assert (info.last_sequence, info.chunk_count) == (3, 3)


async def test_line_break_inside_a_string_is_no_chunk_and_between_tokens_is_nothing(
    streams: RedisStreamManager, raw: Any
) -> None:
    await xadd(raw, '{\n"type":\r\n"number",\n"n":1}\n', 1)
    await xadd(raw, '{"type":"text_delta","delta":"a\nb"}', 2)
    await xadd(raw, json.dumps(number(3)), 3)
    reader = streams.read("s")
    assert number_of((await take(reader, 1))[0].chunk) == 1
    with pytest.raises(MalformedChunkError) as caught:
        await take(reader, 1)
    assert caught.value.sequence == 2
    assert sequences(await take(reader, 1)) == [3]


async def test_entries_without_a_sequence_are_reported_once(streams: RedisStreamManager, raw: Any) -> None:
    errors: list[HelixError] = []
    streams.on("error", errors.append)
    await xadd(raw, json.dumps(number(1)), 1)
    for _ in range(3):
        await raw.xadd(STREAM, {"chunk": json.dumps(number(9))})
        await xadd(raw, json.dumps(number(9)), "1_0")
    await raw.xadd(STREAM, {"something": "else"})
    await xadd(raw, json.dumps(number(2)), 2)
    assert sequences(await take(streams.read("s"), 2)) == [1, 2]
    (error,) = errors
    assert isinstance(error, MalformedStreamError)
    assert (error.key, error.code) == (STREAM, "malformed_stream")
    assert "no sequence" in str(error)


@pytest.mark.parametrize("sequence", ["1_0", "+1", " 1", "1 ", "0x1", "1e1", "1.0", "١"])
async def test_number_that_is_not_decimal_digits_is_no_sequence(
    streams: RedisStreamManager, raw: Any, sequence: str
) -> None:
    await xadd(raw, json.dumps(number(1)), 1)
    await xadd(raw, json.dumps(number(9)), sequence)
    info = await streams.get_info("s")
    assert info is not None
    assert info.last_sequence == 0, "the newest entry has none"
    await xadd(raw, json.dumps(number(2)), 2)
    for after in range(2):
        assert sequences(await take(streams.read("s", from_sequence=after), 2 - after)) == list(range(after + 1, 3))


# the end


@pytest.mark.parametrize("when", ["before", "live"])
async def test_foreign_stream_ends_where_its_meta_says_so(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any, when: str
) -> None:
    await xadd(raw, json.dumps(number(1)), 1)
    await xadd(raw, json.dumps(number(2)), 2)
    if when == "before":
        await raw.hset(META, "status", "ended")
    reader = streams.read("s")
    assert sequences(await take(reader, 2)) == [1, 2]
    if when == "live":
        waiting = asyncio.ensure_future(rest(reader))
        await until(lambda: reader._cursor.waiting)
        await raw.hset(META, "status", "ended")
        assert await waiting == []
    assert await rest(reader) == []
    assert await rest(await streams.create_resumable_reader("s", from_sequence=2)) == []
    assert sequences(await storage.read_from("s")) == [1, 2]


async def test_foreign_stream_fails_where_its_meta_says_so(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any
) -> None:
    await xadd(raw, json.dumps(number(1)), 1)
    await raw.hset(META, mapping={"status": "failed", "error": b"why \xff"})
    reader = streams.read("s")
    assert sequences(await take(reader, 1)) == [1]
    for _ in range(2):
        with pytest.raises(StreamFailedError) as caught:
            await take(reader, 1)
        assert caught.value.error == "why \ufffd"
        assert not isinstance(caught.value, ProducerLostError)
    assert sequences(await storage.read_from("s")) == [1]


async def test_longer_foreign_stream_is_read_to_its_last_chunk_before_it_ends(
    streams: RedisStreamManager, raw: Any
) -> None:
    pipe = raw.pipeline(transaction=False)
    for n in range(1, 201):
        pipe.xadd(STREAM, {"chunk": json.dumps(number(n)), "sequence": str(n)})
    await pipe.execute()
    await raw.hset(META, "status", "ended")
    assert sequences(await rest(streams.read("s"))) == list(range(1, 201))


async def test_chunks_of_foreign_writers_come_soon(make_streams: MakeStreams, raw: Any) -> None:
    """The log would be read after a minute, and then again after one."""
    streams = make_streams(block_timeout=60_000)
    await xadd(raw, json.dumps(number(1)), 1)
    reader = streams.read("s")
    await take(reader, 1)
    for n in range(2, 6):
        waiting = asyncio.ensure_future(take(reader, 1))
        await asyncio.sleep(0.1)
        await xadd(raw, json.dumps(number(n)), n)
        assert sequences(await waiting) == [n]


# what is no stream of ours


async def of_reader(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await take(streams.read("s"), 2)


async def of_resumable(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await take(await streams.create_resumable_reader("s", from_sequence=1), 1)


async def of_plain_reader(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await streams.create_reader("s")


async def of_storage(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await storage.read_from("s", 1)


async def of_info(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await streams.get_info("s")


async def of_create(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await storage.create("s")


async def of_append(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await storage.append("s", number(3), 3)


async def of_writer(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await streams.create_writer("s", "a")


async def of_end(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await streams.end_stream("s")


async def of_reset(streams: RedisStreamManager, storage: RedisResumableStorage) -> None:
    await streams.reset_stream("s")


READERS = [of_reader, of_resumable, of_plain_reader, of_storage]


@pytest.mark.parametrize(
    ("meta", "calls"),
    [
        ({"base": "x"}, READERS), ({"base": "-5"}, READERS), ({"base": "1_0"}, READERS), ({"base": "9" * 30}, READERS),
        ({"epoch": b"\xff"}, [*READERS, of_info, of_writer]),
        ({"terms": "x"}, [of_writer]), ({"terms": b"\xff"}, [of_writer]), ({"terms": ""}, [of_writer]),
        ({"output": "not json"}, [of_info]), ({"output": b"\xff"}, [of_info]), ({"output": "[" * 5000}, [of_info]),
        ({"status": b"\xff"}, [of_info]), ({"stopReason": b"\xff"}, [of_info]), ({"createdAt": b"\xff"}, [of_info]),
        ({"terms": "9" * 30 + ":1"}, [of_resumable, of_storage]),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, dict) else "",
)  # fmt: skip
async def test_meta_that_is_not_ours_is_an_error_that_names_the_key(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any, meta: dict[str, Any], calls: list[Reading]
) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write_many([number(1), number(2)])
    await raw.hset(META, mapping=meta)
    for call in calls:
        with pytest.raises(MalformedStreamError) as caught:
            await call(streams, storage)
        assert caught.value.key in (STREAM, META)
        assert caught.value.key in str(caught.value)


@pytest.mark.parametrize("missing", ["terms", "epoch", "term", "base", "status"])
async def test_readers_do_without_what_is_missing(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any, missing: str
) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write_many([number(1), number(2)])
    for change in (raw.hdel(META, missing), raw.hset(META, "createdAt", "yesterday")):
        await change
        assert sequences(await take(streams.read("s"), 2)) == [1, 2]
        assert sequences(await storage.read_from("s", 1)) == [2]
        assert await streams.get_info("s") is not None


async def test_a_stream_whose_meta_hash_is_gone_is_gone_for_its_readers(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(block_timeout=50)
    writer = await streams.create_writer("s", "a")
    await writer.write(number(1))
    reader = await streams.create_resumable_reader("s")
    assert sequences(await take(reader, 1)) == [1]
    await raw.delete(META)  # as eviction does
    with pytest.raises(StreamDeletedError):
        await take(reader, 1)


@pytest.mark.parametrize("call", [*READERS, of_info, of_create, of_append, of_writer, of_end, of_reset])
@pytest.mark.parametrize("key", [STREAM, META])
async def test_key_of_another_type_is_an_error_that_names_it(
    streams: RedisStreamManager, storage: RedisResumableStorage, raw: Any, key: str, call: Reading
) -> None:
    if key == META:
        await xadd(raw, json.dumps(number(1)), 1)
    await raw.set(key, "something")
    with pytest.raises(MalformedStreamError) as caught:
        await call(streams, storage)
    assert caught.value.key == STREAM
    assert "WRONGTYPE" in str(caught.value)


async def test_malformed_last_chunk_does_not_hide_what_is_known(streams: RedisStreamManager, raw: Any) -> None:
    await xadd(raw, json.dumps({"type": "x", "timestamp": 5}), 1)
    await xadd(raw, b"\xe9", 2)
    await xadd(raw, DEEP, 3)
    info = await streams.get_info("s")
    assert info is not None
    assert (info.first_sequence, info.last_sequence, info.chunk_count) == (1, 3, 3)


async def test_lost_producer_is_told_though_nothing_fits_behind_the_log(streams: RedisStreamManager, raw: Any) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write(number(1))
    await xadd(raw, json.dumps(number(2)), 2, LARGEST)
    await raw.hset(META, "leases", "gone,")
    reader = streams.read("s")
    assert sequences(await take(reader, 2)) == [1, 2]
    with pytest.raises(ProducerLostError):
        await take(reader, 1)
    with pytest.raises(StreamFailedError):
        await rest(await streams.create_resumable_reader("s"))


CORRUPT = {
    "terms": ["", "x", "1:", "9" * 40 + ":1", b"\xff", None],
    "term": ["", "x", "18446744073709551615", b"\xff", None],
    "epoch": [b"\xff", None],
    "fence": ["x", b"\xff"],
    "leaseMs": ["x"],
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in CORRUPT.items() for value in values])
async def test_writers_and_what_opens_and_ends_meet_a_corrupt_meta_hash_with_typed_errors(
    streams: RedisStreamManager, raw: Any, field: str, value: str | bytes | None
) -> None:
    reported: list[HelixError] = []
    streams.on("error", reported.append)
    writer = await streams.create_writer("s", "a", lease_ms=60_000)
    await writer.write(number(1))
    await (raw.hdel(META, field) if value is None else raw.hset(META, field, value))

    async def refused() -> None:
        await raw.xadd(STREAM, {"event": "x", "sequence": "1"}, id=f"{writer._appender.terms.current}-5")
        await writer.write(number(2))

    for attempt in (
        lambda: streams._leases.renew(writer._appender),
        refused,
        lambda: streams.create_writer("s", "b"),
        lambda: streams.create_writer("s", "b", fencing_token=9),
        lambda: streams.pause_stream("s"),
        writer.end,
        lambda: streams.end_stream("s"),
        lambda: streams.reset_stream("s"),
    ):
        try:
            await asyncio.wait_for(attempt(), 30)
        except HelixError as error:  # noqa: PERF203
            reported.append(error)
    for error in reported:
        assert type(error) is not HelixError, error
        assert not isinstance(error, StoreResponseError), error
        if isinstance(error, MalformedStreamError):
            assert "helix:stream:{s}" in str(error)
