"""What writing costs a store on Redis: requests counted."""

from __future__ import annotations

import asyncio
import time

import pytest

from helix_fast import RedisStreamManager
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams, RequestsOf
from helix_fast.testing.waiting import until
from helix_fast.transport.presence import POLL_SECONDS


async def test_linger_gathers_what_is_sent_meanwhile(make_streams: MakeStreams, requests_of: RequestsOf) -> None:
    streams = make_streams(linger_ms=300)
    writer = await streams.create_writer("s", "agent")
    before = requests_of(streams)
    for n in range(5):
        writer.send(number(n))
        await asyncio.sleep(0)
    assert requests_of(streams) == before
    await until(lambda: writer.buffered_bytes == 0, what="the sending without a flush")
    assert requests_of(streams) == before + 2, "one XADD, one PUBLISH"


async def test_chunks_that_nobody_elsewhere_hears_cost_one_append_each(
    make_streams: MakeStreams, requests_of: RequestsOf
) -> None:
    streams = make_streams(block_timeout=60_000)
    writer = await streams.create_writer("s", "agent")
    assert isinstance(streams, RedisStreamManager)
    if streams._requests.topology.presence.counts_unreliable:
        pytest.skip("a cluster without sharded pub/sub counts no listeners")
    reader = await streams.create_resumable_reader("s")
    await writer.write(number(0))
    assert sequences(await take(reader, 1)) == [1]
    before, began = requests_of(streams), time.monotonic()
    for n in range(1, 201):
        await writer.write(number(n))
    assert sequences(await take(reader, 200)) == list(range(2, 202))
    asked = (time.monotonic() - began) / POLL_SECONDS + 1  # whether somebody else has come
    assert 200 <= requests_of(streams) - before <= 200 + asked


async def test_one_chunk_costs_one_append_and_one_push(streams: StreamManager, requests_of: RequestsOf) -> None:
    writer = await streams.create_writer("s", "agent")
    before = requests_of(streams)
    await writer.write(number(1))
    assert requests_of(streams) == before + 2
