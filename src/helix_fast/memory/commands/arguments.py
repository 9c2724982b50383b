"""The table of all commands, and how they read their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from helix_fast.memory.keyspace import CommandError, Keyspace

Arguments: TypeAlias = Sequence[bytes]
Run: TypeAlias = Callable[[Keyspace, Arguments], Any]
R = TypeVar("R")


class Command(NamedTuple):
    """A command: how to run it, and how many arguments it takes."""

    run: Run
    least: int
    most: int


COMMANDS: Final[dict[bytes, Command]] = {}
UNBOUNDED: Final = 1 << 30
SYNTAX: Final = "ERR syntax error"
NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"


def command(
    name: str, least: int, most: int | None = None
) -> Callable[[Callable[[Keyspace, Arguments], R]], Callable[[Keyspace, Arguments], R]]:
    """Enter a function into the table; ``most`` None: no more than ``least``."""

    def enter(run: Callable[[Keyspace, Arguments], R]) -> Callable[[Keyspace, Arguments], R]:
        COMMANDS[name.encode()] = Command(run, least, least if most is None else most)
        return run

    return enter


def integer(text: bytes) -> int:
    """A signed 64-bit integer, spelled as a server wants it."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or (len(digits) > 1 and digits[:1] == b"0") or text == b"-0":
        raise CommandError(NOT_AN_INTEGER)
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise CommandError(NOT_AN_INTEGER)
    return value


def score(text: bytes) -> float:
    """A double."""
    try:
        value = float(text)
    except ValueError:
        raise CommandError("ERR value is not a valid float") from None
    if math.isnan(value):
        raise CommandError("ERR value is not a valid float")
    return value


def text_of(value: float) -> bytes:
    """A double as the text of a reply."""
    if math.isinf(value):
        return b"inf" if value > 0 else b"-inf"
    return b"%d" % int(value) if value.is_integer() and abs(value) < 1e17 else repr(value).encode()


def span(size: int, start: bytes, stop: bytes) -> slice:
    """The slice that start and stop, both inclusive and counted from the end where negative, stand for."""
    first, last = integer(start), integer(stop)
    first = max(0, first + size if first < 0 else first)
    last = last + size if last < 0 else last
    return slice(first, max(first, last + 1))
