"""Arguments: values in and out of JSON as other libraries have them, and checks that survive any value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError


def written(value: Any) -> Any:
    return json.loads(arguments.json_value(value, "value"))


def test_scalars_of_numpy_are_what_they_hold() -> None:
    numpy = pytest.importorskip("numpy")
    given = {
        "int": numpy.int64(-5), "uint": numpy.uint64(2**64 - 1), "float": numpy.float32(1.5),
        "double": numpy.float64(0.1), "bool": numpy.bool_(True), "text": numpy.str_("x"),
        "date": numpy.datetime64("2024-05-06"),
        "precise": numpy.datetime64("2024-05-06T07:08:09.123456789"), "zero dimensions": numpy.array(7),
    }  # fmt: skip
    assert written(given) == {
        "int": -5, "uint": 2**64 - 1, "float": 1.5, "double": 0.1, "bool": True, "text": "x", "date": "2024-05-06",
        "precise": "2024-05-06T07:08:09.123456789", "zero dimensions": 7,
    }  # fmt: skip
    for refused in (
        numpy.float32("nan"),
        numpy.complex64(1),
        numpy.timedelta64(5, "ns"),
        numpy.array([1]),
        numpy.longdouble(1),
    ):
        with pytest.raises(InvalidArgumentError, match=r"value cannot be written as JSON: a\[1\]: "):
            arguments.json_value({"a": [0, refused]}, "value")


def test_models_of_pydantic_are_what_they_dump() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", at=(Any, ...))
    number = pydantic.create_model("Number", at=(float, ...))
    model = pydantic.create_model("Model", name=(str, ...), inner=(inner, ...))
    assert written([model(name="n", inner=inner(at={1}))]) == [{"name": "n", "inner": {"at": [1]}}]
    for refused in (model(name="n", inner=inner(at=object())), number(at=float("nan")), model):
        with pytest.raises(InvalidArgumentError, match=r"\[0\]: "):
            arguments.json_value([refused], "value")


@pytest.mark.parametrize(
    "check",
    [
        lambda value: arguments.integer(value, "n"),
        lambda value: arguments.seconds(value, "n"),
        lambda value: arguments.milliseconds(value, "n"),
        arguments.ttl_seconds,
        arguments.token,
        lambda value: arguments.text(value, "n"),
        lambda value: arguments.json_value(value, "n"),
    ],
)
def test_no_value_is_too_long_or_too_deep_for_its_refusal(check: Callable[[Any], Any]) -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    for value in (10**5_000, -(10**5_000), deep):
        with pytest.raises(InvalidArgumentError):
            check(value)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uD83D\u0041\uDe00"', rb'"\ufffd\u0041\ufffd"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\\ud83d \\\ud83d"', rb'"\\ud83d \\\ufffd"'),
        (rb'"\ud83d\ude00"', None),
        (rb'"\\ud83d"', None),
        (rb'"\u00e9\n"', None),
        (b'"plain"', None),
    ],
)
def test_lone_surrogates_are_replaced_and_nothing_else(data: bytes, whole: bytes | None) -> None:
    assert arguments.without_lone_surrogates(data) == whole
