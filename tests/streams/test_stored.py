"""What is stored: the documented layout, entries that other stores wrote, and bytes that are no chunk."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec
import pytest

from helix_fast import (
    MalformedChunkError,
    RedisResumableStorage,
    RedisStreamManager,
    SequenceGapError,
    StreamClosedError,
    TextDeltaChunk,
)
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams
from helix_fast.testing.waiting import until

STREAM = "helix:stream:{s}"


async def xadd(raw: Any, chunk: bytes | str, sequence: int | str, entry: str = "*", **more: str) -> None:
    await raw.xadd(STREAM, {"chunk": chunk, "sequence": str(sequence), **more}, id=entry)


# layout


async def test_the_layout_is_the_documented_one(streams: RedisStreamManager, raw: Any) -> None:
    writer = await streams.create_writer("s", "a", "k", lease_ms=50_000, fencing_token=3)
    await writer.write(TextDeltaChunk(delta="é", timestamp=7))
    await writer.write_many(numbers(range(2)))
    await streams.request_stop("s", "why")
    await streams.end_stream("s", {"a": 1})
    entries = await raw.xrange(STREAM)
    meta = {name.decode(): value.decode() for name, value in (await raw.hgetall(STREAM + ":meta")).items()}
    term = meta["term"]
    nonces = [fields.pop(b"writer") for _id, fields in entries if b"writer" in fields]
    assert [len(nonce) for nonce in nonces] == [8, 8]
    text = b'{"type":"text_delta","delta":"\xc3\xa9","agentId":"a","agentType":"k","timestamp":7}'
    decoded = [(entry.decode(), fields) for entry, fields in entries]
    assert msgspec.json.decode(decoded[1][1].pop(b"chunk")) == msgspec.json.decode(text)
    assert decoded == [
        (f"{term}-0", {b"sequence": b"0", b"event": b"open"}),
        (f"{term}-1", {b"sequence": b"1"}),
        (f"{term}-2", {b"chunk": b'{"type":"number","n":0}\n{"type":"number","n":1}', b"sequence": b"3"}),
        ("18446744073709551615-3", {b"sequence": b"3", b"event": b"ended", b"output": b'{"a":1}'}),
    ]
    tag = meta["epoch"][-4:]
    assert int(meta["epoch"][:-4], 36) == int(term)
    assert re.fullmatch("[a-z][a-z0-9]{3}", tag)
    assert re.fullmatch("[0-9a-f]{32}", meta["history"])
    made_up = {"term", "epoch", "history", "createdAt", "updatedAt"}
    assert {name: meta[name] for name in meta if name not in made_up} == {
        "status": "ended",
        "terms": f"{term}:1:0:{tag}",
        "base": "0",
        "fence": "3",
        "stop": "1",
        "stopReason": "why",
        "output": '{"a":1}',
    }
    assert meta["createdAt"].endswith("Z")
    assert len(meta["createdAt"]) == len("2026-01-01T00:00:00.000Z")
    assert not await raw.exists(STREAM + ":lease")


async def heard(raw: Any, channel: str, word: str, count: int) -> asyncio.Task[list[bytes]]:
    """What is published on a channel, from now on: the next `count` messages, by a plain connection."""
    await raw.ping()
    if hasattr(raw, "get_node_from_key"):
        connection = raw.get_node_from_key(channel).acquire_connection()
        await connection.connect()
    else:
        connection = await raw.connection_pool.get_connection()
    await connection.send_command(word, channel)
    assert (await connection.read_response(timeout=5, push_request=True))[0].decode() == word.lower()

    async def listen() -> list[bytes]:
        try:
            return [(await connection.read_response(timeout=5, push_request=True))[2] for _ in range(count)]
        finally:
            await connection.disconnect()

    return asyncio.ensure_future(listen())


async def test_pushes_are_the_documented_ones(streams: RedisStreamManager, raw: Any) -> None:
    writer = await streams.create_writer("s", "a")
    word = "SSUBSCRIBE" if await streams._requests.publish_command() == b"SPUBLISH" else "SUBSCRIBE"
    pushes = await heard(raw, STREAM + ":push", word, 2)
    control = await heard(raw, "helix:stream-control", "SUBSCRIBE", 1)
    await writer.write_many(numbers(range(2)))
    await streams.request_stop("s", "why")
    await streams.end_stream("s")
    term = (await raw.hget(STREAM + ":meta", "term")).decode()
    assert await pushes == [f"{term}-1:2\n".encode() + b'{"type":"number","n":0}\n{"type":"number","n":1}', b"!"]
    assert await control == [b"stop\nwhy\ns"]


async def test_readers_tell_the_writers_that_they_have_joined(make_streams: MakeStreams, raw: Any) -> None:
    here, there = make_streams(), make_streams(block_timeout=60_000)
    writer = await here.create_writer("s", "a")
    control = await heard(raw, "helix:stream-control", "SUBSCRIBE", 2)
    await writer.write(number(1))
    for streams in (here, there):
        assert isinstance(streams, RedisStreamManager)
        assert await take(await streams.create_resumable_reader("s"), 1)
        waiting = asyncio.ensure_future(take(await streams.create_resumable_reader("s", from_sequence=1), 1))
        await asyncio.sleep(0.05)
        waiting.cancel()
    names = [
        streams._requests.topology.presence.name for streams in (here, there) if isinstance(streams, RedisStreamManager)
    ]
    assert await control == [b"listen\n%b\ns" % name for name in names]


async def test_whoever_begins_to_listen_is_counted_and_told_to_look(streams: RedisStreamManager, raw: Any) -> None:
    writer = await streams.create_writer("s", "a")
    if streams._requests.topology.presence.counts_unreliable:
        pytest.skip("a cluster without sharded pub/sub counts no listeners: it publishes everything")
    streams._requests.topology.presence.poll_seconds = 1.0
    word = "SSUBSCRIBE" if await streams._requests.publish_command() == b"SPUBLISH" else "SUBSCRIBE"
    await writer.write(number(1))
    await until(lambda: not writer._appender.subscribers.present, what="the answer that nobody listens")
    await writer.write(number(2))
    pushes = await heard(raw, STREAM + ":push", word, 2)
    await until(lambda: writer._appender.subscribers.present, what="the answer that somebody does")
    await writer.write(number(3))
    term = (await raw.hget(STREAM + ":meta", "term")).decode()
    assert await pushes == [b"!", f"{term}-3:3\n".encode() + b'{"type":"number","n":3}']
    await writer.write(number(4))
    await until(lambda: not writer._appender.subscribers.present, what="the answer that nobody listens any more")


# interop


@pytest.mark.parametrize("entry", ["{}-0", "*", "0-{}"])
async def test_a_stream_of_plain_xadd_is_read_and_continued(
    make_streams: MakeStreams, storage: RedisResumableStorage, raw: Any, entry: str
) -> None:
    streams = make_streams()
    for n in range(1, 6):
        # as a TypeScript store writes it; spaces and line breaks in JSON are no matter
        await xadd(raw, json.dumps(number(n), indent=1 if n % 2 else None), n, entry.format(n))
    for after in range(6):
        found = await take(await streams.create_resumable_reader("s", from_sequence=after), 5 - after)
        assert [(one.sequence, number_of(one.chunk)) for one in found] == [(n, n) for n in range(after + 1, 6)]
        assert sequences(await storage.read_from("s", after)) == list(range(after + 1, 6))
    reader = await streams.create_resumable_reader("s")
    assert sequences(await take(reader, 5)) == [1, 2, 3, 4, 5]
    info = await streams.get_info("s")
    assert info is not None
    assert (info.status, info.first_sequence, info.last_sequence, info.chunk_count) == ("active", 1, 5, 5)
    writer = await streams.create_writer("s", "a")
    assert await writer.write(number(6)) == 6
    assert await writer.write_many(numbers([7, 8])) == 8
    assert sequences(await take(reader, 3)) == [6, 7, 8]
    assert sequences(await take(await streams.create_resumable_reader("s"), 8)) == list(range(1, 9))
    await storage.append("s", number(9), 9)
    await streams.end_stream("s")
    assert sequences(await storage.read_from("s", 4)) == [5, 6, 7, 8, 9]


async def test_plain_xadd_may_go_on_behind_our_writer(streams: RedisStreamManager, raw: Any) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write_many(numbers(range(1, 101)))
    for n in range(101, 181):
        await xadd(raw, json.dumps(number(n)), n)  # with ids that lag behind the sequences
    writer = await streams.create_writer("s", "a")
    assert await writer.write_many(numbers([181, 182])) == 182
    for after in range(183):
        found = await take(await streams.create_resumable_reader("s", from_sequence=after), 182 - after)
        assert [(one.sequence, number_of(one.chunk)) for one in found] == [(n, n) for n in range(after + 1, 183)]


async def test_live_entries_of_plain_xadd_are_found_after_the_block_timeout(
    make_streams: MakeStreams, raw: Any
) -> None:
    streams = make_streams(block_timeout=40)
    await xadd(raw, json.dumps(number(1)), 1)
    reader = await streams.create_resumable_reader("s")
    await take(reader, 1)
    await xadd(raw, json.dumps(number(2)), 2)
    assert sequences(await take(reader, 1, seconds=2)) == [2]


async def test_further_fields_of_a_foreign_entry_are_no_matter(streams: RedisStreamManager, raw: Any) -> None:
    await xadd(raw, '{\n"type":"number",\n"n":1}', 1, timestamp="5")
    await raw.xadd(STREAM, {"sequence": "2", "agent": "x", "chunk": '{"type":"number","n":2}', "more": "y"})
    found = await take(await streams.create_resumable_reader("s"), 2)
    assert [(one.sequence, number_of(one.chunk)) for one in found] == [(1, 1), (2, 2)]


async def test_a_foreign_stream_can_be_ended_paused_reset_and_deleted(streams: RedisStreamManager, raw: Any) -> None:
    await xadd(raw, '{"type":"number","n":1}', 1)
    await streams.pause_stream("s")
    await streams.resume_stream("s")
    await streams.end_stream("s", 5)
    info = await streams.get_info("s")
    assert info is not None
    assert (info.status, info.output, info.chunk_count) == ("ended", 5, 1)
    with pytest.raises(StreamClosedError):
        await streams.create_writer("s", "a")
    await streams.reset_stream("s")
    assert await (await streams.create_writer("s", "a")).write(number(2)) == 2
    assert await streams.delete_stream("s")


async def test_a_hole_in_foreign_sequences_is_a_gap(streams: RedisStreamManager, raw: Any) -> None:
    for n in (1, 2, 5, 6):
        await xadd(raw, json.dumps(number(n)), n)
    reader = await streams.create_resumable_reader("s")
    assert sequences(await take(reader, 2)) == [1, 2]
    with pytest.raises(SequenceGapError) as caught:
        await take(reader, 1)
    assert (caught.value.requested, caught.value.first_available) == (2, 5)
    skipping = await streams.create_resumable_reader("s", on_gap="skip")
    assert sequences(await take(skipping, 4)) == [1, 2, 5, 6]


# bytes that are no chunk


MALFORMED: list[bytes] = [
    b"", b" ", b"{", b"null", b"5", b"[]", b'"text"', b"{}", b'{"type":5}', b'{"a":1}', b'{"type":"x"', b"\xff\xfe",
    b'{"type":"x","v":NaN}', b'{"type":"text_delta"}', b'{"type":"text_delta","delta":5}', b'{"type":"x","v":"\xff"}',
    b'{"type":"x"},{"type":"x"}', b'{"type":"text_delta","delta":"a"},{"type":"text_delta","delta":"b"}',
    b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: ascii(data)[:30])
@pytest.mark.parametrize("where", ["alone", "first", "middle", "last"])
async def test_bytes_that_are_no_chunk_are_told_and_the_reader_goes_on_behind(
    streams: RedisStreamManager, raw: Any, data: bytes, where: str
) -> None:
    around = {"alone": (0, 0), "first": (0, 3), "middle": (2, 2), "last": (3, 0)}[where]
    before, after = around
    for n in range(1, before + 1):
        await xadd(raw, json.dumps(number(n)), n)
    bad = before + 1
    await xadd(raw, data, bad)
    for n in range(bad + 1, bad + after + 1):
        await xadd(raw, json.dumps(number(n)), n)
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    assert sequences(await take(reader, before)) == list(range(1, bad))
    with pytest.raises(MalformedChunkError) as caught:
        await take(reader, 1)
    assert (caught.value.sequence, caught.value.code) == (bad, "malformed_chunk")
    assert caught.value.data == (data or b" ")
    assert sequences(await take(reader, after)) == list(range(bad + 1, bad + after + 1))
    writer = await streams.create_writer("s", "a")
    await writer.write(number(0))
    assert sequences(await take(reader, 1)) == [bad + after + 1]


async def test_bytes_that_are_no_chunk_inside_an_entry_of_many(streams: RedisStreamManager, raw: Any) -> None:
    lines = [json.dumps(number(n)).encode() for n in range(1, 6)]
    lines[2] = b"{oops"
    await xadd(raw, b"\n".join(lines), 5, "7-1", writer="abcd0001")
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    assert sequences(await take(reader, 2)) == [1, 2]
    with pytest.raises(MalformedChunkError) as caught:
        await reader.__anext__()
    assert (caught.value.sequence, caught.value.data) == (3, b"{oops")
    assert sequences(await take(reader, 2)) == [4, 5]
    late = await streams.create_resumable_reader("s", from_sequence=3)
    assert sequences(await take(late, 2)) == [4, 5]


@pytest.mark.parametrize("sequence", ["", "x", "-5", "0", "1.5", "9" * 30, "9" * 5000, "٣"], ids=lambda text: text[:8])
async def test_an_entry_without_a_sequence_has_no_place_and_stops_nobody(
    streams: RedisStreamManager, raw: Any, sequence: str
) -> None:
    await xadd(raw, json.dumps(number(1)), 1)
    await xadd(raw, json.dumps(number(99)), sequence)
    await raw.xadd(STREAM, {"something": "else"})
    await raw.xadd(STREAM, {"chunk": json.dumps(number(98)), "sequence": sequence, "writer": "-"})
    await xadd(raw, json.dumps(number(2)), 2)
    found = await take(await streams.create_resumable_reader("s"), 2)
    assert [number_of(one.chunk) for one in found] == [1, 2]
    await raw.xadd(STREAM, {"something": "else"})
    assert (await streams.get_info("s")) is not None


async def test_entries_that_overlap_are_read_once(streams: RedisStreamManager, raw: Any) -> None:
    lines = [json.dumps(number(n)) for n in range(1, 8)]
    await xadd(raw, "\n".join(lines[:3]), 3, writer="abcd0001")
    await xadd(raw, "\n".join(lines[1:5]), 5, writer="abcd0002")
    await xadd(raw, "\n".join(lines[4:6]), 6, writer="abcd0003")
    await xadd(raw, lines[5], 6)
    await xadd(raw, "\n".join(lines), 7, writer="abcd0004")
    found = await take(await streams.create_resumable_reader("s"), 7)
    assert [number_of(one.chunk) for one in found] == list(range(1, 8))


async def test_more_lines_than_sequences_are_read_from_the_first_sequence_on(
    streams: RedisStreamManager, raw: Any
) -> None:
    await xadd(raw, "\n".join(json.dumps(number(n)) for n in range(5)), 2, writer="abcd0001")
    found = await take(await streams.create_resumable_reader("s"), 2)
    assert [(one.sequence, number_of(one.chunk)) for one in found] == [(1, 3), (2, 4)]


async def test_pushes_that_are_none_of_ours_send_the_reader_to_the_log(make_streams: MakeStreams, raw: Any) -> None:
    streams = make_streams(block_timeout=60_000)
    writer = await streams.create_writer("s", "a")
    await writer.write(number(1))
    reader = await streams.create_resumable_reader("s")
    await take(reader, 1)
    for junk in (b"", b"x", b"1-2", b"1-2:1\n{}", b"\xff", b"99999999999999999999999-1:1\n", b"5-900:900\n{}"):
        await raw.publish(STREAM + ":push", junk)
        last = await writer.write(number(2))
        assert sequences(await take(reader, 1)) == [last]
