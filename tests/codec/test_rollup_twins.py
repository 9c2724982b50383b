"""The compiled rollup and its plain twin: any stored bytes add up to the same in both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, compared, on_each_twin

names = st.one_of(
    st.sampled_from(["gpt-4o", "claude", "", "unknown", 'quo"ted', "new\nline", "é", "\U0001f600", "\ud800", "kind"]),
    st.text(max_size=5),
)
odd_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 10**18 - 1, 10**18, 2**62, 2**63 - 1, 2**63, 2**64, 2**70, -1, -(10**18), True]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([100.0, -0.0, 1e-7, 1e21, 0.1]),
    st.sampled_from([None, "5", [], {}]),
)
counts = st.one_of(st.integers(0, 5000), odd_numbers)
values = st.one_of(st.integers(-100, 100), st.floats(-1e6, 1e6), odd_numbers)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), names, st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=5,
)
fields = {
    "id": names,
    "timestamp": counts,
    "stepCount": counts,
    "model": st.one_of(names, anything),
    "tokens": st.one_of(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("prompt", "completion", "reasoning", "cached", "total"), counts) | {"x": anything},
        ),
        anything,
    ),
    "toolName": names,
    "agentType": names,
    "subSessionId": st.one_of(names, st.none(), st.just(5)),
    "durationMs": values,
    "success": st.sampled_from([True, False, None, 1, "yes"]),
    "error": st.one_of(st.none(), names),
    "type": names,
    "value": values,
    "cost": values,
    "unheardOf": anything,
}
kinds = st.one_of(st.sampled_from(["tokens", "tokens", "tool", "subagent", "custom", "embedding"]), names, st.none())
objects = st.builds(lambda kind, rest: {"kind": kind, **rest}, kinds, st.fixed_dictionaries({}, optional=fields))


@st.composite
def raw_entries(draw: st.DrawFn) -> bytes:
    """An entry as some program may have written it, or something similar to one."""
    text = json.dumps(draw(objects), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    trick = draw(st.integers(0, 12))
    if trick == 1:
        text = text.replace('"kind"', '"k\\u0069nd"')
    elif trick == 2:
        text = text[:-1] + ', "kind": "tool"}'
    data = text.encode("utf-8", "surrogatepass")
    if trick == 3:
        at = draw(st.integers(0, len(data) - 1))
        byte = draw(st.sampled_from(b'"{}[]:,\\0e.-\x01\x80\xff u'))
        return data[:at] + bytes([byte]) + data[at + draw(st.integers(0, 1)) :]
    if trick == 4:
        return data[: draw(st.integers(0, len(data)))]
    return data


many = st.lists(raw_entries(), max_size=6)
bounds = st.one_of(st.none(), st.integers(0, 5000), st.integers(-(2**70), 2**70))


def exported(rollup: Any) -> str:
    return repr(rollup.export())


def twins_of(entries: list[bytes]) -> list[Any]:
    made = [twin.Rollup() for twin in TWINS]
    for rollup in made:
        rollup.add(entries)
    return made


@compared
@given(many)
def test_both_add_up_the_same(entries: list[bytes]) -> None:
    plain, compiled = twins_of(entries)
    assert exported(compiled) == exported(plain)
    assert compiled.entry_count == plain.entry_count
    assert compiled.malformed_count == plain.malformed_count


@compared
@given(many, many, st.booleans())
def test_both_continue_merge_and_copy_the_same(first: list[bytes], second: list[bytes], onto_itself: bool) -> None:
    results = []
    for one, two in zip(twins_of(first), twins_of(second), strict=True):
        one.merge(one if onto_itself else two)
        copy = one.copy()
        one.add(second)
        results.append((exported(one), exported(copy), exported(two)))
    assert results[0] == results[1]


@compared
@given(
    many,
    st.one_of(st.none(), st.lists(kinds.filter(bool).map(lambda kind: kind.encode("utf-8", "surrogatepass")))),
    st.tuples(bounds, bounds),
    st.tuples(bounds, bounds),
    st.sampled_from([0, 1, 2, 2**62]),
)
def test_both_select_the_same(
    entries: list[bytes], kinds: list[bytes] | None, steps: Any, times: Any, limit: int
) -> None:
    plain, compiled = (twin.select_entries(entries, kinds, steps, times, limit) for twin in TWINS)
    assert compiled == plain


@on_each_twin
@given(many, many)
def test_a_rollup_continued_is_the_rollup_of_all(codec: Any, first: list[bytes], second: list[bytes]) -> None:
    whole, continued = codec.Rollup(), codec.Rollup()
    whole.add(first + second)
    continued.add(first)
    continued.add(second)
    assert exported(continued) == exported(whole)


@on_each_twin
@pytest.mark.parametrize("wrong", [(b"{}",), b"{}", None, [bytearray(b"{}")], ["{}"]], ids=repr)
def test_entries_are_a_list_of_bytes(codec: Any, wrong: Any) -> None:
    with pytest.raises(TypeError):
        codec.Rollup().add(wrong)


@on_each_twin
def test_only_rollups_are_merged(codec: Any) -> None:
    with pytest.raises(TypeError):
        codec.Rollup().merge({})


@on_each_twin
def test_selecting_takes_only_bytes(codec: Any) -> None:
    with pytest.raises(TypeError):
        codec.select_entries(["{}"], None, (None, None), (None, None), 1)
    with pytest.raises(TypeError):
        codec.select_entries([b'{"kind":"tokens"}'], ["tokens"], (None, None), (None, None), 1)
