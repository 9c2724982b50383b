"""Lua values as Python has them: nil is None, a string bytes, a number a float; a function takes and gives many."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

Value = Any
"""None, bool, float, bytes, Table or Function."""
Function = Callable[..., Sequence[Any]]

_NUMBER: Final = re.compile(rb"[ \t-\r]*([-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))[ \t-\r]*\Z")


def fitted(function: Function) -> Function:
    """A function of ours as Lua calls it: arguments beyond those that it takes are dropped."""
    most = len(inspect.signature(function).parameters)
    return lambda *arguments: function(*arguments[:most])


class LuaError(Exception):
    """An error of a running script; ``value`` is what ``pcall`` gives back."""

    def __init__(self, value: Value) -> None:
        super().__init__(value)
        self.value = value


class Table:
    """A Lua table: ``array`` holds the keys from 1 on without a break, ``fields`` all others."""

    __slots__ = ("array", "fields")

    def __init__(self, array: Iterable[Value] = (), fields: dict[Value, Value] | None = None) -> None:
        self.array: list[Value] = list(array)
        self.fields: dict[Value, Value] = {} if fields is None else fields

    def get(self, key: Value) -> Value:
        """What is stored under ``key``, or None."""
        if type(key) is float:
            if 1 <= key <= len(self.array) and key.is_integer():
                return self.array[int(key) - 1]
            return self.fields.get((float, key))
        return self.fields.get(key)

    def set(self, key: Value, value: Value) -> None:
        """Store; None removes."""
        array = self.array
        if type(key) is float and key.is_integer() and 1 <= key <= len(array) + 1:
            index = int(key) - 1
            if index < len(array):
                array[index] = value
                while array and array[-1] is None:
                    array.pop()
            elif value is not None:
                array.append(value)
                while self.fields and (following := self.fields.pop((float, len(array) + 1.0), None)) is not None:
                    array.append(following)
        elif key is None or key != key:
            raise LuaError(b"table index is nil or NaN")
        elif value is None:
            self.fields.pop(_key(key), None)
        else:
            self.fields[_key(key)] = value

    def items(self) -> Iterator[tuple[Value, Value]]:
        """Keys and values, those of the array first."""
        for index, value in enumerate(list(self.array), 1):
            if value is not None:
                yield float(index), value
        for key, value in list(self.fields.items()):
            yield (key[1] if type(key) is tuple else key), value


def _key(key: Value) -> Value:
    # To a dict 1.0, True and, for that matter, 0.0 and False are the same; to Lua they are not.
    return (float, key) if type(key) is float else key


def type_name(value: Value) -> bytes:
    """As Lua's ``type`` tells it."""
    if value is None:
        return b"nil"
    kind = type(value)
    if kind is bool:
        return b"boolean"
    if kind is float:
        return b"number"
    if kind is bytes:
        return b"string"
    if kind is Table:
        return b"table"
    return b"function" if callable(value) else b"userdata"


def text_of_number(number: float) -> bytes:
    """As ``tostring`` and ``..`` write it: 14 digits, which is less than a double holds."""
    if number.is_integer() and abs(number) < 1e14:
        return b"%d" % int(number) if number or math.copysign(1.0, number) > 0 else b"-0"
    if math.isnan(number):
        return b"-nan" if math.copysign(1.0, number) < 0 else b"nan"
    return b"%.14g" % number


def to_text(value: Value) -> bytes | None:
    """A string, or a number as text; None for anything else."""
    if type(value) is bytes:
        return value
    return text_of_number(value) if type(value) is float else None


def to_number(value: Value) -> float | None:
    """A number, or a string that spells one; None for anything else."""
    if type(value) is float:
        return value
    if type(value) is bytes:
        if value.isdigit():
            return float(value)
        match = _NUMBER.match(value)
        if match is not None:
            text = match[1]
            return float(int(text, 16)) if b"x" in text or b"X" in text else float(text)
    return None


def arithmetic(value: Value) -> float:
    """An operand of an arithmetic operator."""
    number = to_number(value)
    if number is None:
        raise LuaError(b"attempt to perform arithmetic on a " + type_name(value) + b" value")
    return number


def joined(left: Value, right: Value) -> bytes:
    """``left .. right``."""
    a, b = to_text(left), to_text(right)
    if a is None or b is None:
        raise LuaError(b"attempt to concatenate a " + type_name(left if a is None else right) + b" value")
    return a + b


def index(value: Value, key: Value) -> Value:
    """``value[key]``."""
    if type(value) is Table:
        return value.get(key)
    raise LuaError(b"attempt to index a " + type_name(value) + b" value")


def less(left: Value, right: Value) -> bool:
    """``left < right``: two numbers or two strings, nothing else."""
    if type(left) is type(right) and type(left) in {float, bytes}:
        return bool(left < right)
    raise LuaError(b"attempt to compare " + type_name(left) + b" with " + type_name(right))


def equal(left: Value, right: Value) -> bool:
    """``left == right``: never across types, and tables only with themselves."""
    return left is right or (type(left) is type(right) and type(left) in {float, bytes} and bool(left == right))


def length(value: Value) -> float:
    """``#value``."""
    if type(value) is bytes:
        return float(len(value))
    if type(value) is Table:
        return float(len(value.array))
    raise LuaError(b"attempt to get length of a " + type_name(value) + b" value")
