"""Sealed streams: they read as before from every position, in less memory, for readers that know of them."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import Any

import pytest

from helix_fast import MalformedStreamError, RedisResumableStorage, RedisStreamManager, StreamClosedError
from helix_fast.streams import sealed as sealed_module
from helix_fast.testing.contract.chunk_helpers import number, numbers, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams
from tests.support.reading import everything
from tests.support.streams_under_fault import text

STREAM = "helix:stream:{s}"
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "敏捷的", "狐狸", "🦊", "and\nthen")


@pytest.fixture
def small_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed entry has a few chunks only, so that a short stream has several."""
    monkeypatch.setattr(sealed_module, "_WANTED_BYTES", 300)


async def tokens(streams: RedisStreamManager, count: int, **options: Any) -> None:
    """An ended stream of tokens that were awaited one by one."""
    async with await streams.create_writer("s", "agent", **options) as writer:
        for n in range(count):
            await writer.write(text(f"{WORDS[n % len(WORDS)]} {n * 7919 % 1000}"))
        await writer.end({"n": count})


# what is the same


@pytest.mark.usefixtures("small_entries")
async def test_a_sealed_stream_reads_as_before_from_every_position(streams: RedisStreamManager, raw: Any) -> None:
    writer = await streams.create_writer("s", "a", fencing_token=1)
    await writer.write_many(numbers(range(8)))
    for n in range(8, 14):
        await writer.write(number(n, text="é" * 9))
    successor = await streams.create_writer("s", "b", fencing_token=2)
    await successor.write_many(numbers(range(14, 18)))
    await successor.fail("why")
    before = await everything(streams)
    entries = await raw.xlen(STREAM)
    assert await streams.seal_stream("s")
    assert await raw.xlen(STREAM) < entries
    assert await everything(streams) == before


@pytest.mark.usefixtures("small_entries")
async def test_a_reader_in_the_middle_goes_on(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    assert isinstance(here, RedisStreamManager)
    await tokens(here, 300)
    whole = await rest(there.read("s"))
    readers = [there.read("s"), there.read("s", from_sequence=whole[99].position), there.read("s", from_sequence=298)]
    parts = [await take(reader, count) for reader, count in zip(readers, (1, 65, 1), strict=True)]
    assert await here.seal_stream("s")
    for reader, part, begin in zip(readers, parts, (0, 100, 298), strict=True):
        assert part + await rest(reader) == whole[begin:]


async def test_the_time_to_live_stays(make_streams: MakeStreams, raw: Any) -> None:
    for ttl in (5_000, 0):
        streams = make_streams(ttl=ttl)
        assert isinstance(streams, RedisStreamManager)
        await tokens(streams, 50)
        if ttl:
            await raw.pexpire(STREAM, 1_000_000)
        assert await streams.seal_stream("s")
        left = await raw.pttl(STREAM)
        assert 900_000 < left <= 1_000_000 if ttl else left == -1
        assert await streams.delete_stream("s")


async def test_sealing_again_changes_nothing(make_streams: MakeStreams, raw: Any) -> None:
    here, there = make_streams(), make_streams()
    assert isinstance(here, RedisStreamManager)
    assert isinstance(there, RedisStreamManager)
    await tokens(here, 100)
    assert await asyncio.gather(here.seal_stream("s"), there.seal_stream("s"), here.seal_stream("s")) == [True] * 3
    log = await raw.xrange(STREAM)
    assert await there.seal_stream("s")
    assert await raw.xrange(STREAM) == log
    assert len(sequences(await rest(here.read("s")))) == 100
    for _draft in [name async for name in raw.scan_iter("*:sealing:*")]:
        pytest.fail("a draft is left")


async def test_a_sealed_stream_takes_a_quarter_of_the_memory(server_url: str) -> None:
    async with RedisStreamManager(server_url) as streams:
        await tokens(streams, 1_000)

        async def size() -> int:
            return int(await streams._requests.command("s", b"MEMORY", b"USAGE", STREAM, b"SAMPLES", b"0"))

        before = await size()
        assert await streams.seal_stream("s")
        assert await size() < before / 4


# what is not sealed


async def test_what_has_not_ended_or_is_not_ours_is_left_as_it_is(streams: RedisStreamManager, raw: Any) -> None:
    assert not await streams.seal_stream("s")
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(50)))
    assert not await streams.seal_stream("s")
    await raw.xadd(STREAM, {"chunk": '{"type":"x"}', "sequence": "51"})
    await streams.end_stream("s")
    log = await raw.xrange(STREAM)
    assert not await streams.seal_stream("s")
    assert await raw.xrange(STREAM) == log
    await raw.delete(STREAM, STREAM + ":meta")
    await raw.set(STREAM, "no stream")
    await raw.hset(STREAM + ":meta", mapping={"status": "ended", "epoch": "e", "terms": "1:1"})
    with pytest.raises(MalformedStreamError, match=r"stream:{s}"):
        await streams.seal_stream("s")


async def test_an_empty_stream_has_nothing_to_be_sealed(streams: RedisStreamManager, raw: Any) -> None:
    await streams.create_writer("s", "a")
    await streams.end_stream("s", "nothing")
    log = await raw.xrange(STREAM)
    assert await streams.seal_stream("s")
    assert await raw.xrange(STREAM) == log
    assert await rest(streams.read("s")) == []


async def test_chunks_that_are_too_large_for_a_sealed_entry_stay_as_they_are(
    streams: RedisStreamManager, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_module, "MOST_BYTES", 3_000)
    noise = random.Random(1).randbytes(1_000).hex()
    writer = await streams.create_writer("s", "a")
    for n in range(80):
        await writer.write(number(n, noise=noise * 2 if n in {20, 40} else ""))
    await writer.end()
    before = await rest(streams.read("s"))
    assert await streams.seal_stream("s")
    kinds = [b"sealed" in fields for _id, fields in await raw.xrange(STREAM)]
    assert kinds == [False, True, False, True, False, True, False]
    assert await rest(streams.read("s")) == before


# what becomes of a sealed stream


async def test_a_sealed_stream_is_closed_and_can_be_reset(streams: RedisStreamManager) -> None:
    await tokens(streams, 50)
    assert await streams.seal_stream("s")
    with pytest.raises(StreamClosedError):
        await streams.create_writer("s", "a")
    with pytest.raises(StreamClosedError):
        await streams.fail_stream("s", "no")
    await streams.end_stream("s")
    epoch = await streams.reset_stream("s")
    writer = await streams.create_writer("s", "a")
    assert await writer.write(number(1)) == 51
    await writer.end()
    assert [(one.sequence, one.epoch) for one in await rest(streams.read("s"))] == [(51, epoch)]
    assert await streams.seal_stream("s")
    assert await streams.delete_stream("s")


async def test_a_repeated_append_is_known_after_sealing(streams: RedisStreamManager) -> None:
    storage = RedisResumableStorage(topology=streams._requests.topology, key_prefix="helix:", manager=streams)
    await storage.create("s")
    await storage.append_many("s", numbers(range(40)), 1)
    await storage.append("s", number(40), 41)
    await streams.end_stream("s")
    assert await streams.seal_stream("s")
    await storage.append("s", number(40), 41)
    await storage.append_many("s", numbers(range(40, 41)), 41)
    for chunk, sequence in ((number(41), 41), (number(41), 42), (number(0), 1)):
        with pytest.raises(StreamClosedError):
            await storage.append("s", chunk, sequence)


# layout, other readers, foreign bytes


async def test_the_layout_is_the_documented_one(streams: RedisStreamManager, raw: Any) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(40)))
    await writer.write(number(40))
    await writer.end(1)
    log = await raw.xrange(STREAM)
    meta = await raw.hgetall(STREAM + ":meta")
    assert await streams.seal_stream("s")
    (first, batches), last = (log[0], log[1:-1]), log[-1]
    now = await raw.xrange(STREAM)
    assert (now[0], now[-1], len(now)) == (first, last, 3)
    entry_id, fields = now[1]
    assert entry_id == batches[0][0] == b"%b-1" % meta[b"term"]
    assert list(fields) == [b"chunk", b"sequence", b"sealed", b"writers"]
    assert (fields[b"sequence"], fields[b"sealed"]) == (b"41", b"41")
    assert zlib.decompress(fields[b"chunk"]) == b"\n".join(fields[b"chunk"] for _id, fields in batches)
    counts = [fields[b"chunk"].count(b"\n") + 1 for _id, fields in batches]
    nonces = [fields[b"writer"] for _id, fields in batches]
    expected = b"\n".join(b"%d %b" % pair for pair in zip(counts, nonces, strict=True))
    assert zlib.decompress(fields[b"writers"]) == expected
    assert await raw.hgetall(STREAM + ":meta") == meta | {b"terms": b"sealed," + meta[b"terms"]}


async def test_a_reader_that_does_not_know_sealed_entries_fails(streams: RedisStreamManager, raw: Any) -> None:
    """The documented reading of plain entries: neither the list of terms nor an entry passes for what it knew."""
    await tokens(streams, 50)
    assert await streams.seal_stream("s")
    with pytest.raises(ValueError, match="unpack"):
        [(int(number), int(first)) for number, first, *_ in map(splits, (await terms(raw)).split(","))]
    (fields,) = [fields for _id, fields in await raw.xrange(STREAM) if b"chunk" in fields]
    assert b"writer" not in fields
    with pytest.raises(ValueError, match=r"utf-8|codec"):
        fields[b"chunk"].decode()


def splits(element: str) -> list[str]:
    return element.split(":")


async def terms(raw: Any) -> str:
    return str((await raw.hget(STREAM + ":meta", "terms")).decode())


@pytest.mark.parametrize(
    "stored",
    [
        b"no deflated bytes",
        zlib.compress(b"{}\n{}")[:-2],
        zlib.compress(b"{}\n{}") + b"more",
        zlib.compress(b"{}\n{}\n{}"),
        None,
    ],
    ids=["foreign", "cut off", "more", "another count", "bomb"],
)
async def test_a_sealed_entry_that_cannot_be_inflated_is_a_typed_error_behind_what_can_be_read(
    streams: RedisStreamManager, raw: Any, stored: bytes | None
) -> None:
    if stored is None:  # made here: it takes a quarter of a second
        stored = zlib.compress(b"\n" * (64 << 20))
    await tokens(streams, 50)
    assert await streams.seal_stream("s")
    entries = await raw.xrange(STREAM)
    await raw.delete(STREAM)
    for entry_id, fields in entries[:-1]:
        await raw.xadd(STREAM, fields, id=entry_id)
    term = (await raw.hget(STREAM + ":meta", "term")).decode()
    bad = {"chunk": stored, "sequence": "52", "sealed": "2", "writers": b""}
    await raw.xadd(STREAM, bad, id=f"{term}-51")
    reader = streams.read("s")
    assert sequences(await take(reader, 50)) == list(range(1, 51))
    with pytest.raises(MalformedStreamError, match=r"helix:stream:{s}: entry \d+-51: ") as caught:
        await reader.__anext__()
    assert caught.value.key == STREAM
    with pytest.raises(MalformedStreamError):
        await rest(streams.read("s", from_sequence=50))
