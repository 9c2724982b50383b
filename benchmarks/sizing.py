"""What things cost in the server's memory: ``python -m benchmarks.sizing``; the figures of docs/operations.md.

The server counts (``MEMORY USAGE … SAMPLES 0``: every element), a private one. Chunks are tokens of 5 characters,
messages have 400 bytes of JSON, usage entries ids of 32 characters.
"""

from __future__ import annotations

import asyncio
import json
import uuid

from helix_fast import Helix, connect

CHUNKS = 10_000
MANY = 1_000
CHUNK = {"type": "text_delta", "agentId": "agent", "timestamp": 1_700_000_000_000, "delta": "token"}
MESSAGE = {"role": "user", "content": "x" * 370}


async def memory(helix: Helix, pattern: str) -> int:
    """Bytes of all keys like this."""
    names = await helix.state._requests.command("", "KEYS", f"helix:{pattern}")
    return sum([int(await helix.state._requests.command("", "MEMORY", "USAGE", name, "SAMPLES", 0)) for name in names])


async def chunk(helix: Helix, batch: int) -> float:
    """A chunk beyond its JSON, of a full stream written in batches of so many."""
    name = f"in-{batch}"
    writer = await helix.streams.create_writer(name, "agent")
    empty = await memory(helix, f"stream:{{{name}}}*")
    for _ in range(0, CHUNKS, batch):
        await writer.write_many([CHUNK] * batch)
    await writer.close()
    entries = await helix.state._requests.command(name, "XRANGE", f"helix:stream:{{{name}}}", "-", "+")
    fields = [dict(zip(fields[::2], fields[1::2], strict=True)) for _id, fields in entries]
    text = sum(len(each.get(b"chunk", b"")) for each in fields)
    return (await memory(helix, f"stream:{{{name}}}*") - empty - text) / CHUNKS


async def message(helix: Helix) -> float:
    """A message beyond its JSON, of a session with many."""
    await helix.state.create_session("talk", agent_type="agent")
    for _ in range(MANY // 10):
        await helix.state.append_messages("talk", [MESSAGE] * 10)
    stored = await helix.state._requests.command("talk", "LRANGE", "helix:session:{talk}:messages:1", 0, -1)
    return (await memory(helix, "session:{talk}:messages:*") - sum(map(len, stored))) / len(stored)


async def checkpoint(helix: Helix) -> float:
    """A checkpoint of that session: it does not hold the messages."""
    before = await memory(helix, "session:{talk}:checkpoint*")
    for _ in range(100):
        await helix.state.create_checkpoint("talk")
    return (await memory(helix, "session:{talk}:checkpoint*") - before) / 100


async def usage(helix: Helix) -> tuple[float, float]:
    """An entry beyond its JSON, and its id."""
    source = {"type": "agent", "name": "agent"}
    counts = {"prompt": 100, "completion": 50, "total": 150}
    common = {"kind": "tokens", "sessionId": "talk", "stepCount": 1, "timestamp": 1_700_000_000_000}
    await helix.usage.record_entries(
        {**common, "id": uuid.uuid4().hex, "source": source, "model": "a-model", "tokens": counts} for _ in range(MANY)
    )
    stored = await helix.state._requests.command("talk", "LRANGE", "helix:usage:entries:{talk}", 0, -1)
    entries = await memory(helix, "usage:entries:{talk}") - sum(map(len, stored))
    return entries / MANY, await memory(helix, "usage:ids:{talk}") / MANY


async def session(helix: Helix) -> int:
    """A session with a little custom state, without messages; not what is known of calls for two minutes."""
    await helix.state.create_session("new", agent_type="agent", initial_state={"topic": "tides", "notes": []})
    return await memory(helix, "session:{new}*") - await memory(helix, "session:{new}:operations:*")


async def calls(helix: Helix) -> float:
    """A write to a session, for the two minutes for which it may be repeated."""
    before = await memory(helix, "session:{new}:operations:*")
    for _ in range(MANY):
        await helix.state.increment_step_count("new")
    return (await memory(helix, "session:{new}:operations:*") - before) / MANY


async def stream(helix: Helix) -> int:
    """A stream that nothing was written to."""
    await (await helix.streams.create_writer("new", "agent")).close()
    return await memory(helix, "stream:{new}*")


async def lock(helix: Helix) -> tuple[int, int]:
    """A lock that is held, and what is left of it: the last fencing token, and for a minute the calls."""
    async with helix.locks.hold("new"):
        held = await memory(helix, "lock:{new}*")
    return held, await memory(helix, "lock:{new}:fence")


async def measure(helix: Helix) -> dict[str, float]:
    """Bytes by what they are the cost of."""
    figures: dict[str, float] = {"stream, empty": await stream(helix)}
    for batch in (1, 4, 32):
        figures[f"chunk beyond its JSON, {batch} in an entry"] = await chunk(helix, batch)
    figures["session, without messages"] = await session(helix)
    figures["write to a session, two minutes"] = await calls(helix)
    figures["message beyond its JSON"] = await message(helix)
    figures["checkpoint"] = await checkpoint(helix)
    figures["usage entry beyond its JSON"], figures["usage entry's id"] = await usage(helix)
    figures["lock, held"], figures["lock's fencing token"] = await lock(helix)
    return figures


async def main() -> None:
    """Measure, and print a table."""
    async with connect("embedded://", streams={"max_stream_length": None}) as helix:
        figures = await measure(helix)
    print(f"a chunk's JSON has {len(json.dumps(CHUNK, separators=(',', ':')))} bytes\n")
    for name, size in figures.items():
        print(f"{name:40} {size:7.0f}")


if __name__ == "__main__":
    asyncio.run(main())
