"""Forks: the child leaves what is its parent's, says so, and works with what was only made before."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helix_fast import Helix, RedisStateStore, RedisStreamManager, RedisUsageStore, connect
from tests.support.memory import CHUNK, ENTRY

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # of Python 3.12, where threads run
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
]


def in_child(work: Callable[[], object]) -> str:
    """What work does in a forked process: the error, or what it returns."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(sending, said.encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def step(coroutine: Coroutine[Any, Any, Any]) -> object:
    """Run a coroutine as the child of a fork within a coroutine does: there is no loop that could take it up."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    return "waits"


def test_the_child_of_a_fork_is_refused_and_the_parent_goes_on(shared_helix: Helix) -> None:
    helix = shared_helix

    async def main() -> None:
        loop = asyncio.get_running_loop()
        writer = await helix.streams.create_writer("s", "a")
        assert await writer.write(CHUNK) == 1
        reader = await helix.streams.create_reader("s")
        assert reader is not None
        lock = await helix.locks.acquire("s")
        assert lock is not None
        recorder = helix.usage.recorder("s", linger_ms=60_000)
        recorder.add(dict(ENTRY))

        async def read() -> None:
            for _ in range(2):
                await reader.__anext__()

        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: helix.state.exists("s"),
            lambda: helix.streams.create_writer("s", "a"),
            lambda: helix.streams.create_reader("s"),
            lambda: helix.locks.acquire("s"),
            lambda: helix.usage.get_rollup("s"),
            lambda: helix.usage.get_rollup("s", include_sub_agents=True),
            helix.usage.find_session_ids,
            lambda: writer.write(CHUNK),
            writer.flush,
            read,
            lock.refresh,
            lock.release,
            recorder.flush,
        ]
        for call in calls:
            assert in_child(lambda call=call: step(call())).startswith("InvalidArgumentError"), call  # type: ignore[misc]
        for close in (writer.close, reader.close, helix.state.close, helix.usage.close, helix.streams.close):
            assert in_child(lambda close=close: step(close())) == "None"  # type: ignore[misc]
        assert in_child(lambda: (step(helix.close()), gc.collect())).startswith("(None")
        assert in_child(lambda: _run_anew(helix)).startswith("InvalidArgumentError: a store was used on both sides")
        assert asyncio.get_running_loop() is loop
        assert await writer.write(CHUNK) == 2
        await recorder.flush()
        assert await lock.release()
        await writer.close()

    asyncio.run(main())
    assert "fork" in in_child(lambda: asyncio.run(helix.state.exists("s")))
    assert in_child(lambda: asyncio.run(helix.close())) == "None"
    assert asyncio.run(helix.state.exists("s"))


def _run_anew(helix: Helix) -> None:
    asyncio.run(helix.state.exists("s"))


def test_the_same_loop_in_a_child_is_refused_too(any_url: str) -> None:
    url = any_url
    loop = asyncio.new_event_loop()
    helix = loop.run_until_complete(connect(url).__aenter__())
    assert "fork" in in_child(lambda: loop.run_until_complete(helix.state.exists("s")))
    assert in_child(lambda: loop.run_until_complete(helix.close())) == "None"
    assert not loop.run_until_complete(helix.state.exists("s"))
    loop.run_until_complete(helix.close())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_store_that_was_only_made_before_the_fork_works_in_every_child(server_url: str) -> None:
    state, streams, usage = RedisStateStore(server_url), RedisStreamManager(server_url), RedisUsageStore(server_url)

    async def work(number: int) -> int:
        await state.create_session(f"s{number}", agent_type="a")
        async with await streams.create_writer("s", "a") as writer:
            await writer.write(CHUNK)
        async with usage.recorder("s") as recorder:
            recorder.add({**ENTRY, "id": f"{number}"})
        for store in (state, streams, usage):
            await store.close()
        return number

    # names that were made before the fork would be those of both, and the second record a repetition of the first
    assert [in_child(lambda number=number: asyncio.run(work(number))) for number in (1, 2)] == ["1", "2"]  # type: ignore[misc]

    async def check() -> None:
        assert await usage.get_entry_count("s") == 2
        await usage.close()

    asyncio.run(check())


@pytest.mark.slow
def test_a_child_does_not_stop_the_embedded_server_of_its_parent() -> None:
    async def opened() -> Helix:
        helix = await connect("embedded://")
        await helix.state.create_session("s", agent_type="a")
        return helix

    helix = asyncio.run(opened())
    assert in_child(lambda: asyncio.run(helix.close())) == "None"
    assert asyncio.run(helix.state.exists("s"))
    pid = helix._server.pid
    asyncio.run(helix.close())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
