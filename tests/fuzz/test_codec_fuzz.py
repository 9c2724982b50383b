"""A short form of `make fuzz`, on the extension as it is built here; and that the target misses no entry point."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import helix_fast
from helix_fast.codec import plain
from tests.codec.twins import TWINS, compared
from tests.fuzz.codec_target import SIGNATURES, CodecTarget, DifferenceError
from tests.fuzz.engines import with_hypothesis

pytestmark = pytest.mark.slow

# The hot part hands batches, replies and messages to others, which programs of calls cannot do yet. Bytes are read by
# the pure part (`ReplyCutter`, `parse_push`), and `tests/codec/test_replies.py` cuts messages at random.
NOT_FUZZED = {
    "ChunkIterator", "Outbox", "PushBuffer", "RemoteSubscribers", "Batch", "FastAppend", "StreamEntry", "Write",
    "deliver_messages", "push_entry", "push_payload",
}  # fmt: skip
STUB = Path(helix_fast.__file__).with_name("_codec.pyi")


def declared() -> set[str]:
    """Every public name of the stub's pure part: functions, classes as their constructors, methods and properties."""
    names = set()
    for node in ast.parse(STUB.read_text()).body:
        if (
            not isinstance(node, (ast.FunctionDef, ast.ClassDef))
            or node.name.startswith("_")
            or node.name in NOT_FUZZED
        ):
            continue
        names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            names.update(f"{node.name}.{method}" for method in methods if not method.startswith("__"))
    return names


def run_random(target: CodecTarget, programs: int) -> None:
    numbers = random.Random(9)
    for _ in range(programs):
        target.run(numbers.randbytes(numbers.choice([50, 400, 1500])))


def test_every_public_name_of_the_codec_is_fuzzed_with_arguments_that_it_takes() -> None:
    target = CodecTarget(plain, plain)
    run_random(target, 400)
    assert set(target.returned) == declared()
    fallible = {name for name, arguments in SIGNATURES.items() if arguments}
    assert fallible - set(target.raised) <= {"select_entries"}  # it refuses nothing but what is no bytes at all


@compared
def test_both_codecs_answer_random_programs_alike() -> None:
    target = CodecTarget(TWINS[1], TWINS[0])
    number = random.randrange(2**32)
    print("seed", number)
    with_hypothesis(target.run, 300, number)
    assert target.programs >= 300


def wrong(name: str, replacement: Any) -> ModuleType:
    """The plain codec with one function in place of another."""
    return SimpleNamespace(**{**vars(plain), name: replacement})  # type: ignore[return-value]


def test_a_wrong_result_is_found() -> None:
    def join_lines(body: bytes, last: int, after: int) -> tuple[int, int, bytes]:
        first, count, array = plain.join_lines(body, last, after)
        return first, count + (count > 2), array

    with pytest.raises(DifferenceError, match="join_lines"):
        run_random(CodecTarget(wrong("join_lines", join_lines), plain), 500)


def test_a_wrong_type_of_error_is_found() -> None:
    def parse_push(payload: bytes) -> tuple[int, int, int, bytes]:
        try:
            return plain.parse_push(payload)
        except ValueError:
            raise KeyError from None

    with pytest.raises(DifferenceError, match="parse_push"):
        run_random(CodecTarget(wrong("parse_push", parse_push), plain), 500)


def test_the_same_bytes_are_the_same_program() -> None:
    data = random.Random(3).randbytes(1000)
    counts = []
    for _ in range(2):
        target = CodecTarget(plain, plain)
        target.run(data)
        counts.append((target.returned, target.raised))
    assert counts[0] == counts[1]
    assert counts[0][0]
