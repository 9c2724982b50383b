"""What every lock manager and stream store does, through the blocking classes."""

from __future__ import annotations

import asyncio

from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, number_of, take
from helix_fast.testing.contract.locks import *
from helix_fast.testing.contract.resumable import *
from helix_fast.testing.contract.streams import *


async def test_concurrent_writes_get_each_a_sequence_of_their_own_in_order(streams: StreamManager) -> None:
    """Threads call in any order, on Python 3.14 visibly: each chunk has the sequence that its call returned."""
    writer = await streams.create_writer("s", "agent")
    returned = await asyncio.gather(*(writer.write(number(n)) for n in range(500)))
    assert sorted(returned) == list(range(1, 501))
    found = await take(await streams.create_resumable_reader("s"), 500)
    assert [(one.sequence, number_of(one.chunk)) for one in found] == sorted(zip(returned, range(500), strict=True))
