"""Event loops, threads and forks: whose the connections of a store are, and what it says elsewhere."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
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

TARGETS = ["memory", "server", "cluster"]
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12, where threads run


@pytest.fixture(params=TARGETS)
def url(request: pytest.FixtureRequest) -> str:
    """Of each kind of topology."""
    names = {"memory": None, "server": "server_url", "cluster": "cluster_url"}
    name = names[request.param]
    return "memory://" if name is None else str(request.getfixturevalue(name))


@pytest.fixture
def helix(url: str) -> Iterator[Helix]:
    """Opened in one run of asyncio, closed in another."""

    async def opened() -> Helix:
        helix = await connect(url)
        await helix.state.create_session("s", agent_type="a")
        return helix

    helix = asyncio.run(opened())
    yield helix
    asyncio.run(helix.close())
    gc.collect()  # nothing warns of a socket that was left open


async def refused(call: Callable[[], Any], *words: str) -> None:
    """The call raises an InvalidArgumentError with a hint, and these words in it."""
    with pytest.raises(InvalidArgumentError) as caught:
        await call()
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


def test_all_stores_go_on_with_the_next_loop(helix: Helix) -> None:
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


def test_chunks_that_a_closed_loop_left_behind_are_told(url: str) -> None:
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


def test_a_second_live_loop_is_refused_and_close_works_from_there(helix: Helix) -> None:
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
    helix: Helix, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_close_works_whatever_became_of_the_loop(how: str, url: str) -> None:
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


def test_a_call_outside_of_any_loop_is_refused(helix: Helix) -> None:
    recorder = helix.usage.recorder("s")
    with pytest.raises(InvalidArgumentError, match="no event loop"):
        recorder.add(dict(ENTRY))
    with pytest.raises(InvalidArgumentError, match="no event loop"):
        helix.resumable.subscribe("s", print)


# forks


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


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@forks
def test_the_child_of_a_fork_is_refused_and_the_parent_goes_on(helix: Helix) -> None:
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


@forks
def test_the_same_loop_in_a_child_is_refused_too(url: str) -> None:
    loop = asyncio.new_event_loop()
    helix = loop.run_until_complete(connect(url).__aenter__())
    assert "fork" in in_child(lambda: loop.run_until_complete(helix.state.exists("s")))
    assert in_child(lambda: loop.run_until_complete(helix.close())) == "None"
    assert not loop.run_until_complete(helix.state.exists("s"))
    loop.run_until_complete(helix.close())
    _end(loop)


@forks
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


@forks
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


SUITE = """
import os, pytest
from helix_fast import RedisStateStore, RedisStreamManager

state, streams = RedisStateStore(os.environ["URL"]), RedisStreamManager(os.environ["URL"], lease_ms=30_000)

@pytest.mark.parametrize("number", [1, 2, 3])
async def test_each_has_a_loop_of_its_own(number):
    if number == 1:
        await state.create_session("s", agent_type="a")
    assert await state.append_messages("s", [{"role": "user"}]) == number
    writer = await streams.create_writer("s", "a")  # and nobody closes it
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
