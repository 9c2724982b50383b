"""A rollup restored from what another has exported is that other, to the last bit; what none can have is refused."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.test_rollup_twins import exported, many, twins_of
from tests.codec.twins import TWINS, compared, on_each_twin, outcome

LARGE = 2**70
EDGES = [0, 1, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64, LARGE, 10**30, -1, 1 - 2**62, -(2**62), -(2**63), -LARGE]


def entry(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def value(number: float, name: str = "c") -> bytes:
    return entry(kind="custom", type=name, value=number)


SOME = [
    entry(kind="tokens", model="gpt-4o", timestamp=5, tokens={"prompt": LARGE, "completion": 3}),
    entry(kind="tokens", model="é\U0001f600\n\"'", timestamp=3, tokens={"total": 7}),
    entry(kind="tool", toolName="search", durationMs=12.5, success=False),
    entry(kind="subagent", agentType="a", subSessionId="child-2", durationMs=9),
    entry(kind="subagent", agentType="a", subSessionId="child-1"),
    entry(kind="embedding"),
    value(5), value(-LARGE), value(0.1), value(0.2), value(1e300), value(-1e300),
    b"no json", b'{"kind":5}',
]  # fmt: skip


def through_json(rollup: Any) -> Any:
    return json.loads(json.dumps(rollup.export()))


def rollup_of(codec: Any, entries: list[bytes]) -> Any:
    made = codec.Rollup()
    made.add(entries)
    return made


def assert_goes_on_alike(codec: Any, entries: list[bytes], more: list[bytes], sums: Callable[[Any], Any]) -> None:
    rollup = rollup_of(codec, entries)
    restored = codec.Rollup.restore(sums(rollup))
    assert type(restored) is codec.Rollup
    assert exported(restored) == exported(rollup)
    assert exported(restored.copy()) == exported(rollup.copy())
    for one in (rollup, restored):
        one.add(more)
        one.merge(rollup_of(codec, entries))
        one.merge(one)
    assert exported(restored) == exported(rollup)
    assert (restored.entry_count, restored.malformed_count) == (rollup.entry_count, rollup.malformed_count)


@on_each_twin
@pytest.mark.parametrize("sums", [through_json, lambda rollup: rollup.export()], ids=["through JSON", "as exported"])
def test_restored_rollup_has_every_sum_and_goes_on_alike(codec: Any, sums: Callable[[Any], Any]) -> None:
    assert_goes_on_alike(codec, [], SOME, sums)
    assert_goes_on_alike(codec, SOME, [], sums)
    assert_goes_on_alike(codec, SOME, SOME[::-1], sums)


@on_each_twin
@given(many, many)
def test_any_rollup_is_restored_to_the_last_bit(codec: Any, entries: list[bytes], more: list[bytes]) -> None:
    assert_goes_on_alike(codec, entries, more, lambda rollup: rollup.export())
    assert_goes_on_alike(codec, entries, more, through_json)


@on_each_twin
@pytest.mark.parametrize("one", EDGES)
@pytest.mark.parametrize("other", EDGES)
def test_integers_of_every_size_are_restored(codec: Any, one: int, other: int) -> None:
    entries = [value(one), value(other), entry(kind="tokens", tokens={"prompt": abs(one), "cached": abs(other)})]
    assert_goes_on_alike(codec, entries, [value(3), value(-LARGE * 2), value(LARGE * 2)], through_json)


@on_each_twin
def test_what_rounding_has_left_over_is_restored(codec: Any) -> None:
    tenth = [value(0.1)] * 100
    restored = rollup_of(codec, tenth)
    assert restored.export()[4][3]["c"][14] != 0.0
    for _ in range(99):
        restored = codec.Rollup.restore(through_json(restored))
        restored.add(tenth)
    assert exported(restored) == exported(rollup_of(codec, tenth * 100))


@on_each_twin
def test_sums_of_fractions_that_are_not_finite_are_restored(codec: Any) -> None:
    assert_goes_on_alike(codec, [value(1.7e308)] * 2, [value(-1.7e308)] * 3, lambda rollup: rollup.export())


@on_each_twin
def test_restored_rollup_keeps_nothing_of_what_it_was_given(codec: Any) -> None:
    given_sums = through_json(rollup_of(codec, SOME))
    restored = codec.Rollup.restore(given_sums)
    before = exported(restored)
    given_sums[4][0]["gpt-4o"][1] = 0
    given_sums[4][3].clear()
    given_sums[5].append("another")
    assert exported(restored) == before


@compared
@given(many)
def test_what_one_twin_exports_the_other_restores(entries: list[bytes]) -> None:
    plain, compiled = twins_of(entries)
    for codec in TWINS:
        assert exported(codec.Rollup.restore(plain.export())) == exported(compiled)
        assert exported(codec.Rollup.restore(compiled.export())) == exported(plain)


# What no rollup has exported

PLACES = [(0,), (1,), (2,), (3,), (4,), (5,), (4, 0), (4, 3), (4, 0, "gpt-4o"), (4, 3, "c"), (5, 0)]
PLACES += [(4, group, name, at) for group, name in ((0, "gpt-4o"), (3, "c")) for at in range(17)]
WRONG: list[Any] = [
    "text", b"bytes", True, False, 0.5, math.nan, math.inf, {}, [], (), [None], object(), -1, 1, -(2**80), 2**33, 2**80,
    10**18, None, {"": []}, {"x": [0] * 17}, {5: []}, {"x": None}, [[]], ["\ud800"], [""], [5], "\ud800",
]  # fmt: skip


def put(sums: Any, place: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(sums)
    *way, last = place
    at = changed
    for step in way:
        at = at[step]
    at[last] = wrong
    return changed


EMPTY = [0] * 8 + [0, 0, None, None, 0, 0.0, 0.0, None, None]


def nothing(at: int, wrong: Any) -> list[Any]:
    """What a rollup without entries exports, but for one value."""
    sums: list[Any] = [0, 0, None, None, [{}] * 5, []]
    sums[at] = wrong
    return sums


@on_each_twin
def test_what_the_wrong_ones_are_made_from_is_right(codec: Any) -> None:
    codec.Rollup.restore(nothing(0, 0))
    codec.Rollup.restore(nothing(4, [{"m": EMPTY}] * 5))


@on_each_twin
@pytest.mark.parametrize(
    "wrong",
    [
        None, (), [], "sums", 5, {}, (0,) * 6, nothing(4, []), nothing(4, [{}] * 6), nothing(4, [{}] * 4 + [[]]),
        nothing(5, ()), nothing(5, [""]), nothing(5, ["\ud800"]), nothing(5, [b"child"]), nothing(2, 1), nothing(3, 1),
        (0, 0, 2, 1, [{}] * 5, []), (0, 0, 0, 10**18, [{}] * 5, []), (0, 0, True, True, [{}] * 5, []), nothing(1, -1),
        nothing(1, 2**32 + 1), nothing(0, 1), nothing(4, [{"m": []}] * 5), nothing(4, [{"": EMPTY}] + [{}] * 4),
    ],
    ids=lambda wrong: repr(wrong)[:60],
)  # fmt: skip
def test_what_is_no_export_is_refused(codec: Any, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        codec.Rollup.restore(wrong)


@on_each_twin
@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_text_in_any_place_is_refused(codec: Any, place: tuple[Any, ...]) -> None:
    text: Any = 5 if place == (5, 0) else "text"
    with pytest.raises(TypeError):
        codec.Rollup.restore(put(through_json(rollup_of(codec, SOME)), place, text))


@on_each_twin
@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (0, -1), (0, 4), (1, -1), (8, -1), (8, 0), (10, 6), (12, -1), (12, 0), (15, 2e300), (15, math.nan),
        (15, -math.inf), (16, math.inf), (8, 2**32 + 1), (12, 2**32 + 1),
    ],
)  # fmt: skip
def test_numbers_that_no_entries_add_up_to_are_refused(codec: Any, at: int, wrong: float) -> None:
    sums = through_json(rollup_of(codec, SOME))
    codec.Rollup.restore(sums)
    with pytest.raises(ValueError, match=r"least|negative|as many"):
        codec.Rollup.restore(put(sums, (4, 3, "c", at), wrong))


@compared
@given(many, st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(WRONG)), min_size=1, max_size=3))
def test_both_restore_or_refuse_the_same(entries: list[bytes], changes: list[tuple[Any, Any]]) -> None:
    sums = through_json(twins_of(SOME + entries)[0])
    for place, wrong in changes:
        with contextlib.suppress(TypeError, KeyError, IndexError):  # a change may take the place of the next one away
            sums = put(sums, place, wrong)
    made = [outcome(codec.Rollup.restore, sums) for codec in TWINS]
    plain, compiled = (one if isinstance(one, tuple) else exported(one) for one in made)
    assert compiled == plain
    if not isinstance(made[0], tuple):
        for one in made:
            one.merge(one.copy())
            one.add(SOME)
        assert exported(made[1]) == exported(made[0])
