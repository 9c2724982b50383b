"""Ids and names as libraries make them: a str of a subclass is its text in every store, however it shows itself."""

from __future__ import annotations

from enum import Enum
from typing import Final

import pytest


class Text(str):
    """As ``numpy.str_``: a str by inheritance alone."""

    __slots__ = ()


class OddText(str):
    """One that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "odd"

    def __format__(self, spec: str) -> str:
        return "odd"


class Member(str, Enum):
    """A member of an Enum, which formats as its name on some versions of Python."""

    NAME = "named"


SUBCLASSES: Final[list[str]] = [Text("text"), OddText("shown otherwise"), Member.NAME]
every_subclass: Final = pytest.mark.parametrize("name", SUBCLASSES, ids=lambda name: type(name).__name__)


def plain(name: str) -> str:
    """The text as a plain str."""
    return str.__str__(name)
