"""Everything that can be read of a stream, to compare two ways of storing it."""

from __future__ import annotations

from typing import Any

from helix_fast import MalformedChunkError, RedisStreamManager
from helix_fast.errors import HelixError
from helix_fast.streams.lines import LineReader

Seen = list[tuple[object, ...]]


async def seen(reader: Any) -> Seen:
    """All that a reader yields and raises, up to its end."""
    found: Seen = []
    while (step := await _step(reader)) is not None:
        found.append(step)
        if isinstance(step[0], type):
            break
    return [*found, ("position", str(reader.position))]


async def _step(reader: Any) -> tuple[object, ...] | None:
    try:
        stored = await reader.__anext__()
    except StopAsyncIteration:
        return None
    except MalformedChunkError as error:
        return ("malformed", error.sequence, error.data)
    except HelixError as error:
        return (type(error), str(error))
    position = getattr(stored, "position", None)
    return (stored,) if position is None else (*stored, str(position))


async def lines(streams: RedisStreamManager, stream_id: str, after: int) -> list[object]:
    """The lines that an SSE response gets from a position on, and how they end."""
    found: list[object] = []
    reader = LineReader(streams._cursor(stream_id, after, None, "skip", None))
    try:
        while (batch := await reader.read_batch()) is not None:
            wanted = batch.body.split(b"\n")[-(batch.last - batch.after) :]
            found += [(batch.last - len(wanted) + n, line, batch.epoch) for n, line in enumerate(wanted, 1)]
    except HelixError as error:
        found.append((type(error), str(error)))
    return found


async def everything(streams: RedisStreamManager, stream_id: str = "s") -> list[object]:
    """What can be read of a stream that has ended, from every position and in every way."""
    info = await streams.get_info(stream_id)
    assert info is not None
    reader = await streams.create_reader(stream_id)
    whole = await seen(streams.read(stream_id, on_gap="skip"))
    found: list[object] = [info, whole, await seen(reader)]
    positions = [str(step[3]) for step in whole if len(step) == 4]
    found += [await seen(streams.read(stream_id, from_sequence=position)) for position in positions]
    for after in range(info.last_sequence + 2):
        found.append(await seen(streams.read(stream_id, from_sequence=after, on_gap="skip")))
        found.append(await lines(streams, stream_id, after))
    return found
