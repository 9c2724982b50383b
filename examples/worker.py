"""A worker that runs a session under its lock and fences its writes: a replaced worker cannot change anything.

    pip install 'helix-fast[embedded]'
    python worker.py                    # HELIX_URL=redis://... for a server of yours

It runs one session with two workers. The first gets stuck in the middle of a step, for longer than its lock lives; the
second takes over and finishes what was left; then the first one wakes up.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from helix_fast import CustomChunk, Helix, Lock, StagedChanges, StaleFencingTokenError, connect

STEPS = 3


async def nothing() -> None:
    """What happens in the middle of a step."""


async def work(helix: Helix, session_id: str, lock: Lock, middle: Callable[[], Awaitable[None]] = nothing) -> None:
    """Do the steps of a session that are left. Every write carries the lock's token, read at the write."""
    # First a write, then the read: from here on, earlier holders cannot change the state.
    await helix.state.update_status(session_id, "running", fencing_token=lock.fencing_token)
    state = await helix.state.load_state(session_id)
    assert state is not None, "it was there a moment ago"
    writer = await helix.streams.create_writer(session_id, lock.owner, fencing_token=lock.fencing_token)
    async with writer:
        for step in range(state.custom_state["done"] + 1, STEPS + 1):
            if lock.lost.is_set() or writer.stop_requested.is_set():
                return
            if step > 1:
                await middle()
            result = f"step {step} by {lock.owner}"
            # The result and the number of steps done change together, or not at all: no step is done half, or twice.
            changes = StagedChanges(
                tool_call_id=f"call-{step}",
                merge_changes={"results": [result], "done": step},
                timestamp=time.time_ns() // 1_000_000,
            )
            # Staged under the token as well: changes that an earlier holder left behind are not promoted.
            name = f"step-{step}-{lock.fencing_token}"
            await helix.state.stage_changes(session_id, name, changes, fencing_token=lock.fencing_token)
            await helix.state.promote_staging(session_id, name, fencing_token=lock.fencing_token)
            await helix.state.create_checkpoint(session_id, fencing_token=lock.fencing_token)
            await writer.write(CustomChunk(event_name="step", data=result))
    await helix.state.update_status(session_id, "completed", fencing_token=lock.fencing_token)
    await helix.streams.end_stream(session_id, {"steps": STEPS}, fencing_token=lock.fencing_token)


async def first(helix: Helix, session_id: str, middle: Callable[[], Awaitable[None]]) -> None:
    """A worker that hangs: its lock is not renewed, as if the whole process stood still."""
    lock = await helix.locks.acquire(session_id, owner="first", ttl_ms=1_000)
    assert lock is not None, "nobody else is here yet"
    try:
        await work(helix, session_id, lock, middle)
    except StaleFencingTokenError as error:
        print(f"first: refused, {error.code}; its lock is {'lost' if lock.lost.is_set() else 'held'}")


async def second(helix: Helix, session_id: str) -> None:
    """A worker as it should be: it waits for the lock, and the lock is renewed while it works."""
    async with helix.locks.hold(session_id, owner="second", ttl_ms=5_000, wait_ms=10_000) as lock:
        print("second: took over")
        await work(helix, session_id, lock)


async def main() -> None:
    session_id = f"job-{time.time_ns()}"
    stuck, wake = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        stuck.set()
        await wake.wait()

    async with connect(os.environ.get("HELIX_URL", "embedded://")) as helix:
        await helix.state.create_session(session_id, agent_type="worker", initial_state={"results": [], "done": 0})
        hanging = asyncio.create_task(first(helix, session_id, hang))
        await stuck.wait()
        await second(helix, session_id)
        wake.set()
        await hanging

        state = await helix.state.load_state(session_id)
        assert state is not None
        print(state.status, state.custom_state["results"])
        reader = await helix.streams.create_reader(session_id)
        assert reader is not None
        async with reader:
            print([chunk.data async for chunk in reader if isinstance(chunk, CustomChunk)])


if __name__ == "__main__":
    asyncio.run(main())
