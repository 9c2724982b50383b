"""The codec under threads: on objects of their own, on the shared ones that never change, and on shared ones that do.

On a build with a GIL the threads only take turns, which finds little; without one (3.13t, 3.14t) they really meet.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.codec.twins import TWINS, U64_MAX, compared, on_each_twin

pytestmark = pytest.mark.slow

THREADS = 4
WITHOUT_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# With a GIL more turns find no more, as every call is one of them.
MANY = 10 if WITHOUT_GIL else 1
ENTRIES = [
    b'{"kind":"tokens","timestamp":5,"model":"gpt-4o","tokens":{"prompt":9,"completion":5}}',
    b'{"kind":"tool","toolName":"search","durationMs":12,"success":true}',
    b'{"kind":"subagent","agentType":"coder","subSessionId":"s-1","durationMs":0.5}',
    b"no entry",
]


class Numbered(NamedTuple):
    """What a reader gets."""

    chunk: Any
    sequence: int
    epoch: Any
    term: Any


@pytest.fixture(autouse=True)
def frequent_turns() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread, all starting at once; what they returned, in order.

    Raises:
        Exception: the first that one of them raised.
    """
    start = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)
    errors: list[Exception] = []

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            start.wait()
            results[place] = work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def lines_of(bodies: list[bytes]) -> list[bytes]:
    return b"\n".join(body for body in bodies if body).split(b"\n")


@on_each_twin
def test_threads_with_objects_of_their_own_get_what_one_thread_gets(codec: Any) -> None:
    def work() -> Any:
        encoder, batch, framer = (
            codec.ChunkEncoder("é agent"),
            codec.BatchBuilder(),
            codec.AppendFramer(b"key", b"channel"),
        )
        sequencer, window, rollup = codec.Sequencer(), codec.Window(), codec.Rollup()
        seen = []
        for number in range(1, 120):
            for part in range(number % 5 + 1):
                batch.add_text(encoder, 'delta "€"\n' * part, number)
            count, first, body = batch.count, sequencer.reserve(batch.count), batch.take()
            frame = framer.xadd(3, first, count, body, b"nonce")
            last = sequencer.commit()
            push = framer.publish(3, first, last, body).partition(b"channel\r\n")[2].partition(b"\r\n")[2][:-2]
            seen.append((codec.parse_push(push), window.offer(first, last), frame))
            seen.append(codec.decode_texts(encoder, body, last, 0, dict))
            seen.append(codec.number_chunks(Numbered, [body, number], first, frame, body))
            page = [[b"1-1", [b"chunk", body, b"sequence", b"%d" % last, b"writer", b"nonce"]]]
            seen.append(codec.merge_entries(page, first - 1))
            seen.append((codec.split_lines(body, last, 0), codec.join_lines(body, last, first)))
            seen.append(codec.frame_command(["SET", "é", number, 0.5]))
            codec.check_finite({"a": [number, {"b": 0.5}]})
            rollup.add([*ENTRIES, b'{"kind":"tool","toolName":"%d","durationMs":%d}' % (number, 2**61)])
        return seen, repr(rollup.export()), codec.select_entries(ENTRIES, None, (None, None), (5, 5), 9)

    expected = work()
    assert together(*[work] * THREADS) == [expected] * THREADS


@on_each_twin
def test_an_encoder_and_a_framer_serve_many_threads(codec: Any) -> None:
    encoder, framer = codec.ChunkEncoder("agent", "é"), codec.AppendFramer(b"key", b"channel")
    delta = "wide text € " * 5  # the same str for all: its UTF-8 is made by the first to need it

    def work() -> list[bytes]:
        return [
            framer.xadd(1, number, 1, encoder.encode_text(delta + str(number % 7), number), b"nonce", b"1-1")
            for number in range(1, 800)
        ]

    expected = work()
    assert together(*[work] * THREADS) == [expected] * THREADS


@compared
def test_a_shared_batch_loses_no_chunk_and_tears_none() -> None:
    codec = TWINS[1]
    encoder, batch = codec.ChunkEncoder("a"), codec.BatchBuilder()
    repeats = 1500 * MANY

    def texts() -> None:
        for number in range(repeats):
            batch.add_text(encoder, "delta €" * (number % 40), number)

    def chunks() -> None:
        for number in range(repeats):
            batch.add(b'{"timestamp":%d,"pad":"%b"}' % (number, b"x" * (number % 700)))

    def take() -> list[bytes]:
        # Read while others change it: any of its states will do.
        return [batch.take() for _ in range(repeats) if batch.count >= 0 <= batch.size]

    *_, first, second = together(texts, texts, chunks, take, take)
    lines = lines_of([*first, *second, batch.take()])
    stamps = Counter(msgspec.json.decode(line)["timestamp"] for line in lines)
    assert stamps == dict.fromkeys(range(repeats), 3)


@compared
def test_a_shared_rollup_counts_every_entry_once() -> None:
    codec = TWINS[1]
    rollup = codec.Rollup()
    repeats = 150 * MANY

    def add(name: int) -> Callable[[], None]:
        def work() -> None:
            for number in range(repeats):
                rollup.add([*ENTRIES, b'{"kind":"custom","type":"%d-%d","value":1}' % (name, number)])

        return work

    def export() -> None:
        for _ in range(repeats // (3 * MANY)):
            counted, malformed, *_ = rollup.copy().export()
            assert counted >= 0 <= malformed
            rollup.export()

    together(add(0), add(1), add(1), export)
    counted, malformed, first, last, sections, children = rollup.export()
    assert (counted, malformed, first, last, children) == (3 * repeats * 4, 3 * repeats, 5, 5, ["s-1"])
    tokens, tools, agents, custom, other = sections
    assert (tokens["gpt-4o"][:3], tools["search"][0], agents["coder"][0], other) == (
        (3 * repeats, 27 * repeats, 15 * repeats),
        3 * repeats,
        3 * repeats,
        {},
    )
    assert {name: slot[0] for name, slot in custom.items()} == {
        f"{name}-{number}": name + 1 for name in range(2) for number in range(repeats)
    }


@compared
def test_rollups_merged_into_each_other_both_ways_neither_block_nor_crash() -> None:
    codec = TWINS[1]
    rollups = [codec.Rollup(), codec.Rollup()]
    for place, rollup in enumerate(rollups):
        rollup.add([b'{"kind":"tool","toolName":"%d","durationMs":%d}' % (name, 2**61) for name in range(place, 60, 2)])

    def merge(into: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(12 * MANY):
                rollups[into].merge(rollups[1 - into])
                rollups[into].merge(rollups[into])

        return work

    together(merge(0), merge(1), merge(0), merge(1))
    for rollup in rollups:
        names = rollup.export()[4][1]
        assert set(names) == {str(name) for name in range(60)}
        assert all(isinstance(slot[9], int) and slot[9] >= 2**61 for slot in names.values())


@compared
def test_shared_counters_never_leave_their_range() -> None:
    codec = TWINS[1]
    sequencer, window = codec.Sequencer(), codec.Window()

    def count() -> None:
        for number in range(1, 1500 * MANY):
            try:
                assert 1 <= sequencer.reserve(number % 3 + 1) <= U64_MAX
                sequencer.commit()
            except RuntimeError:  # another thread's range is in flight
                sequencer.rollback()
            assert window.offer(number, number + 2) in (-2, -1, 0, 1, 2, 3)
            assert 0 <= window.last <= 1502 * MANY

    together(*[count] * THREADS)
    assert 0 < sequencer.last <= THREADS * 1500 * MANY * 3


@on_each_twin
def test_what_another_thread_changes_meanwhile_is_read_or_refused(codec: Any) -> None:
    tree: dict[str, Any] = {f"k{number}": [number, {"deep": number}] for number in range(50)}
    command: list[Any] = [b"SET", "key", 5]
    entries = list(ENTRIES)
    page: list[Any] = [[b"1-1", [b"chunk", b"{}", b"sequence", b"%d" % last, b"writer", b"n"]] for last in range(1, 5)]
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            tree[f"new{number % 90}"] = [number]
            tree.pop(f"new{(number * 7) % 90}", None)
            tree["k1"].append(0.5)
            del tree["k1"][2:]
            command.append("é" * (number % 9))
            del command[3:]
            entries.append(ENTRIES[number % 4])
            del entries[4:]
            page[2][1].append(b"seventh")
            del page[2][1][number % 7 :]
            page[2][1].extend([b"chunk", b"{}", b"sequence", b"3", b"writer", b"n"][number % 7 :])
            page[3][:] = [] if number % 2 else [b"1-1", page[2][1]]

    def read() -> None:
        try:
            for _ in range(400):
                try:
                    codec.check_finite(tree)
                except RuntimeError as error:
                    assert "changed" in str(error)  # noqa: PT017  what Python says of a dict that changes under a loop
                assert codec.frame_command(command).startswith((b"*3\r\n", b"*4\r\n"))
                with suppress(IndexError, ValueError):  # a list that shrinks between two reads of it
                    assert codec.merge_entries(page, 0)[0] >= 2
                assert len(codec.number_chunks(Numbered, command, 1, None, None)) >= 3
                rollup = codec.Rollup()
                rollup.add(entries)
                assert rollup.entry_count >= 3
                assert len(codec.select_entries(entries, [b"tool"], (None, None), (None, None), 9)) >= 1
        finally:
            done.set()

    together(change, read, read)


@compared
@pytest.mark.skipif(not WITHOUT_GIL, reason="this interpreter always has a GIL")
def test_the_extension_does_not_switch_the_gil_on() -> None:
    """It is loaded alone: other packages may not be ready for a life without a GIL."""
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('helix_fast._codec', sys.argv[1])\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "sys.exit(sys._is_gil_enabled())\n"
    )
    place = importlib.util.find_spec("helix_fast._codec")
    assert place is not None
    assert place.origin is not None
    # -I, as PYTHON_GIL=0 in the environment would keep the GIL off, also against the extension.
    done = subprocess.run([sys.executable, "-I", "-W", "error", "-c", program, place.origin], check=False)
    assert done.returncode == 0
