"""A real server that is killed and comes back from a snapshot older than what it had acknowledged."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from helix_fast import RedisStateStore
from helix_fast.errors import AcknowledgedDataLostError, HelixError
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SESSIONS = [f"s{number}" for number in range(6)]


def versions(server: ServerProcess) -> dict[str, int]:
    replies = {each: server.ask(b"HGET helix:session:{%s} version" % each.encode()) for each in SESSIONS}
    return {each: int(reply.split(b"\r\n")[1]) for each, reply in replies.items()}


async def test_each_session_whose_acknowledged_writes_are_gone_is_named_once(short_path: Path) -> None:
    """Some are written all the time, over the restart; the last one is idle, and nobody asks for it again."""
    for name in ("a", "b"):
        (short_path / name).mkdir()
    server, copy = (ServerProcess(short_path / name, options={"dbfilename": "dump.rdb"}) for name in ("a", "b"))
    await server.start()
    acknowledged: dict[str, list[int]] = {each: [] for each in SESSIONS}
    stop, errors = asyncio.Event(), list[HelixError]()

    async def work(store: RedisStateStore, session_id: str) -> None:
        while not stop.is_set():
            acknowledged[session_id].append((await store.merge_custom_state(session_id, {"n": 1})).version)
            await asyncio.sleep(random.uniform(0, 0.003))

    async def more(count: int) -> None:
        target = {each: len(acknowledged[each]) + count for each in SESSIONS[:-1]}
        await until(lambda: all(len(acknowledged[each]) >= target[each] for each in target), seconds=60)

    try:
        async with RedisStateStore(server.url) as store:
            store.on("error", errors.append)
            for session_id in SESSIONS:
                await store.create_session(session_id, agent_type="tester")
            working = [asyncio.ensure_future(work(store, each)) for each in SESSIONS[:-1]]
            await more(5)
            assert server.ask(b"SAVE", timeout=30) == b"+OK\r\n"
            shutil.copyfile(short_path / "a" / "dump.rdb", short_path / "b" / "dump.rdb")
            await copy.start()
            kept = versions(copy)
            acknowledged[SESSIONS[-1]].append((await store.merge_custom_state(SESSIONS[-1], {"n": 1})).version)
            await more(5)
            server.kill()
            before = {each: len(acknowledged[each]) for each in SESSIONS}
            await server.start()
            await more(5)
            await until(lambda: len(errors) >= len(SESSIONS))
            stop.set()
            await asyncio.gather(*working)
            for session_id in SESSIONS:
                await store.load_state(session_id)
        assert all(isinstance(error, AcknowledgedDataLostError) for error in errors)
        named = {error.session_id: (error.first, error.last) for error in errors}  # type: ignore[attr-defined]
        assert len(errors) == len(SESSIONS)
        for session_id in SESSIONS:
            assert named[session_id] == (kept[session_id] + 1, max(acknowledged[session_id][: before[session_id]]))
    finally:
        await server.stop()
        await copy.stop()
