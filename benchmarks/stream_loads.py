"""The loads of writers that several measures share. Each returns seconds, and has counted what the server holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from helix_fast import RedisStreamManager, StreamWriter, TextDeltaChunk

from .measure import check
from .payloads import AGENT_ID, AGENT_TYPE, HEADLINE

# Tokens between two turns of the event loop: what a producer that does something else as well lets gather.
BLOCK = 512
AT_ONCE = 1000


async def stream_text(streams: RedisStreamManager, stream_id: str, text: str, count: int) -> float:
    """One writer, ``send_text`` and ``flush``; then the stream is checked and deleted."""
    writer = await streams.create_writer(stream_id, AGENT_ID, AGENT_TYPE)
    send = writer.send_text
    left = count
    began = time.perf_counter()
    while left:
        block = min(BLOCK, left)
        for _ in range(block):
            send(text)
        left -= block
        await writer.drain()
        await asyncio.sleep(0)
    await writer.flush()
    seconds = time.perf_counter() - began
    info = await streams.get_info(stream_id)
    assert info is not None
    check(info.last_sequence, count, "last sequence of the stream")
    check(info.chunk_count >= min(count, streams.max_stream_length or count), True, "as many chunks kept as promised")
    reader = await streams.create_resumable_reader(stream_id, from_sequence=info.last_sequence - min(count, 100))
    assert reader is not None
    async with reader:
        for sequence in range(count - min(count, 100) + 1, count + 1):
            stored = await reader.__anext__()
            check((stored.sequence, getattr(stored.chunk, "delta", None)), (sequence, text), "a chunk at the end")
    await writer.close()
    await streams.delete_stream(stream_id)
    return seconds


async def open_writers(streams: RedisStreamManager, names: Sequence[str]) -> list[StreamWriter]:
    """A writer for each name, some at once."""
    writers: list[StreamWriter] = []
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        writers += await asyncio.gather(*(streams.create_writer(name, AGENT_ID, AGENT_TYPE) for name in part))
    return writers


async def write_each(writer: StreamWriter, count: int, text: str = HEADLINE) -> None:
    """Write one chunk after the other, each acknowledged before the next."""
    sequence = 0
    for _ in range(count):
        sequence = await writer.write(TextDeltaChunk(delta=text))
    check(sequence, count, f"last acknowledged sequence of {writer.stream_id}")


async def check_last(streams: RedisStreamManager, names: Sequence[str], expected: int) -> None:
    """Each stream has this last sequence, says the server."""
    for start in range(0, len(names), AT_ONCE):
        for info in await asyncio.gather(*map(streams.get_info, names[start : start + AT_ONCE])):
            assert info is not None
            check(info.last_sequence, expected, f"last sequence of {info.stream_id}")


async def close_and_delete(
    streams: RedisStreamManager, names: Sequence[str], writers: Sequence[StreamWriter] = ()
) -> None:
    """Leave nothing behind."""
    for start in range(0, len(writers), AT_ONCE):
        await asyncio.gather(*(writer.close() for writer in writers[start : start + AT_ONCE]))
    for start in range(0, len(names), AT_ONCE):
        await asyncio.gather(*map(streams.delete_stream, names[start : start + AT_ONCE]))
