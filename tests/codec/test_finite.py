"""What JSON cannot hold is found, wherever it hides."""

from __future__ import annotations

import dataclasses
import math
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import assert_same, compared, on_each_twin

NAN, INF = float("nan"), float("inf")


class Point(msgspec.Struct, rename="camel"):
    x_axis: object = 0
    more: object = None


@dataclasses.dataclass
class Row:
    cells: object


class Reading(float):
    __slots__ = ()


@on_each_twin
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (NAN, "value"),
        ([1, INF], "[1]"),
        ({"data": {"x": [0, 1, 2, NAN]}}, "data.x[3]"),
        ({"a": (1, [{"b": -INF}])}, "a[1][0].b"),
        (Point(1.0, [Point(NAN)]), "more[0].x_axis"),
        ({"ok": 1.0, "": NAN}, "value"),
        ([[], {}, [Reading(INF)]], "[2][0]"),
        ({"set": {NAN}}, "set[0]"),
        ([frozenset([INF])], "[0][0]"),
        ({"row": Row([Row(NAN)])}, "row.cells[0].cells"),
    ],
)
def test_path_of_what_is_not_finite_is_named(codec, value, path) -> None:
    with pytest.raises(ValueError) as caught:
        codec.check_finite(value)
    assert str(caught.value).partition(": ")[0] == path
    assert_same("check_finite", value)


@on_each_twin
@pytest.mark.parametrize(
    ("value", "path"),
    [({1: 2}, "value"), ({"a": [{None: 1}]}, "a[0]"), ({"a": {b"k": NAN}}, "a"), (Point({True: 1}), "x_axis")],
)
def test_keys_that_are_no_str_are_refused(codec, value, path) -> None:
    with pytest.raises(TypeError, match="a key must be str") as caught:
        codec.check_finite(value)
    assert str(caught.value).partition(": ")[0] == path
    assert_same("check_finite", value)


@on_each_twin
@pytest.mark.parametrize(
    "value", [None, True, 10**400, "nan", b"x", 1e308, 5e-324, -0.0, {}, [], (), Point(), object(), {1.5}, Row({1.5})]
)
def test_everything_else_passes(codec, value) -> None:
    assert codec.check_finite(value) is None
    assert codec.check_finite({"a": [value, {"b": (value,)}]}) is None


def nested(kind: str, levels: int) -> object:
    value: object = 1.5
    for _ in range(levels):
        value = {"dict": {"k": value}, "list": [value], "tuple": (value,), "struct": Point(value)}[kind]
    return value


@on_each_twin
@pytest.mark.parametrize(
    "value",
    [b"x", b"\xff", bytearray(b"x"), memoryview(b"x")],
    ids=lambda value: f"{type(value).__name__}-{bytes(value)!a}",
)
def test_bytes_are_refused_where_they_may_not_be(codec, value) -> None:
    with pytest.raises(TypeError, match=r"^a\[1\]\.b: \w+ is no JSON value"):
        codec.check_finite({"a": [0, {"b": value}]}, binary=False)
    assert codec.check_finite({"a": [value]}) is None
    assert_same("check_finite", value, False)


@on_each_twin
@pytest.mark.parametrize("kind", ["dict", "list", "tuple", "struct"])
def test_512_levels_pass_and_513_do_not(codec, kind) -> None:
    assert codec.check_finite(nested(kind, 512)) is None
    with pytest.raises(ValueError, match="512 levels"):
        codec.check_finite(nested(kind, 513))


@on_each_twin
def test_cycles_are_refused(codec) -> None:
    around: list[object] = []
    around.append({"again": (Point(around),)})
    with pytest.raises(ValueError, match="512 levels"):
        codec.check_finite(around)


@on_each_twin
def test_a_caller_near_the_recursion_limit_gets_its_answer(codec) -> None:
    value, limit = nested("list", 500), sys.getrecursionlimit()

    def dive(depth: int) -> object:
        return dive(depth - 1) if depth else codec.check_finite(value)

    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1
    assert dive(limit - used - 40) is None


@on_each_twin
def test_a_wide_value_is_searched_to_its_end(codec) -> None:
    rows = [{"n": float(number), "list": list(range(5))} for number in range(5000)]
    assert codec.check_finite(rows) is None
    rows[4999]["n"] = INF
    with pytest.raises(ValueError, match=r"^\[4999\]\.n: inf"):
        codec.check_finite(rows)


keys = st.text(max_size=3) | st.integers(0, 3)
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Point, inner, inner),
    ),
    max_leaves=15,
)


def is_clean(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_clean(item) for key, item in value.items())
    if isinstance(value, Point):
        return is_clean(value.x_axis) and is_clean(value.more)
    return all(map(is_clean, value)) if isinstance(value, (list, tuple)) else True


@on_each_twin
@given(value=trees)
def test_only_clean_values_pass(codec, value) -> None:
    if is_clean(value):
        assert codec.check_finite(value) is None
    else:
        with pytest.raises((ValueError, TypeError)):
            codec.check_finite(value)


@compared
@given(value=trees)
def test_twins_find_the_same_fault(value) -> None:
    assert_same("check_finite", value)
