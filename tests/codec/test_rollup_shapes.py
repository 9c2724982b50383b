"""Entries of a known shape: the sums are those of the plain twin, whatever differs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, compared

TOKENS = (
    '{"kind":"tokens","id":%s,"model":%s,"tokens":{"details":{"a":%s},"prompt":%s,"total":%s},"timestamp":%s,"cost":%s}'
)
TOOL = '{"kind":"tool","id":%s,"toolName":%s,"durationMs":%s,"success":%s,"tokens":{"prompt":%s}}'
SUB_AGENT = '{ "timestamp": %s, "error": %s, "agentType": %s, "subSessionId": %s, "kind": "subagent" }'
CUSTOM = '{"type":%s,"value":%s,"kind":"custom","more":{"type":%s,"deep":{"value":%s}},"nothing":null}'
OTHER = '{"kind":"embedding","model":%s,"timestamp":%s,"stepCount":%s}'

strings = st.one_of(
    st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-é"), max_size=40).map('"{}"'.format),
    st.sampled_from(
        [
            '"gpt-4o"',
            '"claude"',
            '""',
            '"quo\\"ted"',
            '"back\\\\"',
            '"\\u0061"',
            '"a\tb"',
            '"\x7f"',
            '"\U0001f600"',
            '"x',
        ],
    ),
)
numbers = st.one_of(
    st.integers(0, 10**6).map(str),
    st.integers(0, 10**19).map(str),
    st.floats(0, 1e6, allow_nan=False).map(repr),
    st.sampled_from(["0", "-0", "00", "007", "-1", "-", "1.", "1.5", "1e3", "1E3", "1.5e-3", "123456789012345678"]),
    st.sampled_from(["1e-05", "1.5E+9", "1e99", "999999999999999999e99", "1e100", "1e400", "1e", "1e+", "1.e5", "0e0"]),
    st.sampled_from(["1234567890123456789", "99999999999999999999", "1234567:", "12345678a", "0.1", " 7", "7 "]),
)
odd = st.sampled_from(["null", "true", "false", "True", "[]", "{}", '{"a":1}', "", '"5"', "tru", "[1,2]"])
values = st.one_of(strings, numbers, odd)
usual = {"s": strings, "n": numbers}


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Entries of two shapes, most of whose values are of the types that they usually are of."""
    shapes = draw(
        st.lists(
            st.sampled_from(
                [(TOKENS, "ssnnnnn"), (TOOL, "ssnon"), (SUB_AGENT, "noss"), (CUSTOM, "snsn"), (OTHER, "snn")]
            ),
            min_size=1,
            max_size=2,
        )
    )
    entries = []
    for _ in range(draw(st.integers(2, 9))):
        form, types = draw(st.sampled_from(shapes))
        strange = draw(st.integers(0, 12))
        filled = form % tuple(
            draw(values if place == strange else usual.get(type_, odd)) for place, type_ in enumerate(types)
        )
        data = filled.encode()
        trick = draw(st.integers(0, 20))
        if trick == 1:
            at = draw(st.integers(0, len(data) - 1))
            data = data[:at] + bytes([draw(st.sampled_from(b'"{}[]:,\\0e.\x01\x80\xff'))]) + data[at + 1 :]
        elif trick == 2:
            data = data[: draw(st.integers(0, len(data)))]
        elif trick == 3:
            data += draw(st.sampled_from([b" ", b"}", b"\x00", b"x"]))
        entries.append(data)
    return entries


def both(entries: list[bytes]) -> list[str]:
    sums = []
    for twin in TWINS:
        rollup: Any = twin.Rollup()
        rollup.add(entries)
        sums.append(repr(rollup.export()))
    return sums


@compared
@given(alike())
def test_both_add_up_entries_alike_the_same(entries: list[bytes]) -> None:
    plain, compiled = both(entries)
    assert compiled == plain


USUAL_TOKENS = ('"x"', '"gpt"', "1", "10", "20", "1700000000000", "0.25")
USUAL_TOOL = ('"x"', '"search"', "5", "true", "1")
USUAL_SUB_AGENT = ("1700000000000", "null", '"coder"', '"child"')


@compared
@pytest.mark.parametrize(
    ("form", "first", "place", "value"),
    [
        *((TOKENS, USUAL_TOKENS, 3, number) for number in ("007", "-5", "1.5", "3.0", "1e2", "", "null", '"5"', "5 ")),
        *(
            (TOKENS, USUAL_TOKENS, 5, number)
            for number in ("0", "123456789012345678", "1234567890123456789", "-1", "2.5")
        ),
        *(
            (TOKENS, USUAL_TOKENS, 0, text)
            for text in ('"a\nb"', '"\\ud800"', '"\\x"', '"long enough for words: é"', "5")
        ),
        *(
            (TOKENS, USUAL_TOKENS, 1, text)
            for text in ('"a\\nb"', '""', '"exactly sixteen!"', '"é"', "null", "5", "{}")
        ),
        *(
            (TOKENS, USUAL_TOKENS, 6, cost)
            for cost in ("3", "1.5e-05", "2E+3", "1e100", "-0.5", "-1e-9", "null", '"1"', "{}", "1e", "1e+", "1.e1")
        ),
        (TOKENS, USUAL_TOKENS, 1, '"\udcff\udcfe"'),
        (TOKENS, USUAL_TOKENS, 0, '"a text of many letters \udcff"'),
        *((TOOL, USUAL_TOOL, 3, word) for word in ("false", "null", "tru", "truefalse", "1", '"true"')),
        *((TOOL, USUAL_TOOL, 2, number) for number in ("-5", "0.25", "-0.5", "00", "1.", "-")),
        *((SUB_AGENT, USUAL_SUB_AGENT, 1, error) for error in ('"boom"', '{"a":1}', "[]", "5", "null")),
        *((SUB_AGENT, USUAL_SUB_AGENT, 3, child) for child in ('"other"', '""', "null", "5", '"\\u0061"')),
    ],
)
def test_what_differs_from_the_entry_before_counts_as_it_is(
    form: str, first: tuple[str, ...], place: int, value: str
) -> None:
    second = (*first[:place], value, *first[place + 1 :])
    one, two = (form % first).encode(), (form % second).encode("utf-8", "surrogateescape")
    for entries in ([one, two, one], [two, one, two, two]):
        plain, compiled = both(entries)
        assert compiled == plain


@compared
@pytest.mark.parametrize("end", [b"", b"}", b"x", b"\x00", b'"'])
def test_an_entry_cut_or_continued_is_no_entry_of_that_shape(end: bytes) -> None:
    whole = (TOKENS % USUAL_TOKENS).encode()
    plain, compiled = both([whole, *(whole[:at] + end for at in range(len(whole) + 1))])
    assert compiled == plain


@compared
def test_more_shapes_than_are_learnt_add_up_too() -> None:
    entries = [
        b'{"kind":"tool","toolName":"t%d",%b"durationMs":%d}' % (shape, b'"x":1,' * shape, number)
        for number in range(6)
        for shape in range(20)
    ]
    plain, compiled = both(entries)
    assert compiled == plain


@compared
def test_entries_with_more_values_than_a_shape_has_room_for_add_up_too() -> None:
    wide = [
        b'{"kind":"custom","type":"t","value":%d,%b"end":0}' % (n, b'"x":1,' * size)
        for size in (28, 29, 30, 40)
        for n in (1, 2)
    ]
    plain, compiled = both(wide)
    assert compiled == plain
