"""What writing costs a store on Redis: requests counted."""

from __future__ import annotations

import asyncio

from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.fixtures import MakeStreams, RequestsOf
from tests.support.servers import until
from tests.support.streams import number


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


async def test_one_chunk_costs_one_append_and_one_push(streams: StreamManager, requests_of: RequestsOf) -> None:
    writer = await streams.create_writer("s", "agent")
    before = requests_of(streams)
    await writer.write(number(1))
    assert requests_of(streams) == before + 2
