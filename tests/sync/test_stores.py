"""The blocking stores: names and signatures of the async ones, threads, forks, interruptions, garbage."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import helix_fast
from helix_fast import HelixError, InvalidArgumentError, MalformedChunkError, StoreClosedError, StreamClosedError, sync
from helix_fast.sync import Helix, connect, loop
from helix_fast.testing.waiting import until
from tests.support.backends import Backend
from tests.sync.test_loop import program

CHUNK = {"type": "text_delta", "delta": "x"}
CLASSES = [name for name in sync.__all__ if hasattr(helix_fast, name) and name not in {"connect", "Helix"}]
# What only one side has: tasks can be cancelled, threads cannot.
OTHERS = {"UsageRecorder.abandon"}


@pytest.fixture
def helix(place: Backend) -> Iterator[Helix]:
    url = place.target if isinstance(place.target, str) else "memory://"
    with connect(url) as opened:
        yield opened


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_there_with_its_signature(name: str) -> None:
    theirs, ours = getattr(helix_fast, name), getattr(sync, name)
    for member, function in inspect.getmembers(theirs, callable):
        if member.startswith("_") or f"{name}.{member}" in OTHERS:
            continue
        expected = [p for p in inspect.signature(function).parameters.values() if p.name != "cancel_on_lost"]
        given = [*inspect.signature(getattr(ours, member)).parameters.values()]
        plain = [(p.name, p.kind, p.default) for p in given]
        assert plain == [(p.name, p.kind, p.default) for p in expected], member
        assert getattr(ours, member).__doc__
        assert not inspect.iscoroutinefunction(getattr(ours, member))
    properties = [key for key, value in inspect.getmembers(theirs) if isinstance(value, property)]
    assert not [key for key in properties if not key.startswith("_") and not hasattr(ours, key)]


@pytest.mark.parametrize("name", sync.__all__)
def test_docstrings_are_in_the_blocking_form(name: str) -> None:
    value = getattr(sync, name)
    members = inspect.getmembers(value, callable) if inspect.isclass(value) else []
    for member, function in [(name, value), *members]:
        text = (function.__doc__ or "") if not member.startswith("_") else ""
        for word in ("await ", "async with", "async for", "asyncio.Event"):
            assert word not in text, member


def test_a_session_a_stream_a_lock_and_usage(helix: Helix) -> None:
    helix.state.create_session("s", agent_type="a")
    with helix.locks.hold("s") as lock:
        assert helix.state.append_messages("s", [{"role": "user"}], fencing_token=lock.fencing_token) == 1
        assert lock.held
        assert not lock.lost
        assert not lock.lost.wait(0.01)
    assert not helix.locks.is_locked("s")
    with helix.streams.create_writer("s", "a") as writer:
        for letter in "abc":
            writer.send_text(letter)
        assert writer.write(CHUNK) == 4
    helix.streams.end_stream("s")
    reader = helix.streams.read("s")
    assert [stored.sequence for stored in reader] == [1, 2, 3, 4]
    assert reader.position.sequence == 4
    with helix.usage.recorder("s") as recorder:
        recorder.add({"kind": "custom", "type": "t", "value": 2, "unit": "u"})
    rollup = helix.usage.get_rollup("s")
    assert rollup is not None
    assert rollup.entry_count == 1


def test_fifty_threads_share_one_connection_set(helix: Helix) -> None:
    failed: list[BaseException] = []

    def work(index: int) -> None:
        try:
            with helix.streams.create_writer(f"s{index}", "a") as writer:
                assert [writer.write(CHUNK) for _ in range(20)] == list(range(1, 21))
            helix.streams.end_stream(f"s{index}")
            assert sum(1 for _ in helix.streams.read(f"s{index}")) == 20
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    topology = helix.streams._async._requests.topology
    assert topology is helix.state._async._requests.topology


def test_position_is_that_of_the_last_chunk_handed_out(helix: Helix) -> None:
    with helix.streams.create_writer("s", "a") as writer:
        writer.write_many(CHUNK for _ in range(10))
    reader = helix.streams.create_resumable_reader("s", from_sequence=2)
    assert reader is not None
    assert reader.position.sequence == 2
    assert next(reader).sequence == 3
    assert reader.position.sequence == 3
    assert [stored.sequence for stored in reader.read_batch()] == list(range(4, 11))
    assert reader.position.sequence == 10
    reader.close()
    assert list(reader) == []


def test_what_a_token_cannot_be_is_told_at_once(helix: Helix) -> None:
    writer = helix.streams.create_writer("s", "a")
    with pytest.raises(MalformedChunkError):
        writer.send_text(5)  # type: ignore[arg-type]
    writer.send_text("é")
    writer.flush()
    writer.close()
    with pytest.raises(StreamClosedError):
        writer.send_text("x")


def test_a_stream_that_ended_is_told_by_the_next_call(helix: Helix) -> None:
    writer = helix.streams.create_writer("s", "a")
    writer.send_text("x")
    helix.streams.end_stream("s")
    with pytest.raises(StreamClosedError):  # noqa: PT012
        for _ in range(1_000):
            writer.send_text("y")
            writer.flush()


def test_items_pass_until_a_stop_is_requested(helix: Helix) -> None:
    writer = helix.streams.create_writer("s", "a")
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.append(True)

    seen = []
    for item in writer.until_stopped(source()):
        seen.append(item)
        if item == 3:
            helix.streams.request_stop("s", "enough")
            assert writer.stop_requested.wait(30)
    assert seen == [0, 1, 2, 3]
    assert closed
    assert writer.stop_reason == "enough"
    with pytest.raises(InvalidArgumentError):
        writer.until_stopped(5)  # type: ignore[arg-type]
    writer.close()


def test_a_callback_may_call_the_store_and_end_its_subscription(helix: Helix) -> None:
    heard: list[tuple[int, bool]] = []

    def hear(_chunk: Any, sequence: int) -> None:
        heard.append((sequence, helix.streams.exists("s")))
        if sequence == 3:
            ended()

    ended = helix.resumable.subscribe("s", hear, from_sequence=0)
    helix.resumable.create("s")
    helix.resumable.append_many("s", [CHUNK] * 5, 1)
    assert ended.wait(30)
    assert heard == [(1, True), (2, True), (3, True)]
    with pytest.raises(InvalidArgumentError):
        helix.resumable.subscribe("s", asyncio.sleep)  # type: ignore[arg-type]


def test_errors_of_the_background_reach_a_callback_which_must_not_block(helix: Helix) -> None:
    errors: list[HelixError] = []
    blocked: list[BaseException] = []

    def note(error: HelixError) -> None:
        errors.append(error)
        try:
            helix.state.exists("s")
        except InvalidArgumentError as refused:
            blocked.append(refused)

    helix.resumable.on("error", note)
    helix.resumable.create("s")
    helix.resumable.append("s", CHUNK, 1)

    def fail(_chunk: Any, _sequence: int) -> None:
        raise KeyError("callback")

    ended = helix.resumable.subscribe("s", fail, from_sequence=0)
    helix.resumable.end("s")
    assert ended.wait(30)
    assert isinstance(errors[0].__cause__, KeyError)
    assert len(blocked) == len(errors)


async def test_a_forgotten_reader_leaves_no_subscription(helix: Helix) -> None:
    helix.streams.create_writer("s", "a").close()
    reader = helix.streams.create_resumable_reader("s")
    assert reader is not None
    inner = weakref.ref(reader._async)
    hub = loop.call(lambda: helix.streams._async._requests.topology.hub("s"))
    assert loop.call(lambda: len(hub._channels)) >= 1  # type: ignore[attr-defined]
    before = loop.call(lambda: len(hub._channels))  # type: ignore[attr-defined]
    del reader
    gc.collect()
    assert inner() is None
    await until(lambda: loop.call(lambda: len(hub._channels)) < before)  # type: ignore[attr-defined]


def test_within_a_running_event_loop_it_works(helix: Helix) -> None:
    async def main() -> bool:
        return helix.state.exists("s")

    assert asyncio.run(main()) is False


def test_a_closed_helix_says_so() -> None:
    helix = connect("memory://")
    helix.close()
    with pytest.raises(StoreClosedError):
        helix.state  # noqa: B018
    with pytest.raises(InvalidArgumentError):
        connect("memory://", no_such_option=1)  # type: ignore[call-arg]


def test_a_store_can_be_made_alone(place: Backend) -> None:
    if not isinstance(place.target, str):
        pytest.skip("a server is needed")
    with sync.RedisStateStore(place.target, key_prefix="p:", ttl=60) as state:
        assert state.ttl == 60
        assert state.key_prefix == "p:"
        assert not state.exists("s")


@pytest.mark.slow
def test_in_a_forked_child_a_helix_connects_anew_and_a_store_is_refused(tmp_path: Path) -> None:
    printed = program(
        f"""
        import os, sys, warnings
        from helix_fast import HelixError
        from helix_fast.sync import connect

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        unused = connect("embedded://{tmp_path}")
        with connect("embedded://{tmp_path}") as helix, connect("memory://") as private:
            helix.state.create_session("s", agent_type="a")
            state = helix.state
            private.state.exists("s")
            child = os.fork()
            if child == 0:
                print(helix.state.exists("s"), unused.state.exists("s"))
                for store in (state, private.state):
                    try:
                        store.exists("s")
                    except HelixError as error:
                        print(error.code)
                unused.close()
                helix.close()
                sys.stdout.flush()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), state.exists("s"))
        """,
        warned=True,  # of the parent's connections, which the child may not close
    )
    assert printed == "True True\ninvalid_argument\ninvalid_argument\n0 True\n"


@pytest.mark.slow
def test_a_program_may_end_without_closing_anything() -> None:
    printed = program("""
        from helix_fast.sync import connect

        helix = connect("embedded://")
        writer = helix.streams.create_writer("s", "a", lease_ms=60_000)
        writer.send_text("x")
        lock = helix.locks.hold("s").__enter__()
        reader = helix.streams.read("s")
        print(next(reader).sequence, lock.held)
    """)
    assert printed == "1 True\n"
