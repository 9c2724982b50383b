"""Processes that lock: run as ``python -m tests.support.lock_worker MODE URL ...``, and stopped or killed by tests.

race URL PROCESSES ROUNDS
    So many processes, forked at once, each take the lock so often; the list `order` gets the tokens as they were given.
soak URL PROCESSES SECONDS SEED DIRECTORY
    Processes that count a number up in a session under its lock, with pauses, some longer than the TTL; each writes
    what it did to DIRECTORY/<number>.json.
victim URL TTL_MS
    Holds the lock of session `s` and writes to the session's state and stream, on and on, whatever becomes of the lock;
    prints one JSON line a write, and ends when it has been refused by both often enough.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from helix_fast.errors import HelixError, LockLostError, StaleFencingTokenError, StoreTimeoutError
from helix_fast.locks.manager import RedisLockManager
from helix_fast.state.schema import MergeChanges
from helix_fast.state.store import RedisStateStore
from helix_fast.streams.manager import RedisStreamManager

SESSION = "s"
SOAK_TTL_MS = 250
REFUSALS = 5


def forked(count: int, work: Callable[[int], Coroutine[Any, Any, None]]) -> int:
    """Run `work(number)` in so many processes at once; returns how many failed. Forking, as importing takes long."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(work(number))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def race(url: str, processes: int, rounds: int) -> int:
    """See the module."""

    async def work(_: int) -> None:
        async with RedisLockManager(url) as locks:
            for _ in range(rounds):
                async with locks.hold(SESSION, wait_ms=math.inf) as lock:
                    await locks._requests.command(SESSION, "RPUSH", f"order:{{{SESSION}}}", lock.fencing_token)

    return forked(processes, work)


def soak(url: str, processes: int, seconds: float, seed: int, directory: str) -> int:
    """See the module."""
    end = time.monotonic() + seconds

    async def work(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        done: dict[str, Any] = {
            "number": number,
            "counted": 0,
            "tokens": [],
            "refused": 0,
            "lost": 0,
            "late": 0,
            "inside": False,
        }
        async with RedisLockManager(url) as locks, RedisStateStore(url) as state:
            while time.monotonic() < end or not done["counted"]:  # on a busy machine the first turn comes late
                try:
                    await count_up(locks, state, dice, done)
                except LockLostError:  # noqa: PERF203
                    done["lost"] += 1
                except StoreTimeoutError:
                    if done["inside"]:
                        raise  # what became of a write is not known: the count cannot be checked
                    done["late"] += 1  # the lock was given, and had expired before we heard of it
        Path(directory, f"{number}.json").write_text(json.dumps(done))

    async def count_up(locks: RedisLockManager, state: RedisStateStore, dice: random.Random, done: Any) -> None:
        async with locks.hold(SESSION, ttl_ms=SOAK_TTL_MS, wait_ms=math.inf) as lock:
            token = lock.fencing_token
            done["tokens"].append(token)
            done["inside"] = True
            try:
                # Whoever held the lock before is fenced off from here on, and only then may we read.
                await state.merge_custom_state(SESSION, MergeChanges({"holder": token}), fencing_token=token)
                before = await state.load_state(SESSION)
                assert before is not None
                # Some stand still at their first turn, so that it happens on the busiest machine too.
                if dice.random() < 0.03 or (len(done["tokens"]) == 1 and done["number"] < 4):
                    time.sleep(SOAK_TTL_MS * dice.uniform(1.2, 2.0) / 1000)  # the whole process
                else:
                    await asyncio.sleep(dice.choice([0, 0, 0.001, 0.01]))
                number = before.custom_state["number"] + 1
                await state.merge_custom_state(SESSION, MergeChanges({"number": number}), fencing_token=token)
                done["counted"] += 1
            except StaleFencingTokenError:
                done["refused"] += 1
            done["inside"] = False
        if dice.random() < 0.3:
            await asyncio.sleep(dice.uniform(0, 0.01))

    return forked(processes, work)


async def victim(url: str, ttl_ms: int) -> int:
    """See the module."""

    def say(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    async with RedisLockManager(url) as locks, RedisStateStore(url) as state, RedisStreamManager(url) as streams:
        try:
            async with locks.hold(SESSION, ttl_ms=ttl_ms, owner="victim") as lock:
                token = lock.fencing_token
                await state.create_session(SESSION, agent_type="victim", fencing_token=token)
                writer = await streams.create_writer(SESSION, "victim", fencing_token=token)

                async def to_state() -> Any:
                    return await state.merge_custom_state(SESSION, MergeChanges({"by": "victim"}), fencing_token=token)

                async def to_stream() -> Any:
                    return await writer.write({"type": "text_delta", "delta": "victim"})

                refused = {"state": 0, "stream": 0}
                while min(refused.values()) < REFUSALS:
                    for kind, write in (("state", to_state), ("stream", to_stream)):
                        lost = lock.lost.is_set()
                        try:
                            await write()
                            say(kind=kind, lost=lost, error=None, token=token)
                        except HelixError as error:
                            refused[kind] += 1
                            say(kind=kind, lost=lost, error=error.code, token=token)
                    await asyncio.sleep(0.002)
                try:
                    await streams.create_writer(SESSION, "victim", fencing_token=token)
                except StaleFencingTokenError as error:
                    say(kind="reopen", lost=lock.lost.is_set(), error=error.code, token=token)
        except LockLostError:
            say(kind="end", lost=True, error="lock_lost")
    return 0


def main(mode: str, url: str, *args: str) -> int:
    """Run one of the modes."""
    if mode == "race":
        return race(url, int(args[0]), int(args[1]))
    if mode == "soak":
        return soak(url, int(args[0]), float(args[1]), int(args[2]), args[3])
    return asyncio.run(victim(url, int(args[0])))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
