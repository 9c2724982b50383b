"""The sums of one name in a rollup, in plain Python, and the check of sums that were stored.

Both twins restore a rollup only from sums that `check_sums` has accepted: stored bytes are not trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

TOKENS, TOOLS, SUB_AGENTS, CUSTOM, OTHER, CHILDREN = range(6)
SECTIONS = 6
# Meaning of the seven integers of an entry in TOKENS. TOOLS and SUB_AGENTS use the first two: success, failure.
PROMPT, COMPLETION, REASONING, CACHED, TOTAL, REASONING_INSIDE, CACHED_INSIDE = range(7)
INTEGERS = 7
# Milliseconds; a larger number is refused as a time, which keeps every time within 64 bits.
MAX_TIME = 10**18
# A Redis list holds no more entries; counts stay within 64 bits however often rollups are merged.
MAX_COUNT = 2**32
_VALUES = 1 + INTEGERS + 9  # of one name
Number = Union[int, float]  # noqa: UP007


class Reading(NamedTuple):
    """What one entry adds to the sums."""

    section: int
    name: str
    integers: tuple[int, int, int, int, int, int, int]
    number: Number | None
    time: int | None
    child: str | None


class Group:
    """The sums of one name in one section."""

    __slots__ = (
        "count",
        "high",
        "integers",
        "low",
        "real_count",
        "real_high",
        "real_low",
        "real_rest",
        "real_sum",
        "whole_count",
        "whole_sum",
    )

    def __init__(self) -> None:
        self.count: int = 0
        self.integers: list[int] = [0] * INTEGERS
        self.whole_count: int = 0
        self.whole_sum: int = 0
        self.low: int | None = None
        self.high: int | None = None
        self.real_count: int = 0
        self.real_sum: float = 0.0
        self.real_rest: float = 0.0
        self.real_low: float | None = None
        self.real_high: float | None = None

    def add_real(self, number: float) -> None:
        """Add a fraction."""
        # Neumaier's compensated sum: a hundred thousand prices of 0.1 add up to 10000, not nearly so.
        total = self.real_sum + number
        if abs(self.real_sum) >= abs(number):
            self.real_rest += (self.real_sum - total) + number
        else:
            self.real_rest += (number - total) + self.real_sum
        self.real_sum = total

    def add(self, reading: Reading) -> None:
        """Add one entry."""
        self.count += 1
        self.integers = [a + b for a, b in zip(self.integers, reading.integers, strict=True)]
        number = reading.number
        if isinstance(number, int):
            self.whole_count += 1
            self.whole_sum += number
            self.spread(number, number)
        elif number is not None:
            self.real_count += 1
            self.add_real(number)
            self.spread_real(number, number)

    def spread(self, low: int | None, high: int | None) -> None:
        """Widen the range of the integers to these."""
        if low is not None and (self.low is None or low < self.low):
            self.low = low
        if high is not None and (self.high is None or high > self.high):
            self.high = high

    def spread_real(self, low: float | None, high: float | None) -> None:
        """Widen the range of the fractions to these."""
        if low is not None and (self.real_low is None or low < self.real_low):
            self.real_low = low
        if high is not None and (self.real_high is None or high > self.real_high):
            self.real_high = high

    def merge(self, other: Group) -> None:
        """Add another's sums."""
        self.count += other.count
        self.integers = [a + b for a, b in zip(self.integers, other.integers, strict=True)]
        self.whole_count += other.whole_count
        self.whole_sum += other.whole_sum
        self.spread(other.low, other.high)
        self.spread_real(other.real_low, other.real_high)
        self.real_count += other.real_count
        rest = other.real_rest
        self.add_real(other.real_sum)
        self.real_rest += rest

    def export(self) -> tuple[Any, ...]:
        """The 17 values of one name in `Rollup.export`, in its order."""
        return (
            self.count,
            *self.integers,
            self.whole_count,
            self.whole_sum,
            self.low,
            self.high,
            self.real_count,
            self.real_sum,
            self.real_rest,
            self.real_low,
            self.real_high,
        )

    @classmethod
    def restore(cls, values: GroupSums) -> Group:
        """The group of checked sums."""
        group = cls()
        group.count, group.integers = values.entries, list(values.integers)
        group.whole_count, group.whole_sum, group.low, group.high = values.whole
        group.real_count, group.real_sum, group.real_rest, group.real_low, group.real_high = values.real
        return group


class GroupSums(NamedTuple):
    """Checked sums of one name."""

    section: int
    name: str
    entries: int
    integers: tuple[int, ...]
    whole: tuple[int, int, int | None, int | None]
    real: tuple[int, float, float, float | None, float | None]


class Sums(NamedTuple):
    """Checked sums of a rollup."""

    entry_count: int
    malformed_count: int
    first: int | None
    last: int | None
    groups: list[GroupSums]
    children: list[str]


def check_sums(exported: object) -> Sums:
    """Check the result of `Rollup.export`, also read back from JSON with lists for tuples.

    The values are copied: a change of the argument after this check has no effect.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a wrong number of values, or values that no entries add up to.
    """
    entry_count, malformed_count, first, last, sections, children = _row(exported, 6, "the sums")
    _span(first, last, int, "times")
    if first is not None and not -MAX_TIME < first <= last < MAX_TIME:
        raise ValueError("a time is beyond 10**18 ms")
    groups: list[GroupSums] = []
    for section, names in enumerate(_row(sections, CHILDREN, "sections")):
        if type(names) is not dict:
            raise TypeError(f"a section must be a dict, not {type(names).__name__}")
        groups += [_group(section, name, values) for name, values in names.copy().items()]
    # Every entry that counts does so under one name.
    if _count(entry_count) != sum(group.entries for group in groups):
        raise ValueError(f"{entry_count} entries are not as many as their names have")
    if type(children) is not list:
        raise TypeError(f"children must be a list, not {type(children).__name__}")
    names_of_children = [_name(name) for name in children.copy()]
    return Sums(entry_count, _count(malformed_count), first, last, groups, names_of_children)


def _row(values: object, length: int, what: str) -> Sequence[Any]:
    if type(values) is not tuple and type(values) is not list:
        raise TypeError(f"{what} must be a tuple or list, not {type(values).__name__}")
    row = tuple(values)
    if len(row) != length:
        raise ValueError(f"{what} must be {length} values, not {len(row)}")
    return row


def _name(name: object) -> str:
    if type(name) is not str:
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a name is empty")
    name.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return name


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"a sum of integers must be an int, not {type(value).__name__}")
    return value


def _count(value: object, most: int | None = MAX_COUNT) -> int:
    number = _integer(value)
    if number < 0 or (most is not None and number > most):
        raise ValueError("a count is negative, or larger than any list of entries")
    return number


def _real(value: object) -> float:
    if type(value) is not float:
        raise TypeError(f"a sum of fractions must be a float, not {type(value).__name__}")
    return value


def _span(low: Any, high: Any, kind: type[int | float], what: str) -> None:
    """Least and greatest: both None, or both of their kind and in this order."""
    if low is None and high is None:
        return
    if type(low) is not kind or type(high) is not kind:
        raise TypeError(f"{what} must be two {kind.__name__}s or None, not {type(low).__name__}, {type(high).__name__}")
    if not low <= high or (kind is float and not (math.isfinite(low) and math.isfinite(high))):
        raise ValueError(f"{what}: the least is greater than the greatest, or one of them is not finite")


def _group(section: int, name: object, values: object) -> GroupSums:
    row = _row(values, _VALUES, "the sums of a name")
    count, integers, (whole_count, whole_sum, low, high) = row[0], row[1 : 1 + INTEGERS], row[8:12]
    real_count, real_sum, real_rest, real_low, real_high = row[12:]
    _span(low, high, int, "least and greatest integer")
    _span(real_low, real_high, float, "least and greatest fraction")
    if bool(_count(whole_count)) != (low is not None) or bool(_count(real_count)) != (real_low is not None):
        raise ValueError("there are a least and a greatest number just where there are numbers")
    return GroupSums(
        section,
        _name(name),
        _count(count),
        tuple(_count(value, None) for value in integers),
        (whole_count, _integer(whole_sum), low, high),
        (real_count, _real(real_sum), _real(real_rest), real_low, real_high),
    )
