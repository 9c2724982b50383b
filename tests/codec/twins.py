"""Both codecs for the tests that run on each, and what these tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st

from helix_fast.codec import plain

PURE_ASKED_FOR = os.environ.get("HELIX_FAST_PURE") == "1"
TWINS: list[ModuleType] = [plain]
if not PURE_ASKED_FOR:
    try:
        from helix_fast import _codec
    except ImportError:
        pass  # test_choice fails then: here only its own tests should
    else:
        TWINS.append(_codec)

on_each_twin = pytest.mark.parametrize("codec", TWINS, ids=lambda twin: twin.__name__.rpartition(".")[2])
compared = pytest.mark.skipif(len(TWINS) < 2, reason="the compiled codec is not loaded: nothing to compare")

U64_MAX = 2**64 - 1
u64s = st.one_of(st.integers(0, U64_MAX), st.integers(0, 300), st.integers(U64_MAX - 300, U64_MAX))
# Text as JSON finds it hard: escapes often, and lengths on both sides of the 16 bytes that are scanned at once.
texts = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\\/\b\f\n\r\t\0\x0b\x1f \x7f\x80ÿ\u2028\u2029')),
    max_size=60,
)
wrong_numbers = st.one_of(
    st.sampled_from([-1, U64_MAX + 1, 2**200, -(2**63) - 1, True, False, None, 1.0, "1", b"1"]),
    st.integers(-(2**70), 2**70),
)
numbers = st.one_of(u64s, wrong_numbers)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returned, or the type and text of what it raised: to compare two codecs that may both refuse."""
    try:
        return call(*args)
    except Exception as error:
        return type(error), str(error)


def assert_same(name: str, *args: Any) -> Any:
    """Both codecs answer alike; their answer."""
    answers = [outcome(getattr(twin, name), *args) for twin in TWINS]
    assert all(answer == answers[0] and type(answer) is type(answers[0]) for answer in answers)
    return answers[0]
