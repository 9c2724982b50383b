"""Event loops, threads and forks: whose the connections of a store are, and what it says elsewhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from helix_fast import (
    Helix,
    HelixError,
    InvalidArgumentError,
    RedisStateStore,
    RedisStreamManager,
    RedisUsageStore,
    StoreClosedError,
    StreamClosedError,
    connect,
)
from tests.support.memory import CHUNK, ENTRY


async def refused(call: Callable[[], Any], *words: str) -> None:
    """The call raises an InvalidArgumentError with a hint, and these words in it."""
    with pytest.raises(InvalidArgumentError) as caught:
        await call()
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


def test_all_stores_go_on_with_the_next_loop(shared_helix: Helix) -> None:
    helix = shared_helix

    async def first() -> Any:
        writer = await helix.streams.create_writer("s", "a", lease_ms=60_000)
        await writer.write(CHUNK)
        reader = await helix.streams.create_resumable_reader("s")
        assert reader is not None
        assert (await reader.__anext__()).sequence == 1
        ended = helix.resumable.subscribe("s", lambda _chunk, _sequence: None, from_sequence=0)
        recorder = helix.usage.recorder("s", linger_ms=60_000)
        recorder.add(dict(ENTRY))
        lock = await helix.locks.acquire("s", ttl_ms=600_000)
        assert lock is not None
        left = [asyncio.ensure_future(reader.__anext__())]
        left.append(asyncio.ensure_future(helix.locks.acquire("s", wait_ms=600_000)))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        return writer, reader, ended, recorder, lock

    writer, reader, ended, recorder, lock = asyncio.run(first())

    async def second() -> None:
        await refused(lambda: writer.write(CHUNK), "writer", "closed")
        await refused(lambda: writer.write_many([CHUNK]), "writer", "closed")
        await refused(writer.flush, "writer", "closed")
        await refused(writer.drain, "writer", "closed")
        with pytest.raises(InvalidArgumentError, match="writer"):
            writer.send(CHUNK)
        with pytest.raises(InvalidArgumentError, match="writer"):
            writer.send_text("x")
        await refused(reader.__anext__, "reader", "closed")
        await reader.close()
        await ended()
        await ended
        assert await lock.refresh()
        assert await lock.release()
        await recorder.flush()
        assert await helix.usage.get_entry_count("s") == 1
        another = await helix.streams.create_writer("s", "b")
        assert await another.write(CHUNK) == 2
        info = await helix.streams.get_info("s")
        assert info is not None
        assert info.lease_expires_at is not None
        await writer.close()
        await another.close()
        info = await helix.streams.get_info("s")
        assert info is not None
        assert info.lease_expires_at is None  # the writer of the first loop gave it up
        async with helix.locks.hold("s"):
            assert await helix.state.exists("s")
        following = await helix.streams.create_reader("s")
        assert following is not None
        async with following:
            for _ in range(2):
                await following.__anext__()

    asyncio.run(second())


def test_chunks_that_a_closed_loop_left_behind_are_told(any_url: str) -> None:
    url = any_url

    async def send() -> Any:
        helix = await connect(url, streams={"linger_ms": 600_000})
        writer = await helix.streams.create_writer("s", "a")
        writer.send(CHUNK)
        return helix, writer

    helix, writer = asyncio.run(send())
    told: list[HelixError] = []

    async def close() -> None:
        helix.streams.on("error", told.append)
        with pytest.raises(StreamClosedError) as caught:
            await writer.close()
        assert len(caught.value.unsent) == 1
        await writer.close()
        await helix.close()

    asyncio.run(close())
    assert len(told) == 1


def test_a_second_live_loop_is_refused_and_close_works_from_there(shared_helix: Helix) -> None:
    helix = shared_helix

    async def elsewhere(writer: Any, reader: Any, lock: Any, recorder: Any) -> None:
        await refused(lambda: helix.state.exists("s"), "second thread")
        await refused(lambda: helix.streams.create_writer("s", "a"), "second thread")
        await refused(lambda: helix.streams.create_reader("s"), "second thread")
        await refused(lambda: helix.locks.acquire("s"), "second thread")
        await refused(helix.locks.hold("s").__aenter__, "second thread")
        await refused(lambda: helix.usage.get_rollup("s"), "second thread")
        await refused(helix.usage.find_session_ids, "second thread")
        await refused(lambda: writer.write(CHUNK), "second thread")
        await refused(writer.flush, "second thread")
        await refused(writer.close, "second thread")
        await refused(reader.__anext__, "second thread")
        await refused(lock.refresh, "lock")
        await refused(lock.release, "lock")
        with pytest.raises(InvalidArgumentError):
            recorder.add(dict(ENTRY))
        with pytest.raises(InvalidArgumentError):
            helix.resumable.subscribe("s", print)
        with pytest.raises(InvalidArgumentError):
            writer.send_text("x")
        await helix.close()
        await helix.streams.close()

    async def main() -> None:
        writer = await helix.streams.create_writer("s", "a")
        await writer.write(CHUNK)
        reader = await helix.streams.create_reader("s")
        assert reader is not None
        await reader.__anext__()
        lock = await helix.locks.acquire("s")
        parts = (writer, reader, lock, helix.usage.recorder("s"))
        await asyncio.to_thread(asyncio.run, elsewhere(*parts))
        with pytest.raises(StoreClosedError):
            await helix.state.exists("s")
        with pytest.raises(StreamClosedError):
            await writer.write(CHUNK)

    asyncio.run(main())


def test_close_does_not_wait_for_ever_for_a_thread_that_waits_for_it(
    shared_helix: Helix, monkeypatch: pytest.MonkeyPatch
) -> None:
    helix = shared_helix
    monkeypatch.setattr("helix_fast.transport.binding._CLOSE_SECONDS", 0.05)

    async def main() -> None:
        assert await helix.state.exists("s")
        closing = threading.Thread(target=lambda: asyncio.run(helix.close()))
        closing.start()
        closing.join(60)
        assert not closing.is_alive()
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["closed without an end", "stopped"])
def test_close_works_whatever_became_of_the_loop(how: str, any_url: str) -> None:
    url = any_url
    loop = asyncio.new_event_loop()
    parts: list[Any] = []

    async def main() -> Helix:
        helix = await connect(url)
        writer = await helix.streams.create_writer("s", "a", lease_ms=60_000)
        writer.send(CHUNK)
        await writer.flush()
        reader = await helix.streams.create_resumable_reader("s", from_sequence=1)
        assert reader is not None
        helix.resumable.subscribe("s", lambda _chunk, _sequence: None)
        hold = helix.locks.hold("s")
        await hold.__aenter__()
        recorder = helix.usage.recorder("s", linger_ms=60_000)
        recorder.add(dict(ENTRY))
        parts.extend((writer, reader, hold, recorder, asyncio.ensure_future(reader.__anext__())))
        await asyncio.sleep(0.01)
        return helix

    helix = loop.run_until_complete(main())
    told: list[HelixError] = []
    helix.usage.on("error", told.append)
    if how == "stopped":
        asyncio.run(helix.close())
        assert [error.code for error in told] == ["usage_not_recorded"]
        parts[-1].cancel()
        loop.run_until_complete(asyncio.gather(parts[-1], return_exceptions=True))
        _end(loop)
    else:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        asyncio.run(helix.close())
        assert told == []

    async def after() -> None:
        with pytest.raises(StoreClosedError):
            await helix.state.exists("s")

    asyncio.run(after())


def _end(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


@pytest.mark.parametrize("make", [RedisStateStore, RedisStreamManager, RedisUsageStore])
def test_a_store_by_itself_is_closed_in_another_run(make: Any, server_url: str) -> None:
    store = make(server_url)
    asyncio.run(store._requests.command("", b"PING"))
    asyncio.run(store.close())
    asyncio.run(store.close())

    async def after() -> None:
        with pytest.raises(StoreClosedError):
            await store._requests.command("", b"PING")

    asyncio.run(after())


def test_connections_of_a_closed_loop_are_closed(server_url: str) -> None:
    store = RedisStateStore(server_url)

    async def clients() -> int:
        return len((await store._requests.command("", b"CLIENT", b"LIST")).splitlines())

    before = asyncio.run(clients())
    for _ in range(5):
        assert asyncio.run(_settles(clients, before))
    asyncio.run(store.close())


async def _settles(count: Callable[[], Coroutine[Any, Any, int]], wanted: int) -> bool:
    give_up = time.monotonic() + 60
    while await count() > wanted and time.monotonic() < give_up:  # noqa: ASYNC110  the server is asked
        await asyncio.sleep(0.01)
    return await count() <= wanted


def test_a_call_outside_of_any_loop_is_refused(shared_helix: Helix) -> None:
    helix = shared_helix
    recorder = helix.usage.recorder("s")
    with pytest.raises(InvalidArgumentError, match="no event loop"):
        recorder.add(dict(ENTRY))
    with pytest.raises(InvalidArgumentError, match="no event loop"):
        helix.resumable.subscribe("s", print)


ON_UVLOOP = """
import os, uvloop
from helix_fast import RedisStateStore, RedisStreamManager

state, streams = RedisStateStore(os.environ["URL"]), RedisStreamManager(os.environ["URL"])

async def use(number):
    if number == 1:
        await state.create_session("s", agent_type="a")
    assert await state.append_messages("s", [{"role": "user"}]) == number
    writer = await streams.create_writer("s", "a")  # and nobody closes it
    assert await writer.write({"type": "text_delta", "delta": "x"}) == number

async def close():
    await state.close()
    await streams.close()

for number in (1, 2, 3):
    uvloop.run(use(number))
uvloop.run(close())
print("ended")
"""


def test_loops_of_uvloop_end_with_open_connections(server_url: str) -> None:
    pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-c", ON_UVLOOP],
        env={**os.environ, "URL": server_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


SUITE = """
import os, pytest
from helix_fast import RedisStateStore, RedisStreamManager

state, streams = RedisStateStore(os.environ["URL"]), RedisStreamManager(os.environ["URL"], lease_ms=30_000)
writers = []

@pytest.mark.parametrize("number", [1, 2, 3])
async def test_each_has_a_loop_of_its_own(number):
    if number == 1:
        await state.create_session("s", agent_type="a")
    assert await state.append_messages("s", [{"role": "user"}]) == number
    writer = await streams.create_writer("s", "a")
    writers.append(writer)  # and nobody closes it: the loop ends first
    assert await writer.write({"type": "text_delta", "delta": "x"}) == number
    reader = await streams.create_reader("s")
    assert [(await reader.__anext__()).delta for _ in range(number)] == ["x"] * number
"""


@pytest.mark.slow
def test_a_store_of_a_module_works_in_every_test_of_a_run(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *settings, "-q", "."]
    environment = {**os.environ, "URL": server_url}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout
