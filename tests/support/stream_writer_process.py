"""A process that writes its share of one stream over a network that loses replies. Prints the sequences it was told.

Arguments: URL, number of the process, chunks to write, seed, share of appends that meet a fault.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

from helix_fast import RedisStreamManager
from helix_fast.testing.contract.chunk_helpers import number
from tests.support.flaky import DELAY_REQUEST, LOSE_REPLY, LOSE_REQUEST, PASS, FlakyTopology


async def work(url: str, process: int, count: int, seed: int, share: float) -> None:
    dice = random.Random(seed)
    topology = FlakyTopology(url, retry_timeout=60)
    manager = RedisStreamManager(topology=topology, max_stream_length=None)
    told: list[tuple[int, int]] = []  # last number of a batch, and the sequence told for it
    async with await manager.create_writer("s", f"agent{process}") as writer:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # all begin at the same time
        written = 0
        while written < count:
            size = min(count - written, dice.choice((1, 2, 5, dice.randrange(1, 150))))
            while len(topology.faults) < 8:
                fault = dice.choice((LOSE_REPLY, LOSE_REPLY, LOSE_REQUEST, DELAY_REQUEST))
                topology.faults.append(fault if dice.random() < share else PASS)
            last = await writer.write_many([number(n, p=process) for n in range(written, written + size)])
            written += size
            told.append((written - 1, last))
            if dice.random() < 0.1:
                topology.deliver()
    await manager.close()
    await topology.close()
    print(json.dumps({"told": told, "faults": topology.met}), flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(work(arguments[0], int(arguments[1]), int(arguments[2]), int(arguments[3]), float(arguments[4])))
