"""Processes that write the same session at once."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from helix_fast.state.store import RedisStateStore

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
TASKS, ROUNDS = 50, 4
WORKER = """
import asyncio, json, random, sys
from helix_fast.errors import ConcurrentUpdateError
from helix_fast.state.store import RedisStateStore

async def add(store, who, rounds):
    conflicts = 0
    for _ in range(rounds):
        while True:
            state = await store.load_state("s")
            state.custom_state["sum"] += 1
            state.custom_state.setdefault(who, 0)
            state.custom_state[who] += 1
            state.messages.append({"who": who})
            try:
                await store.save_state("s", state, expected_version=state.version)
                break
            except ConcurrentUpdateError as error:
                assert error.expected == state.version < error.actual
                conflicts += 1
                await asyncio.sleep(random.uniform(0, 0.02))
    return conflicts

async def main(url, process, tasks, rounds):
    async with RedisStateStore(url) as store:
        print(json.dumps(await asyncio.gather(*(add(store, f"{process}.{n}", rounds) for n in range(tasks)))))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


async def test_read_modify_write_of_50_tasks_in_4_processes_loses_no_update(server_url: str) -> None:
    async with RedisStateStore(server_url) as store:
        await store.create_session("s", agent_type="a", initial_state={"sum": 0})
        shares = [13, 13, 12, 12]
        assert sum(shares) == TASKS
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, server_url, str(number), str(share), str(ROUNDS),
                stdout=asyncio.subprocess.PIPE, cwd=ROOT,
            )
            for number, share in enumerate(shares)
        ]  # fmt: skip
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
        assert [process.returncode for process in processes] == [0] * 4
        conflicts = sum(sum(json.loads(output)) for output, _ in outputs)
        assert conflicts > 0, "nobody met anybody: this has shown nothing"
        state: Any = await store.load_state("s")
    updates = TASKS * ROUNDS
    assert state.version == updates + 1
    assert state.custom_state.pop("sum") == len(state.messages) == updates
    assert state.custom_state == {f"{p}.{n}": ROUNDS for p, share in enumerate(shares) for n in range(share)}
