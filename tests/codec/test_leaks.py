"""The compiled codec keeps nothing of what it was called with: neither references nor memory of its own.

In the short form each call is made some ten thousand times, with `-m soak` a million times.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tests.codec.twins import TWINS, U64_MAX, compared

pytestmark = pytest.mark.slow

SHORT = 10_000
LONG = 1_000_000
# What an allocator may keep for itself. The smallest block of malloc, leaked by each of SHORT calls, is 320 KB.
SLACK = 192 * 1024
# The interpreter takes its arenas a MiB at a time. A million calls that leak one smallest block take 16 MB.
RESIDENT_SLACK = 4 * 1024 * 1024
USUAL = [
    b'{"kind":"tokens","timestamp":1700000000000,"model":"gpt-4o","tokens":{"prompt":9,"completion":5,"total":14}}',
    b'{"kind":"tool","toolName":"search","durationMs":12.5,"success":true}',
    b'{"kind":"subagent","agentType":"coder","subSessionId":"s-1","durationMs":7}',
    *(b'{"kind":"custom","type":"price %d","value":0.5}' % number for number in range(9)),
]
LARGE = json.dumps({"kind": "custom", "type": "credits", "value": 2**70}).encode()
UNUSUAL = [LARGE, rb'{"kind":"tool","toolName":"s\u00e9arch"}', b'{"kind":"tool","tool', b"[]"]


class Call(NamedTuple):
    """A call with all its arguments, so that the references to them can be counted."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    share: int = 1
    """It is made this many times less often, since it does so many times more."""


class Numbered(NamedTuple):
    """What a reader gets."""

    chunk: Any
    sequence: int
    epoch: Any
    term: Any


def made_of(**fields: Any) -> dict[str, Any]:
    return fields


class Loud:
    """Raises when an attribute is read."""

    __struct_fields__ = ("field",)

    @property
    def field(self) -> object:
        raise RuntimeError("field")


def refused(call: Callable[..., Any]) -> Callable[..., None]:
    """The same call, which must raise."""

    def attempt(*arguments: Any) -> None:
        try:
            call(*arguments)
        except (TypeError, ValueError, OverflowError, RuntimeError, AttributeError):
            return
        raise AssertionError("was not refused")

    return attempt


def calls(codec: ModuleType) -> dict[str, Call]:
    """All that the codec does, by name, with arguments that no one else holds."""
    encoder, batch, framer = (
        codec.ChunkEncoder("agent", "coder"),
        codec.BatchBuilder(),
        codec.AppendFramer(b"key", b"channel"),
    )
    sequencer, window, rollup = codec.Sequencer(), codec.Window(), codec.Rollup()
    rollup.add([*USUAL, *UNUSUAL])
    plain, hard, wide = "plain text", 'a "hard"\n\x01 text', "brêite Zeichen €"
    stamp, body, nonce = 1_700_000_000_001, b"{}\n[]\n5" + b"0" * 20, b"nonce"
    texts = b"\n".join([encoder.encode_text(text, stamp) for text in (plain, hard, wide)] + [b"[]"])
    head, tail = b'{"type":"text_delta","delta":"', encoder.encode_text("", 0)[30:-2]
    page = [[b"1-1", [b"chunk", b"{}", b"sequence", b"8", b"writer", nonce]] for _ in range(2)]
    page[1][1] = [b"chunk", b"[]\n5", b"sequence", b"10", b"writer", nonce]
    tree = {"a": [1, 2.5, {"b": (None, "text")}], "c": {"d": b"bytes"}}

    def filled(chunk: bytes, delta: str) -> None:
        own = codec.BatchBuilder()
        own.add(chunk)
        own.add_text(encoder, delta, stamp)
        own.take()
        own.add(chunk)  # and goes away with its buffer

    def in_order(count: int) -> None:
        sequencer.reserve(count)
        sequencer.commit()
        window.offer(sequencer.last, sequencer.last)

    def rolled(entries: list[bytes]) -> None:
        own = codec.Rollup()
        own.add(entries)
        own.merge(rollup)
        own.merge(own)
        own.copy().export()

    exported = rollup.export()
    damaged = (*exported[:-1], [plain, wide, None])

    def restored(sums: Any) -> None:
        own = codec.Rollup.restore(sums)
        own.add(UNUSUAL)
        own.export()

    return {
        "encode": Call(encoder.encode_text, (plain, stamp)),
        "encode with escapes": Call(encoder.encode_text, (hard, stamp)),
        "encode wide text": Call(encoder.encode_text, (wide, stamp)),
        "encode refused": Call(refused(encoder.encode_text), ("half \ud800", stamp)),
        "encoder": Call(codec.ChunkEncoder, (hard, wide)),
        "encoder refused": Call(refused(codec.ChunkEncoder), (plain, b"bytes")),
        "batch": Call(filled, (b'{"a":1}', hard), 2),
        "batch of one object": Call(lambda chunk: (batch.add(chunk), batch.take()), (b'{"a":1}',)),
        "batch, large": Call(lambda chunk: (batch.add(chunk), batch.take()), (b"x" * 300_000,), 50),
        "batch refused": Call(refused(batch.add), (b"two\nlines",)),
        "batch refused text": Call(refused(batch.add_text), (encoder, plain, -1)),
        "framer": Call(codec.AppendFramer, (b"a key", b"a channel")),
        "framer refused": Call(refused(codec.AppendFramer), (b"a key", plain)),
        "xadd": Call(framer.xadd, (stamp, 7, 3, body, nonce)),
        "xadd with trimming": Call(framer.xadd, (stamp, 7, 3, body, nonce, b"5-1")),
        "xadd refused": Call(refused(framer.xadd), (stamp, U64_MAX, 2, body, nonce)),
        "publish": Call(framer.publish, (stamp, 7, 9, body)),
        "publish refused": Call(refused(framer.publish), (stamp, 9, 7, body)),
        "command": Call(codec.frame_command, ([b"SET", plain, wide, stamp, -1, 2.5],)),
        "command refused": Call(refused(codec.frame_command), ([b"SET", wide, stamp, None],)),
        "parse": Call(codec.parse_push, (b"1700000000001-7:9\n" + body,)),
        "parse refused": Call(refused(codec.parse_push), (b"1700000000001-9:7\n" + body,)),
        "split": Call(codec.split_lines, (body, stamp, 0)),
        "split a part": Call(codec.split_lines, (body, stamp, stamp - 1)),
        "split refused": Call(refused(codec.split_lines), (body, 2, 0)),
        "join": Call(codec.join_lines, (body, stamp, 0)),
        "join refused": Call(refused(codec.join_lines), (body, 2, 0)),
        "decode": Call(codec.decode_texts, (encoder, texts, stamp, 0, made_of), 4),
        "decode a part": Call(codec.decode_texts, (encoder, texts, stamp, stamp - 1, made_of)),
        "decode refused": Call(refused(codec.decode_texts), (encoder, texts, stamp, 0, int), 2),
        "events": Call(codec.frame_events, (encoder, texts, stamp, 0, b"e:1a:", 1 << 16)),
        "events of others": Call(codec.frame_events, (encoder, body, stamp, 0, b"", 1)),
        "events refused": Call(refused(codec.frame_events), (encoder, texts, stamp, 0, plain, 1)),
        "deltas": Call(codec.frame_deltas, (head, tail, texts, stamp, 0, plain.encode(), b":", b"}\n\n", 1 << 16)),
        "deltas joined": Call(codec.frame_deltas, (head, tail, texts, stamp, 0, b"", None, b"", 1 << 16, True)),
        "deltas of others": Call(codec.frame_deltas, (head, tail, body, stamp, 0, b"", None, b"", 1)),
        "deltas refused": Call(refused(codec.frame_deltas), (head, tail, texts, 2, 0, b"", None, b"", 1)),
        "number": Call(codec.number_chunks, (Numbered, [plain, tree, None], stamp, nonce, stamp)),
        "number refused": Call(refused(codec.number_chunks), (Numbered, [plain, tree], U64_MAX, nonce, stamp)),
        "merge entries": Call(codec.merge_entries, (page, 7)),
        "merge entries refused": Call(refused(codec.merge_entries), (page, -7)),
        "finite": Call(codec.check_finite, (tree,)),
        "finite refused": Call(refused(codec.check_finite), ({"a": [1, {"b": math.inf}]},)),
        "finite refused key": Call(refused(codec.check_finite), ({"a": {7: 1}},)),
        "finite refused bytes": Call(refused(codec.check_finite), (tree, False)),
        "finite refused by a field": Call(refused(codec.check_finite), ([Loud()],)),
        "sequences": Call(in_order, (3,), 2),
        "sequences refused": Call(refused(sequencer.jump), (-1,)),
        "sequence refused at once": Call(refused(codec.Sequencer), (U64_MAX + 1,)),
        "window refused": Call(refused(window.offer), (9, 7)),
        "rollup": Call(rolled, (USUAL,), 20),
        "rollup of unusual entries": Call(rolled, (UNUSUAL,), 40),
        "rollup refused": Call(refused(rollup.add), ([*USUAL[:2], None],), 2),
        "rollup that goes on": Call(rollup.add, ([*USUAL, LARGE],), 10),
        "rollup restored": Call(restored, (exported,), 5),
        "rollup not restored": Call(refused(codec.Rollup.restore), (damaged,), 5),
        "select": Call(codec.select_entries, (USUAL, [b"tool"], (None, None), (0, stamp), 9), 10),
        "select unusual": Call(codec.select_entries, (UNUSUAL, None, (None, 5), (None, None), 9), 20),
        "select refused": Call(
            refused(codec.select_entries), ([*USUAL, None], None, (None, None), (None, None), 99), 10
        ),
    }


NAMES = tuple(calls(TWINS[0]))


class MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`: ten numbers, of which the fifth is bytes mapped, the eighth bytes in use."""

    _fields_ = (("numbers", ctypes.c_size_t * 10),)


def malloc_bytes() -> int:
    """Bytes in use of malloc; 0 if they are unknown."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return 0
    ask.restype = MallocInfo
    numbers = ask().numbers
    return int(numbers[4] + numbers[7])


def resident_bytes() -> int:
    """Resident memory; 0 where there is no /proc, or a sanitizer's malloc, which keeps what is freed for a while."""
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """No call makes garbage in circles, so what it lets go is gone at once. Collecting would take most of the time."""
    gc.disable()
    yield
    gc.enable()


def members(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments, and what is in those that are lists."""
    return [*arguments, *(item for argument in arguments if isinstance(argument, list) for item in argument)]


def assert_nothing_is_kept(name: str, times: int) -> None:
    made = calls(TWINS[1])[name]
    call, arguments = made.call, made.arguments
    times = max(times // made.share, 50)

    def repeat(count: int) -> None:
        for _ in range(count):
            call(*arguments)

    repeat(min(times // 10, 2000))
    counts = [sys.getrefcount(member) for member in members(arguments)]
    resident, blocks, allocated = resident_bytes(), sys.getallocatedblocks(), malloc_bytes()
    repeat(times)
    assert malloc_bytes() - allocated < SLACK
    # A handful of blocks is noise of the interpreter; one a call, or one in four calls, is a leak.
    assert sys.getallocatedblocks() - blocks < max(times // 4, 20)
    # None and small integers are among the members: of those the interpreter itself gains and loses a few.
    for member, count in zip(members(arguments), counts, strict=True):
        assert abs(sys.getrefcount(member) - count) < max(times // 4, 20), member
    assert resident_bytes() - resident < RESIDENT_SLACK


@compared
@pytest.mark.parametrize("name", NAMES)
def test_no_call_keeps_memory_or_references(name: str) -> None:
    assert_nothing_is_kept(name, SHORT)


@compared
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_no_call_keeps_memory_or_references_in_a_million_times(name: str) -> None:
    assert_nothing_is_kept(name, LONG)
