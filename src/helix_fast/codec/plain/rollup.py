"""The rollup in plain Python: raw JSON of usage entries in, sums out. Also reads unusual entries for the compiled one.

`read_entry` is the rule of what an entry adds to the sums: it turns the entry into a section, a name and numbers. The
compiled codec has the same rule in `entry.pxi`, without a Python object for each value, and asks here for entries that
are unusual.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, final

import msgspec

from .replies import StringArray
from .sums import (
    CHILDREN,
    CUSTOM,
    MAX_TIME,
    OTHER,
    SECTIONS,
    SUB_AGENTS,
    TOKENS,
    TOOLS,
    Group,
    Number,
    Reading,
    check_sums,
)

UNNAMED = "unknown"

_decode = msgspec.json.Decoder().decode


class Malformed(Exception):  # noqa: N818
    """An entry that cannot be counted."""


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def load_entry(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``; ValueError for other data, or without a string ``kind``.

    Lone surrogates in escapes are accepted: JavaScript writes them when it has cut a text in half.
    """
    try:
        value = _decode(data)
    except (ValueError, RecursionError) as error:
        if b"\\u" not in data:
            raise ValueError(str(error)) from error
        try:
            value = json.loads(data.decode(), parse_constant=_refuse)
        except RecursionError as nested:
            raise ValueError(str(nested)) from nested
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ValueError("an entry is an object with a string 'kind'")  # noqa: TRY004  the data is wrong, not the call
    return value


def _text(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Malformed
    if not value.isascii():
        # A lone surrogate has no UTF-8: names must have one.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _number(value: object) -> Number:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (isinstance(value, int) or math.isfinite(value))
    ):
        raise Malformed
    return value


def _amount(value: object) -> Number | None:
    """A duration or a cost."""
    if value is not None and _number(value) < 0:
        raise Malformed
    return value  # type: ignore[return-value]


def _count(value: object) -> int:
    number = 0 if value is None else _number(value)
    if number < 0 or number != int(number):
        raise Malformed
    return int(number)


def _time(value: object) -> int | None:
    if value is None:
        return None
    time = math.floor(_number(value))
    if not -MAX_TIME < time < MAX_TIME:
        raise Malformed
    return time


def _read_tokens(tokens: object) -> tuple[int, int, int, int, int, int, int]:
    if not isinstance(tokens, dict):
        raise Malformed
    prompt, completion = _count(tokens.get("prompt")), _count(tokens.get("completion"))
    reasoning, cached = _count(tokens.get("reasoning")), _count(tokens.get("cached"))
    given = tokens.get("total")
    # Providers count reasoning inside completion, and most of them cached inside prompt. A part that is larger than
    # its whole stands beside it, and so does one that the reported total has room for. The larger part is asked first:
    # where there is room for one of them only, it explains more of the total.
    room = -1 if given is None else _count(given) - prompt - completion
    reasoning_beside = cached_beside = 0
    for of_prompt in (True, False) if cached > reasoning else (False, True):
        part, whole = (cached, prompt) if of_prompt else (reasoning, completion)
        if part <= whole and part > room:
            continue
        room -= part
        if of_prompt:
            cached_beside = part
        else:
            reasoning_beside = part
    prompt += cached_beside  # so all cached tokens are inside it
    total = prompt + completion + reasoning_beside if given is None else _count(given)
    return prompt, completion, reasoning, cached, total, reasoning - reasoning_beside, cached


def read_entry(data: bytes) -> Reading | None:
    """What an entry adds to the sums; None for a malformed entry."""
    try:
        entry = load_entry(data)
        kind = entry["kind"]
        time = _time(entry.get("timestamp"))
        if kind == "tokens":
            integers, cost = _read_tokens(entry.get("tokens")), _amount(entry.get("cost"))
            return Reading(TOKENS, _text(entry.get("model")) or UNNAMED, integers, cost, time, None)
        if kind == "custom":
            value = _number(entry.get("value"))
            return Reading(CUSTOM, _text(entry.get("type")) or UNNAMED, (0,) * 7, value, time, None)
        if kind not in ("tool", "subagent"):
            return Reading(OTHER, _text(kind) or UNNAMED, (0,) * 7, None, time, None)
        success = entry.get("success")
        if success is None:
            success = entry.get("error") is None
        duration = _amount(entry.get("durationMs"))
        if not isinstance(success, bool):
            return None
        outcome = (int(success), int(not success), 0, 0, 0, 0, 0)
        if kind == "tool":
            return Reading(TOOLS, _text(entry.get("toolName")) or UNNAMED, outcome, duration, time, None)
        child = _text(entry.get("subSessionId")) or None
        return Reading(SUB_AGENTS, _text(entry.get("agentType")) or UNNAMED, outcome, duration, time, child)
    except (Malformed, ValueError, OverflowError):
        return None


def _in_range(value: object, low: int | None, high: int | None) -> bool:
    if low is None and high is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def entry_matches(
    data: bytes,
    kinds: Sequence[bytes] | None,
    steps: tuple[int | None, int | None],
    times: tuple[int | None, int | None],
) -> bool:
    """Whether one entry passes the filters of `select_entries`."""
    try:
        entry = load_entry(data)
    except ValueError:
        return False
    if kinds is not None and entry["kind"].encode("utf-8", "surrogatepass") not in kinds:
        return False
    return _in_range(entry.get("stepCount"), *steps) and _in_range(entry.get("timestamp"), *times)


def _check_entry(entry: object) -> bytes:
    if type(entry) is not bytes:
        raise TypeError(f"an entry must be bytes, not {type(entry).__name__}")
    return entry


def select_entries(
    entries: Sequence[bytes],
    kinds: Sequence[bytes] | None,
    steps: tuple[int | None, int | None],
    times: tuple[int | None, int | None],
    limit: int,
) -> list[bytes]:
    """The first `limit` entries that pass the filters."""
    found: list[bytes] = []
    for kind in kinds or ():
        if type(kind) is not bytes:
            raise TypeError(f"a kind must be bytes, not {type(kind).__name__}")
    for entry in entries:
        if len(found) >= limit:
            break
        if entry_matches(_check_entry(entry), kinds, steps, times):
            found.append(entry)
    return found


@final
class Rollup:
    """Sums of usage entries by model, tool, sub-agent type and custom type. Owned by one thread at a time."""

    __slots__ = ("_first", "_last", "_sections", "entry_count", "malformed_count")

    def __init__(self) -> None:
        self.entry_count: int = 0
        self.malformed_count: int = 0
        self._first: int | None = None
        self._last: int | None = None
        self._sections: list[dict[str, Group]] = [{} for _ in range(SECTIONS)]

    def add(self, entries: Iterable[bytes]) -> None:
        """Add entries, each one JSON object."""
        if not isinstance(entries, list):
            raise TypeError(f"entries must be a list, not {type(entries).__name__}")
        for entry in entries:
            reading = read_entry(_check_entry(entry))
            if reading is None:
                self.malformed_count += 1
                continue
            self.entry_count += 1
            self._span(reading.time, reading.time)
            self._group(reading.section, reading.name).add(reading)
            if reading.child is not None:
                self._group(CHILDREN, reading.child).count += 1

    def add_strings(self, strings: StringArray, first: int = 0) -> None:
        """Add the entries of a reply, from an index on."""
        if type(strings) is not StringArray:
            raise TypeError(f"strings must be StringArray, not {type(strings).__name__}")
        self.add(strings.strings(first))

    def _group(self, section: int, name: str) -> Group:
        groups = self._sections[section]
        group = groups.get(name)
        if group is None:
            group = groups[name] = Group()
        return group

    def _span(self, first: int | None, last: int | None) -> None:
        if first is not None and (self._first is None or first < self._first):
            self._first = first
        if last is not None and (self._last is None or last > self._last):
            self._last = last

    def merge(self, other: Rollup) -> None:
        """Add the sums of another rollup."""
        if type(other) is not Rollup:
            raise TypeError(f"other must be a Rollup, not {type(other).__name__}")
        self.entry_count += other.entry_count
        self.malformed_count += other.malformed_count
        self._span(other._first, other._last)
        for section, groups in enumerate(other._sections):
            for name, group in groups.items():
                self._group(section, name).merge(group)

    @staticmethod
    def restore(exported: object) -> Rollup:
        """The rollup that exported these sums."""
        sums = check_sums(exported)
        made = Rollup()
        made.entry_count, made.malformed_count = sums.entry_count, sums.malformed_count
        made._span(sums.first, sums.last)
        for group in sums.groups:
            made._sections[group.section][group.name] = Group.restore(group)
        for child in sums.children:
            made._group(CHILDREN, child)
        return made

    def copy(self) -> Rollup:
        """The same sums in an object of their own."""
        twin = Rollup()
        twin.merge(self)
        return twin

    def export(self) -> tuple[Any, ...]:
        """The sums as plain values, from which `restore` makes the rollup again."""
        sections = tuple(
            {name: group.export() for name, group in groups.items()} for groups in self._sections[:CHILDREN]
        )
        return self.entry_count, self.malformed_count, self._first, self._last, sections, list(self._sections[CHILDREN])
