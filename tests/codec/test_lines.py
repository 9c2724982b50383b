"""Stored bodies cut apart, and joined to one JSON array."""

from __future__ import annotations

import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import U64_MAX, assert_same, compared, numbers, on_each_twin, texts

lines_of_json = st.lists(texts.map(msgspec.json.encode), min_size=1, max_size=30)


@on_each_twin
@given(lines=lines_of_json, before=st.integers(0, 50) | st.just(U64_MAX), after=st.integers(0, 100), data=st.data())
def test_lines_after_a_sequence_are_those_not_yet_seen(codec, lines, before, after, data) -> None:
    last = min(before + len(lines), U64_MAX)
    after = data.draw(st.sampled_from([after, max(0, last - after), last, 0, U64_MAX]))
    numbered = list(enumerate(lines, last - len(lines) + 1))
    wanted = [(sequence, line) for sequence, line in numbered if sequence > after]
    first = wanted[0][0] if wanted else last + 1
    body = b"\n".join(lines)
    assert codec.split_lines(body, last, after) == (first, [line for _, line in wanted])
    start, count, array = codec.join_lines(body, last, after)
    assert (start, count) == (first, len(wanted))
    assert msgspec.json.decode(array) == [msgspec.json.decode(line) for _, line in wanted]
    assert array == b"[" + b",".join(line for _, line in wanted) + b"]"


@on_each_twin
@pytest.mark.parametrize("last", [0, 1, 41, U64_MAX])
def test_an_empty_body_has_no_lines(codec, last) -> None:
    assert codec.split_lines(b"", last, 0) == (last + 1, [])
    assert codec.join_lines(b"", last, 0) == (last + 1, 0, b"[]")


@on_each_twin
def test_more_lines_than_sequences_is_refused(codec) -> None:
    for after in (0, 1, 2, 3, 9):
        with pytest.raises(ValueError, match="3 lines"):
            codec.split_lines(b"1\n2\n3", 2, after)
        with pytest.raises(ValueError, match="3 lines"):
            codec.join_lines(b"1\n2\n3", 2, after)
    assert codec.split_lines(b"1\n2\n3", 3, 0) == (1, [b"1", b"2", b"3"])


@on_each_twin
def test_damaged_lines_keep_their_sequences(codec) -> None:
    assert codec.split_lines(b"\n\n1\n", 10, 0) == (7, [b"", b"", b"1", b""])
    assert codec.split_lines(b"\n\n1\n", 10, 9) == (10, [b""])
    assert codec.join_lines(b"\n1", 10, 0) == (9, 2, b"[,1]")


@on_each_twin
def test_a_thousand_long_lines(codec) -> None:
    lines = [b'"%s%d"' % (b"x" * 1500, number) for number in range(1000)]
    body = b"\n".join(lines)
    assert codec.split_lines(body, 1000, 0) == (1, lines)
    assert codec.split_lines(body, 1000, 997) == (998, lines[997:])
    assert codec.join_lines(body, 1000, 0) == (1, 1000, b"[" + b",".join(lines) + b"]")


@on_each_twin
def test_lines_are_owned_by_their_list_alone(codec) -> None:
    lines = codec.split_lines(b"first line\nsecond line\nthird line", 3, 0)[1]
    while lines:
        line, fresh = lines.pop(), bytes(bytearray(b"a new one"))
        assert sys.getrefcount(line) == sys.getrefcount(fresh)


@compared
@given(
    body=st.binary(max_size=30) | st.text("a\n", max_size=20).map(str.encode) | st.text(), last=numbers, after=numbers
)
def test_twins_cut_or_refuse_bodies_alike(body, last, after) -> None:
    assert_same("split_lines", body, last, after)
    assert_same("join_lines", body, last, after)
