"""Processes that run agents: ``python -m tests.support.run_worker MODE URL ...``, and stopped or killed by tests.

crowd URL WORKERS SESSIONS KILLS SEED
    So many processes run the same runs, one a session, each until all of them have ended. Meanwhile one of them is
    killed so often, at a random moment, and replaced. The last line printed is the number of killed ones.
one URL SESSION LOCK_TTL_MS
    Runs an agent that counts until it is told to stop; prints what becomes of it, a line each.
drained URL RUNS
    So many endless runs; drains when it gets SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from helix_fast import HelixError, LockNotAcquiredError, ProducerLostError, connect
from helix_fast.agents import AgentExecutor, Messages, Output, RunContext
from tests.support.run_agents import counter

CHUNKS = 24
LOCK_TTL_MS = 1_500
LEASE_MS = 1_000
AT_ONCE = 4


async def scripted(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Says the same in every attempt."""
    for number in range(CHUNKS):
        yield f"{number} "
        if number % 8 == 7:
            tokens = {"prompt": 1, "completion": 1}
            yield {"kind": "tokens", "model": "m", "tokens": tokens, "id": f"{context.session_id}-{number}"}
        await asyncio.sleep(random.uniform(0, 0.02))
    yield Messages([{"role": "assistant", "content": "done"}])
    yield Output(CHUNKS)


async def work(url: str, sessions: int) -> None:
    """Run all runs, each until it has ended, in this process or another."""
    left = list(range(sessions))
    random.shuffle(left)

    async def some(executor: AgentExecutor) -> None:
        while left:
            number = left.pop(0)
            try:
                handle = await executor.execute(scripted, "count", session_id=f"s{number}", run_id=f"r{number}")
                result = await handle.result()
            except (LockNotAcquiredError, ProducerLostError):
                left.append(number)
                await asyncio.sleep(0.02)
            else:
                assert (result.status, result.output) == ("completed", CHUNKS), result

    async with (
        connect(url, locks={"default_ttl_ms": LOCK_TTL_MS}) as helix,
        AgentExecutor(helix, lease_ms=LEASE_MS) as executor,
    ):
        await asyncio.gather(*(some(executor) for _ in range(AT_ONCE)))


def fork(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """A process that does this work; forking, as importing takes long."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        random.seed()
        asyncio.run(work())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def crowd(url: str, workers: int, sessions: int, kills: int, seed: int) -> None:
    """See the module."""
    chance = random.Random(seed)
    children = [fork(lambda: work(url, sessions)) for _ in range(workers)]
    killed = 0
    while killed < kills:
        time.sleep(chance.uniform(0.02, 0.2))
        victim = chance.choice(children)
        if os.waitpid(victim, os.WNOHANG) != (0, 0):
            children.remove(victim)
            break  # all work is done
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        children.remove(victim)
        children.append(fork(lambda: work(url, sessions)))
        killed += 1
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), statuses
    print(killed)


async def one(url: str, session: str, ttl: int) -> None:
    """See the module."""

    async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
        try:
            async for text in counter(message, context):
                yield text
        finally:
            print("told", bool(context.stop_requested), context.stop_reason, flush=True)

    async with connect(url, locks={"default_ttl_ms": ttl}) as helix:
        executor = AgentExecutor(helix, lease_ms=ttl)
        handle = await executor.execute(agent, "count", session_id=session)
        print("begun", handle.run_id, flush=True)
        try:
            print("result", await handle.result(), flush=True)
        except HelixError as error:
            print("error", error.code, flush=True)


async def drained(url: str, runs: int) -> None:
    """See the module."""
    async with connect(url) as helix:
        executor = AgentExecutor(helix)
        handles = [await executor.execute(counter, "count", session_id=f"s{n}") for n in range(runs)]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("running", flush=True)
        await stop.wait()
        await executor.drain(0.2)
        print(sorted({(await handle.result()).status for handle in handles}), flush=True)


if __name__ == "__main__":
    mode, url, *rest = sys.argv[1:]
    if mode == "crowd":
        crowd(url, *map(int, rest))
    elif mode == "one":
        asyncio.run(one(url, rest[0], int(rest[1])))
    else:
        asyncio.run(drained(url, int(rest[0])))
