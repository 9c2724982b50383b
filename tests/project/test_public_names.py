"""The public surface: what users name is there, documented, and changes only on purpose."""

from __future__ import annotations

import inspect
import operator
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import helix_fast
from helix_fast import interfaces

PROTOCOLS = [
    name for name, value in vars(interfaces).items() if getattr(value, "_is_protocol", False) and name != "Protocol"
]
NAMES = Path(__file__).parents[1] / "data" / "public_names.txt"


def test_public_names_change_only_on_purpose() -> None:
    assert sorted(helix_fast.__all__) == NAMES.read_text().split()


def members_of(cls: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Methods and properties that a user of the class sees, inherited ones too, without those of other packages."""
    for name, member in inspect.getmembers_static(cls) if sys.version_info >= (3, 11) else vars(cls).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function) and function.__module__.startswith("helix_fast"):
            yield name, function


@pytest.mark.parametrize("name", [*helix_fast.__all__, *(f"interfaces.{name}" for name in PROTOCOLS)])
def test_public_name_is_documented_and_annotated(name: str) -> None:
    value = operator.attrgetter(name)(helix_fast)
    if typing.get_origin(value) is not None:
        return  # a union: its members are documented
    assert inspect.getdoc(value), name
    members = dict(members_of(value)) if inspect.isclass(value) else {name: value}
    for member, function in members.items():
        assert function.__doc__, f"{name}.{member}"
        parameters = {**inspect.signature(function).parameters}
        parameters.pop("self", None)
        parameters.pop("cls", None)
        bare = [one.name for one in parameters.values() if one.annotation is inspect.Parameter.empty]
        assert not bare, f"{name}.{member}: {bare}"
        assert "return" in function.__annotations__, f"{name}.{member}"


@pytest.mark.parametrize("name", [name for name in helix_fast.__all__ if name.endswith("Error")])
def test_error_has_a_code_of_its_own(name: str) -> None:
    error = getattr(helix_fast, name)
    assert issubclass(error, helix_fast.HelixError)
    assert isinstance(error.retryable, bool)
    same = [
        other
        for other in helix_fast.__all__
        if other.endswith("Error") and other != name and getattr(helix_fast, other).code == error.code
    ]
    assert not same
