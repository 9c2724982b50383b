"""The public surface: what users name is there, documented, and changes only on purpose."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest

import helix_fast

NAMES = Path(__file__).parents[1] / "data" / "public_names.txt"


def test_public_names_change_only_on_purpose() -> None:
    assert sorted(helix_fast.__all__) == NAMES.read_text().split()


@pytest.mark.parametrize("name", helix_fast.__all__)
def test_public_name_is_documented(name: str) -> None:
    value = getattr(helix_fast, name)
    if typing.get_origin(value) is not None:
        return  # a union: its members are documented
    assert inspect.getdoc(value), name
    if inspect.isclass(value) and value.__module__.startswith("helix_fast"):
        for member, function in vars(value).items():
            if not member.startswith("_") and inspect.isfunction(function):
                assert function.__doc__, f"{name}.{member}"


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
