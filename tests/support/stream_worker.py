"""A process that writes to a stream until it is killed.

Run as ``python -m tests.support.stream_worker URL STREAM LEASE_MS``.

Prints one line, ``ready``, once its first chunk is acknowledged. It goes on writing every 20 ms.
"""

from __future__ import annotations

import asyncio
import sys

from helix_fast.streams.chunks import TextDeltaChunk
from helix_fast.streams.manager import RedisStreamManager


async def main(url: str, stream_id: str, lease_ms: int) -> None:
    async with RedisStreamManager(url) as streams:
        writer = await streams.create_writer(stream_id, "worker", lease_ms=lease_ms)
        number = 0
        while True:
            await writer.write(TextDeltaChunk(delta=str(number)))
            if number == 0:
                print("ready", flush=True)
            number += 1
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
