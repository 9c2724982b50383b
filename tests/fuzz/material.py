"""Arguments for the codec, made of arbitrary bytes: the same bytes always make the same arguments.

Nearly every byte decides something, so an engine that changes one byte changes one decision. Where the bytes end, zeros
follow, and zero always means the simplest choice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

U64_MAX = 2**64 - 1
LARGE = 2**70
HARD_TEXT = [
    "a",
    '"',
    "\\",
    "\n",
    "\x00",
    "\x1f",
    " ",
    "\x7f",
    "é",
    "ÿ",
    "€",
    "\u2028",
    "\ufffd",
    "\U0001f600",
    "\ud800",
]
HARD_NUMBERS = [0, 1, 2, 9, 10, 99, 100, 9999, 10**8 - 1, 10**8, 10**16, 2**31, 2**63 - 1, 2**63, U64_MAX - 1, U64_MAX]
WRONG_NUMBERS: list[Any] = [
    -1,
    U64_MAX + 1,
    2**200,
    -(2**63) - 1,
    True,
    False,
    None,
    1.0,
    math.nan,
    "1",
    b"1",
    [],
    10**5000,
]
FIELDS = [
    "kind",
    "timestamp",
    "stepCount",
    "model",
    "tokens",
    "toolName",
    "durationMs",
    "success",
    "error",
    "agentType",
]
FIELDS += ["subSessionId", "type", "value", "id"]
COUNTS = ["prompt", "completion", "reasoning", "cached", "total"]
KINDS = ["tokens", "tool", "subagent", "custom", "embedding", "", "tokensx", "kind"]
# What an entry is broken with: everything that JSON gives a meaning to, and pieces of UTF-8.
SPLINTERS = [bytes([byte]) for byte in b'"\\{}[]:,0-.eEu \n\t\x00\x1f\x7f\x80\xc2\xed\xa0\xf0\xf4\xff']
SPLINTERS += [b"\\ud800", b"\\u0000", b"\\uD83D\\uDE00", b"\xed\xa0\x80", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80"]
SPLINTERS += [b"null", b"true", b"false", b"NaN", b"1e999", b"-0", b"-0.0", b"0." + b"1" * 201, b"1" * 19]
SPLINTERS += [b'"kind"', b'"kind":"tool",', b"[[[[[[[[", b'{"a":' * 70, b"[" * 2000]


class Whole(int):
    """An int of a class of its own."""


class Word(str):
    """A str of a class of its own."""

    __slots__ = ()


class Raw(bytes):
    """Bytes of a class of their own, which most entry points refuse."""


class Pair(msgspec.Struct):
    """A struct as an application may put it into a state."""

    left: Any
    right: Any = None


class Claims:
    """Says that it is a struct, but lacks the field."""

    __struct_fields__ = ("missing",)


class Material:
    """Decisions and arguments, read from bytes one after the other.

    Args:
        data: what decides; any bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that have decided nothing yet."""
        return max(0, len(self._data) - self._at)

    def byte(self) -> int:
        """The next byte; 0 behind the end."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def below(self, end: int) -> int:
        """A number in 0..end-1, end at most 256."""
        return self.byte() % end

    def pick(self, choices: Sequence[T]) -> T:
        """One of at most 256 choices."""
        return choices[self.below(len(choices))]

    def rarely(self) -> bool:
        """True once in sixteen."""
        return self.byte() % 16 == 15

    def raw(self) -> bytes:
        """Bytes as they stand: up to 31, rarely up to 255."""
        length = self.byte() if self.rarely() else self.below(32)
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece

    def several(self, make: Callable[[], T], most: int) -> list[T]:
        """A list of up to `most` made things."""
        return [make() for _ in range(self.below(most + 1))]

    def integer(self) -> int:
        """An integer of up to 80 bits and a sign, small ones often."""
        size = self.below(11)
        value = sum(self.byte() << 8 * place for place in range(size))
        return -value if self.byte() % 8 == 7 else value

    def u64(self) -> Any:
        """A number as the codec wants it; rarely one that it refuses."""
        way = self.below(32)
        if way < 16:
            return self.byte()
        if way < 24:
            return self.pick(HARD_NUMBERS)
        if way < 28:
            return self.integer() & U64_MAX
        if way < 30:
            return Whole(self.byte())
        return self.pick(WRONG_NUMBERS)

    def range(self) -> tuple[Any, Any]:
        """First and last of a range; rarely the wrong way round, or no numbers."""
        first = self.u64()
        way = self.below(8)
        if way == 7 or type(first) is not int:
            return first, self.u64()
        return first, first + self.byte() - (way == 6)

    def text(self) -> Any:
        """A str, hard to escape often; rarely something else."""
        way = self.below(16)
        if way < 6:
            return "".join(self.several(lambda: self.pick(HARD_TEXT), 40))
        if way < 11:
            return self.raw().decode("latin-1")
        if way < 13:
            return self.raw().decode("utf-8", "replace")
        if way == 13:
            return self.pick(HARD_TEXT) * (self.byte() * 16)
        if way == 14:
            return Word(self.pick(HARD_TEXT) * self.below(20))
        return self.pick([None, b"bytes", 5, ["text"]])

    def blob(self) -> Any:
        """Bytes; rarely something that is none."""
        way = self.below(16)
        if way < 8:
            return self.raw()
        if way < 11:
            return b"\n".join(self.several(self.raw, 6))
        if way < 13:
            return self.pick([b"", b"\n", b"\n\n", b"x", b"x\n", b"\ny", b"{}"])
        if way < 15:
            return self.pick([b"x", b"x\n", b"ab\n", b"\xff"]) * (self.byte() * 4)
        return self.pick([None, "text", Raw(b"raw"), bytearray(b"array"), memoryview(b"view"), 5])

    def payload(self) -> Any:
        """A published payload, as it should be or nearly so."""
        way = self.below(8)
        if way == 7:
            return self.blob()
        usual = [self.pick([self.byte(), self.pick(HARD_NUMBERS), abs(self.integer())]) for _ in range(3)]
        numbers = [self.pick(["007", "", "+1", "²"]) if self.rarely() else number for number in usual]
        head = f"{numbers[0]}-{numbers[1]}:{numbers[2]}\n".encode()
        if way == 6:
            head = self.broken(head)
        return head + self.raw()

    def argument(self) -> Any:
        """One argument of a command."""
        way = self.below(8)
        if way < 2:
            return self.blob()
        if way < 4:
            return self.text()
        if way < 6:
            return self.pick([self.u64(), self.integer(), -self.byte()])
        if way == 6:
            return self.pick([0.5, -0.0, 1e22, 1e-7, math.inf, math.nan, 5.0])
        return self.pick([True, None, Raw(b"raw"), Word("wörd"), Whole(7), (), {}, object()])

    def arguments(self) -> Any:
        """The arguments of a command; rarely no list of them."""
        if self.rarely():
            return self.pick(["GET", b"GET", None, (), {"GET": 1}, 5, ("GET", 7)])
        return self.several(self.argument, 12)

    def tree(self, depth: int = 0) -> Any:
        """A value to be checked for what JSON cannot hold."""
        way = self.below(24)
        if depth > 6 or way < 6:
            return self.pick([None, True, 1, "text", 0.5, 10**400, -0.0, b"bytes", Word("word"), Whole(3)])
        if way < 11:
            return {self._key(): self.tree(depth + 1) for _ in range(self.below(5))}
        if way < 16:
            return self.several(lambda: self.tree(depth + 1), 4)
        if way < 18:
            return tuple(self.several(lambda: self.tree(depth + 1), 4))
        if way < 20:
            return Pair(self.tree(depth + 1), self.tree(depth + 1))
        if way == 20:
            return self._nested(self.tree(depth + 1))
        if way == 21:
            return self._cycle()
        return self.pick(
            [math.nan, math.inf, -math.inf, bytearray(b"a"), memoryview(b"v"), {1}, Claims(), object(), int]
        )

    def _key(self) -> Any:
        return (
            self.pick([7, None, b"key", (1,)])
            if self.rarely()
            else self.pick(["a", "", "é", "b.c", Word("w"), "\ud800"])
        )

    def _nested(self, value: Any) -> Any:
        """About as deep as is allowed, or a little deeper."""
        for _ in range(self.pick([511, 512, 513, 10, 3000]) - 3 + self.below(4)):
            value = [value] if self._at % 3 else {"k": value}
        return value

    def _cycle(self) -> Any:
        round_trip: list[Any] = [0, {}]
        round_trip[1]["back"] = self.pick([round_trip, (round_trip,), Pair(round_trip)])
        return round_trip

    def entry(self) -> Any:
        """A usage entry as a program may have written it, or something that only looks like one."""
        way = self.below(32)
        if way == 31:
            return self.blob()
        text = json.dumps(self._object(), ensure_ascii=bool(way & 1), indent=1 if way & 4 else None)
        data = text.encode("utf-8", "surrogatepass")
        while way & 24 == 24:
            data = self.broken(data)
            way = self.below(32)
        return data

    def entries(self) -> Any:
        """A list of entries; rarely something else."""
        if self.rarely():
            return self.pick([None, (b"{}",), b"{}", [None], [b"{}", Raw(b"{}")], ["{}"]])
        if self.rarely():
            # As many names as make a table grow at every possible moment.
            first = self.byte()
            return [b'{"kind":"tool","toolName":"%d"}' % name for name in range(first, first + self.below(40))]
        return self.several(self.entry, 6)

    def broken(self, data: bytes) -> bytes:
        """The same bytes with something put in, taken out or cut off."""
        at = (self.byte() << 8 | self.byte()) % (len(data) + 1)
        way = self.below(6)
        if way == 0:
            return data[:at]
        if way == 1:
            return data[:at] + data[at + 1 :]
        return data[:at] + self.pick(SPLINTERS) + data[at + (way & 1) :]

    def damaged(self, value: Any) -> Any:
        """A tree of lists, tuples and dicts; rarely with something else somewhere in it."""
        if self.below(4) != 3:
            return value
        return self._damaged(value)

    def _damaged(self, value: Any) -> Any:
        way = self.below(12)
        if way == 0 or not isinstance(value, (list, tuple, dict)) or not value:
            wrong = [
                None,
                -1,
                0,
                2**32,
                2**63,
                LARGE,
                -LARGE,
                0.5,
                -0.0,
                math.nan,
                math.inf,
                True,
                "",
                "\ud800",
                [],
                {},
            ]
            return self.pick(wrong)
        if isinstance(value, dict):
            name = self.pick(list(value)[:200])
            return {**value, (self._key() if way == 1 else name): self._damaged(value[name])}
        parts = list(value)
        at = self.below(min(len(parts), 200))
        if way == 1:
            del parts[at]
        else:
            parts[at] = self._damaged(parts[at])
        return type(value)(parts)

    def bounds(self) -> tuple[int | None, int | None]:
        """A filter's least and greatest value."""
        return self._bound(), self._bound()

    def kinds(self) -> Any:
        """The kinds of a filter; None often."""
        if self.rarely():
            return self.pick([["tool"], [None], (Raw(b"tool"),)])
        return self.pick([None, [kind.encode() for kind in self.several(lambda: self.pick(KINDS), 4)]])

    def _bound(self) -> int | None:
        return self.pick([None, self.byte(), self.integer()])

    def _object(self) -> dict[str, Any]:
        made: dict[str, Any] = {"kind": self.pick(KINDS)}
        for _ in range(self.below(8)):
            field = self.pick(FIELDS)
            made[field] = self._tokens() if field == "tokens" else self._value()
        return made

    def _tokens(self) -> Any:
        return self._value() if self.rarely() else {self.pick(COUNTS): self._count() for _ in range(self.below(6))}

    def _count(self) -> Any:
        return self._value() if self.rarely() else self.pick([self.byte(), self.integer()])

    def _value(self, depth: int = 0) -> Any:
        way = self.below(16)
        if way < 4:
            return self.byte()
        if way < 6:
            return self.pick([10**18 - 1, 10**18, -(10**18), 2**62, 2**63, -(2**62), 2**64, self.integer()])
        if way < 8:
            return self.pick([0.1, -0.5, 100.0, -0.0, 1e21, 1e-7, 1.7e308, -1.7e308, 5e-324, self.integer() / 1000])
        if way < 11:
            return self.pick(["", "gpt-4o", "é", 'quo"te', "\n", "\ud800", "\U0001f600", "n" * 300, self.pick(FIELDS)])
        if way < 13 or depth > 3:
            return self.pick([None, True, False])
        if way == 13:
            return {self.pick(FIELDS): self._value(depth + 1) for _ in range(self.below(4))}
        return self.several(lambda: self._value(depth + 1), 3)

    def page(self) -> Any:
        """Entries of a stream that follow one another; rarely damaged, or none at all."""
        if self.rarely():
            return self.pick([None, (), [None], [[]], [[b"1-1", None]], [[b"1-1", []]]])
        last = self.pick(HARD_NUMBERS) if self.rarely() else self.below(9)
        page = []
        for _ in range(self.below(6)):
            lines = 1 + self.below(3)
            last += lines
            fields: list[Any] = [b"chunk", b"\n".join([b"{}"] * lines), b"sequence", b"%d" % last]
            fields += [b"writer", b"abcd0001"]
            if self.rarely():
                fields[self.below(6)] = self.pick([b"", b"x\n", b"007", b"9" * 17, b"-1", None, 5, bytearray(b"chunk")])
            page.append([b"1-1", fields[: self.pick([6, 6, 6, 6, 6, 6, 6, 4])]])
        return page
