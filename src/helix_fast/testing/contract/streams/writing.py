"""Writers: sequences, order, buffering, and what is refused before it is sent."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from helix_fast import (
    ChunkTooLargeError,
    CustomChunk,
    InvalidArgumentError,
    InvalidIdError,
    MalformedChunkError,
    StoreClosedError,
    StreamClosedError,
    TextDeltaChunk,
    ToolStartChunk,
    UnknownChunk,
)
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams, RequestsOf
from helix_fast.testing.contract.ids import every_subclass, plain


async def test_sequences_start_at_1_and_have_no_holes(streams: StreamManager) -> None:
    async with await streams.create_writer("s", "agent") as writer:
        assert [await writer.write(number(n)) for n in range(3)] == [1, 2, 3]
        assert await writer.write_many(numbers(range(3, 10))) == 10
        assert await writer.write(number(10)) == 11
    await streams.end_stream("s")
    found = await rest(await streams.create_resumable_reader("s"))
    assert sequences(found) == list(range(1, 12))
    assert [number_of(one.chunk) for one in found] == list(range(11))


async def test_concurrent_writes_get_each_a_sequence_of_their_own_in_order(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "agent")
    assert await asyncio.gather(*(writer.write(number(n)) for n in range(500))) == list(range(1, 501))
    found = await take(await streams.create_resumable_reader("s"), 500)
    assert [number_of(one.chunk) for one in found] == list(range(500))


async def test_write_send_and_write_many_of_one_writer_keep_their_order(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "agent", "kind")
    writer.send(number(0))
    first = asyncio.ensure_future(writer.write(number(1)))
    await asyncio.sleep(0)
    writer.send_text("2")
    many = asyncio.ensure_future(writer.write_many(numbers(range(3, 203))))
    await asyncio.sleep(0)
    writer.send(number(203))
    await writer.flush()
    assert (await first, await many) == (2, 203)
    found = await take(await streams.create_resumable_reader("s"), 204)
    assert sequences(found) == list(range(1, 205))
    text = found.pop(2).chunk
    assert isinstance(text, TextDeltaChunk)
    assert (text.delta, text.agent_id, text.agent_type) == ("2", "agent", "kind")
    assert [number_of(one.chunk) for one in found] == [0, 1, *range(3, 204)]


async def test_structs_get_agent_and_time_and_are_left_as_they_were(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "agent", "kind")
    mine = ToolStartChunk(tool_call_id="c", tool_name="t", arguments={"a": []})
    foreign = TextDeltaChunk(delta="x", agent_id="other", timestamp=5)
    await writer.write_many([mine, foreign, TextDeltaChunk(delta="y"), {"type": "text_delta", "delta": "z"}])
    assert mine == ToolStartChunk(tool_call_id="c", tool_name="t", arguments={"a": []})
    one, two, three, four = [stored.chunk for stored in await take(await streams.create_resumable_reader("s"), 4)]
    assert isinstance(one, ToolStartChunk)
    assert (one.agent_id, one.agent_type, one.arguments) == ("agent", "kind", {"a": []})
    assert (one.timestamp or 0) > 1_700_000_000_000
    assert (two.agent_id, two.agent_type, two.timestamp) == ("other", "kind", 5)
    assert (three.agent_id, three.agent_type) == ("agent", "kind")
    assert (four.agent_id, four.timestamp) == (None, None), "a dict is in wire form and goes out as it is"


async def test_leaving_a_writer_flushes_it(streams: StreamManager) -> None:
    async with await streams.create_writer("s", "agent") as writer:
        for n in range(3000):
            writer.send(number(n))
    info = await streams.get_info("s")
    assert info is not None
    assert (info.last_sequence, info.chunk_count, info.status) == (3000, 3000, "active")
    assert writer.buffered_bytes == 0


async def test_drain_waits_only_beyond_the_buffer_limit(make_streams: MakeStreams) -> None:
    streams = make_streams(max_buffered_bytes=1000)
    writer = await streams.create_writer("s", "agent")
    writer.send(number(1))
    await writer.drain()
    assert writer.buffered_bytes > 0
    writer.send(number(2, pad="x" * 1000))
    await writer.drain()
    assert writer.buffered_bytes == 0


async def test_writers_of_one_process_share_a_stream(streams: StreamManager) -> None:
    one, two = await streams.create_writer("s", "a"), await streams.create_writer("s", "b")
    got = await asyncio.gather(*(writer.write(number(n)) for n in range(50) for writer in (one, two)))
    assert sorted(got) == list(range(1, 101))
    await one.close()
    assert await two.write(number(50)) == 101


async def test_writers_of_two_processes_share_a_stream(make_streams: MakeStreams) -> None:
    managers = make_streams(), make_streams()
    writers = [await manager.create_writer("s", "a") for manager in managers]
    got = []
    for n in range(20):
        got += [await writer.write(number(n)) for writer in writers]
    assert got == list(range(1, 41))

    async def many(writer: Any, base: int) -> list[int]:
        return [await writer.write_many(numbers(range(base + n, base + n + 7))) for n in range(0, 700, 7)]

    lasts = await asyncio.gather(many(writers[0], 1000), many(writers[1], 2000))
    found = (await take(await managers[0].create_resumable_reader("s"), 1440))[40:]
    assert sequences(found) == list(range(41, 1441))
    for base, each in zip((1000, 2000), lasts, strict=True):
        mine = [one for one in found if base <= number_of(one.chunk) < base + 700]
        assert [number_of(one.chunk) for one in mine] == list(range(base, base + 700))
        assert [one.sequence for one in mine][6::7] == each, "the sequence told to the writer is the one stored"


class Odd:
    pass


BAD: list[Any] = [
    None,
    5,
    "text",
    b'{"type":"x"}',
    b"\xff",
    [],
    {},
    {"type": 5},
    {"type": None},
    {"a": 1},
    Odd(),
    {"type": "x", "v": math.nan},
    {"type": "x", "v": [{"w": -math.inf}]},
    {"type": "x", 5: 1},
    {"type": "x", "v": Odd()},
    {"type": "x", "v": "\ud800"},
    {"type": "x", "v": b"\xff"},
    {"type": "text_delta"},
    {"type": "text_delta", "delta": 5},
    {"type": "tool_end", "toolCallId": "c", "success": "yes"},
    TextDeltaChunk(delta=None),  # type: ignore[arg-type]
    TextDeltaChunk(delta="\udfff"),
    TextDeltaChunk(delta=b"\xff"),  # type: ignore[arg-type]
    TextDeltaChunk(delta="x", extra={"v": b"x"}),
    CustomChunk(event_name="e", data=b"x", extra={"v": 1}),
    CustomChunk(event_name="e", data=math.inf),
    CustomChunk(event_name="e", data=Odd()),
    CustomChunk(event_name="e", data=[b"\xff"]),
    UnknownChunk({"type": 7}),
    UnknownChunk([]),  # type: ignore[arg-type]
    TextDeltaChunk(delta="x", timestamp="now"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: ascii(bad)[:40])
async def test_bad_chunks_are_refused_before_anything_is_sent(
    streams: StreamManager, bad: Any, requests_of: RequestsOf
) -> None:
    writer = await streams.create_writer("s", "agent")
    before = requests_of(streams)
    with pytest.raises(MalformedChunkError) as caught:
        await writer.write(bad)
    assert caught.value.sequence is None
    data: Any = caught.value.data
    assert data is bad
    assert (caught.value.code, caught.value.retryable) == ("malformed_chunk", False)
    with pytest.raises(MalformedChunkError):
        await writer.write_many([number(1), bad])
    with pytest.raises(MalformedChunkError):
        writer.send(bad)
    await writer.flush()
    assert requests_of(streams) == before
    assert await writer.write(number(1)) == 1, "the writer goes on working"


@pytest.mark.parametrize("bad", [None, 5, b"x", [], "\ud800"], ids=ascii)
async def test_bad_text_is_refused_before_anything_is_sent(
    streams: StreamManager, bad: Any, requests_of: RequestsOf
) -> None:
    writer = await streams.create_writer("s", "agent")
    before = requests_of(streams)
    with pytest.raises(MalformedChunkError):
        writer.send_text(bad)
    await writer.flush()
    assert requests_of(streams) == before
    assert await writer.write(number(1)) == 1


async def test_a_chunk_over_the_limit_is_refused_and_one_at_the_limit_is_not(
    make_streams: MakeStreams, requests_of: RequestsOf
) -> None:
    streams = make_streams(max_chunk_bytes=1000)
    writer = await streams.create_writer("s", "agent")
    empty = len(b'{"type":"x","v":""}')
    before = requests_of(streams)
    with pytest.raises(ChunkTooLargeError) as caught:
        await writer.write({"type": "x", "v": "a" * (1001 - empty)})
    assert (caught.value.size, caught.value.limit, caught.value.code) == (1001, 1000, "chunk_too_large")
    attempt: Any
    for text in ("a" * 1000, '"' * 500, "é" * 500):
        for attempt in (
            lambda text=text: writer.send_text(text),
            lambda text=text: writer.send(TextDeltaChunk(delta=text)),
        ):
            with pytest.raises(ChunkTooLargeError):
                attempt()
    with pytest.raises(ChunkTooLargeError):
        await writer.write_many([number(1), TextDeltaChunk(delta="a" * 1000)])
    assert requests_of(streams) == before
    assert await writer.write({"type": "x", "v": "a" * (1000 - empty)}) == 1
    empty = len(b'{"type":"text_delta","delta":"","agentId":"agent","timestamp":1700000000000}')
    with pytest.raises(ChunkTooLargeError) as caught:
        writer.send_text("a" * (1001 - empty))
    assert caught.value.size == 1001
    writer.send_text("a" * (1000 - empty))
    await writer.flush()
    assert sequences(await take(await streams.create_resumable_reader("s"), 2)) == [1, 2]


async def test_a_closed_writer_refuses_and_the_stream_stays_open(
    streams: StreamManager, requests_of: RequestsOf
) -> None:
    writer, other = await streams.create_writer("s", "a"), await streams.create_writer("s", "b")
    await writer.write(number(1))
    await writer.close()
    await writer.close()
    before = requests_of(streams)
    attempt: Any
    with pytest.raises(StreamClosedError) as caught:
        await writer.write(number(2))
    assert caught.value.status == "closed"
    for attempt in (lambda: writer.send(number(2)), lambda: writer.send_text("x")):
        with pytest.raises(StreamClosedError):
            attempt()
    with pytest.raises(StreamClosedError):
        await writer.write_many([number(2)])
    assert requests_of(streams) == before
    assert await other.write(number(2)) == 2


@pytest.mark.parametrize("bad", ["", "a{b", "a}", "a\nb", "\x00", "x" * 513, "\ud800", None, 5, b"s"], ids=ascii)
async def test_bad_ids_are_refused_before_anything_is_sent(
    streams: StreamManager, bad: Any, requests_of: RequestsOf
) -> None:
    attempts: list[Any] = [
        lambda: streams.create_writer(bad, "a"),
        lambda: streams.create_reader(bad),
        lambda: streams.get_info(bad),
        lambda: streams.create_resumable_reader(bad),
        lambda: streams.end_stream(bad),
        lambda: streams.fail_stream(bad, "e"),
        lambda: streams.pause_stream(bad),
        lambda: streams.resume_stream(bad),
        lambda: streams.request_stop(bad),
        lambda: streams.reset_stream(bad),
        lambda: streams.delete_stream(bad),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(InvalidIdError) as caught:
            await attempt()
        assert caught.value.code == "invalid_id"
    assert requests_of(streams) == 0


async def test_bad_arguments_are_refused_before_anything_is_sent(
    streams: StreamManager, requests_of: RequestsOf
) -> None:
    odd: Any = None
    attempts: list[Any] = [
        lambda: streams.create_writer("s", odd),
        lambda: streams.create_writer("s", "\ud800"),
        lambda: streams.create_writer("s", "a", 5),  # type: ignore[arg-type]
        lambda: streams.create_writer("s", "a", fencing_token=-1),
        lambda: streams.create_writer("s", "a", fencing_token=True),
        lambda: streams.create_writer("s", "a", fencing_token=2**63),
        lambda: streams.create_writer("s", "a", lease_ms=0),
        lambda: streams.create_resumable_reader("s", from_sequence=-1),
        lambda: streams.create_resumable_reader("s", from_sequence=1.5),  # type: ignore[arg-type]
        lambda: streams.create_resumable_reader("s", from_sequence=2**53),
        lambda: streams.create_resumable_reader("s", on_gap="no"),
        lambda: streams.create_resumable_reader("s", epoch=5),  # type: ignore[arg-type]
        lambda: streams.end_stream("s", math.nan),
        lambda: streams.end_stream("s", Odd()),
        lambda: streams.fail_stream("s", odd),
        lambda: streams.fail_stream("s", "\ud800"),
        lambda: streams.request_stop("s", "\ud800"),
        lambda: streams.request_stop("s", 5),  # type: ignore[arg-type]
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(InvalidArgumentError):
            await attempt()
    assert requests_of(streams) == 0
    writer = await streams.create_writer("s", "a")
    for odd in ([], 5, None):
        with pytest.raises(InvalidArgumentError):
            await writer.write_many(odd)
    assert await writer.write(number(1)) == 1


async def test_a_closed_manager_says_so(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a")
    await streams.close()
    with pytest.raises(StreamClosedError) as caught:
        await asyncio.wait_for(writer.write(number(1)), 5)
    assert caught.value.status == "closed"
    for attempt in (streams.create_writer("s", "a"), streams.create_reader("s"), streams.get_info("s")):
        with pytest.raises(StoreClosedError):
            await attempt


@every_subclass
async def test_a_str_of_a_subclass_as_stream_id_is_its_text(streams: StreamManager, name: str) -> None:
    async with await streams.create_writer(name, name) as writer:
        assert await writer.write({"type": "text_delta", "delta": name}) == 1
        writer.send_text(name)
    info = await streams.get_info(plain(name))
    assert info is not None
    assert info.last_sequence == 2
    found = await take(await streams.create_resumable_reader(plain(name)), 2)
    assert [one.chunk.delta for one in found if isinstance(one.chunk, TextDeltaChunk)] == [plain(name)] * 2
    last = found[-1].chunk
    assert isinstance(last, TextDeltaChunk)
    assert last.agent_id == plain(name)
