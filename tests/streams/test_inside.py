"""What a store on Redis does that only its inside or the server shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast import HelixError, MalformedChunkError, ProducerLostError, TextDeltaChunk, ToolStartChunk
from helix_fast.interfaces import ResumableStorage
from helix_fast.testing.contract.chunk_helpers import number, numbers, take
from helix_fast.testing.contract.fixtures import MakeStreams, StopRenewing
from helix_fast.testing.contract.resumable.subscribing import Heard
from helix_fast.testing.waiting import until
from helix_fast.transport.presence import POLL_SECONDS

STREAM = "helix:stream:{s}"


async def test_a_stop_request_missed_by_a_lost_subscription_is_learned_afterwards(make_streams: Any) -> None:
    streams, other = make_streams(ttl=None), make_streams()
    writer = await streams.create_writer("s", "a")
    streams._requests.topology.hub("").unsubscribe(b"helix:stream-control", streams._control)
    await other.request_stop("s", "late")
    assert not writer.stop_requested.is_set()
    streams._control.resync()  # what the hub calls when its connection was lost
    await asyncio.wait_for(writer.stop_requested.wait(), 5)


async def test_writers_opened_together_listen_once(make_streams: Any) -> None:
    streams = make_streams()
    await asyncio.gather(*(streams.create_writer(f"s{n}", "a") for n in range(20)))
    hub = streams._requests.topology.hub("")
    hub = getattr(hub, "_where", {}).get(b"helix:stream-control", hub)
    assert len(hub._channels[b"helix:stream-control"].subscribers) == 1


async def test_a_listener_missed_by_a_lost_subscription_is_found_afterwards(make_streams: Any) -> None:
    streams, other = make_streams(), make_streams(block_timeout=60_000)
    writer = await streams.create_writer("s", "a")
    if streams._requests.topology.presence.counts_unreliable:  # known once it is connected
        pytest.skip("a cluster without sharded pub/sub counts no listeners")
    await writer.write(number(1))
    await until(lambda: not writer._appender.subscribers.present, what="the answer that nobody listens")
    streams._requests.topology.hub("").unsubscribe(b"helix:stream-control", streams._control)
    waiting = asyncio.ensure_future(take(await other.create_resumable_reader("s"), 2))
    await until(lambda: other._requests.topology.presence.local)
    await asyncio.sleep(0.05)
    assert not writer._appender.subscribers.present
    streams._control.resync()
    await until(lambda: writer._appender.subscribers.present, seconds=POLL_SECONDS / 2, what="a count at once")
    await writer.write(number(2))
    assert [stored.sequence for stored in await waiting] == [1, 2]


async def test_a_lost_producer_is_marked_once(make_streams: MakeStreams, stop_renewing: StopRenewing, raw: Any) -> None:
    watchers = [make_streams(block_timeout=40) for _ in range(3)]
    gone = make_streams()
    writer = await gone.create_writer("s", "a", lease_ms=80)
    await writer.write(number(1))
    readers = [await manager.create_resumable_reader("s", from_sequence=1) for manager in watchers]
    await stop_renewing(gone)
    for outcome in await asyncio.gather(*(take(reader, 1, seconds=30) for reader in readers), return_exceptions=True):
        assert isinstance(outcome, ProducerLostError)
    events = [fields[b"event"] for _id, fields in await raw.xrange(STREAM) if b"event" in fields]
    assert events[1:] == [b"lost"], "behind the opening one"


async def test_a_repeated_append_adds_no_entry(storage: ResumableStorage, raw: Any) -> None:
    await storage.create("s")
    for n in (1, 2):
        for _ in range(3):
            await storage.append("s", number(n), n)
    for _ in range(2):
        await storage.append_many("s", numbers([3, 4, 5]), 3)
    assert await raw.xlen(STREAM) == 1 + 2 + 1, "an opening entry and one for each append"


async def test_read_from_tells_malformed_bytes(storage: ResumableStorage, raw: Any) -> None:
    await storage.create("s")
    await raw.xadd(STREAM, {"chunk": "{", "sequence": "1"})
    with pytest.raises(MalformedChunkError) as malformed:
        await storage.read_from("s")
    assert (malformed.value.sequence, malformed.value.data) == (1, b"{")


async def test_bytes_that_are_no_chunk_are_reported_and_passed_over(storage: ResumableStorage, raw: Any) -> None:
    errors: list[HelixError] = []
    storage.on("error", errors.append)
    heard = Heard()
    await storage.create("s")
    await storage.append("s", number(1), 1)
    await raw.xadd("helix:stream:{s}", {"chunk": "{", "sequence": "2"})
    await raw.xadd("helix:stream:{s}", {"chunk": '{"type":"number","n":3}', "sequence": "3"})
    storage.subscribe("s", heard, from_sequence=0)
    assert await heard.wait(2) == [(1, 1), (3, 3)]
    assert isinstance(errors[0], MalformedChunkError)
    assert errors[0].sequence == 2


async def test_what_a_reader_changes_in_its_chunk_no_other_reader_sees(make_streams: MakeStreams) -> None:
    streams = make_streams(block_timeout=60_000)
    writer = await streams.create_writer("s", "a")
    await writer.write(number(0))
    readers = [await streams.create_resumable_reader("s", from_sequence=1) for _ in range(3)]
    waiting = [asyncio.ensure_future(take(reader, 2)) for reader in readers]
    await asyncio.sleep(0)
    tool = ToolStartChunk(tool_call_id="c", tool_name="t", arguments={"n": [1]})
    await writer.write_many([TextDeltaChunk(delta="one"), tool])
    for each in waiting:
        text, call = [stored.chunk for stored in await each]
        assert isinstance(text, TextDeltaChunk)
        assert isinstance(call, ToolStartChunk)
        assert (text.delta, call.arguments) == ("one", {"n": [1]})
        text.delta = "spoilt"
        call.arguments["n"].append(2)
