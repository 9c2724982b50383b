"""What Redis gives to scripts: the base library, ``math`` and ``table``; strings and JSON are beside it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Final

from . import json, strings, values
from .values import Function, LuaError, Table, Value

# LUAI_MAXCSTACK: what a script may not do on a server it may not do here.
MAX_UNPACKED: Final = 8000


def _one(function: Callable[..., Value]) -> Function:
    """A function of one result."""
    most = len(inspect.signature(function).parameters)
    return lambda *arguments: (function(*arguments[:most]),)


def _library(functions: dict[str, Function]) -> Table:
    return Table(fields={name.encode(): function for name, function in functions.items()})


def standard_names() -> dict[bytes, Value]:
    """All global names but ``redis``, ``KEYS`` and ``ARGV``."""
    return {
        b"assert": _assert,
        b"cjson": Table(fields={b"encode": _one(json.encode), b"decode": _one(json.decode), b"null": json.NULL}),
        b"error": values.fitted(_error),
        b"ipairs": values.fitted(_ipairs),
        b"math": Table(fields={**_library(_MATH).fields, b"huge": math.inf, b"pi": math.pi}),
        b"next": values.fitted(_next),
        b"pairs": values.fitted(_pairs),
        b"pcall": _pcall,
        b"select": _select,
        b"string": strings.string_library(),
        b"table": _library(_TABLE),
        b"tonumber": _one(_tonumber),
        b"tostring": _one(tostring),
        b"type": _one(_type),
        b"unpack": values.fitted(unpack),
    }


def tostring(value: Value = None) -> bytes:
    """``tostring(value)``."""
    text = values.to_text(value)
    if text is not None:
        return text
    if value is None or type(value) is bool:
        return {None: b"nil", True: b"true", False: b"false"}[value]
    return values.type_name(value) + b": 0x%x" % id(value)


def _tonumber(value: Value = None, base: Value = 10.0) -> float | None:
    if base == 10.0:
        return values.to_number(value)
    text = values.to_text(value)
    try:
        return float(int(text, int(base))) if text is not None else None
    except ValueError:
        return None


def _type(value: Value) -> bytes:
    return values.type_name(value)


def _assert(value: Value = None, message: Value = b"assertion failed!", *rest: Value) -> Sequence[Value]:
    if value is None or value is False:
        raise LuaError(message)
    return (value, message, *rest)


def _error(value: Value = None, _level: Value = None) -> Sequence[Value]:
    raise LuaError(value)


def _pcall(function: Value = None, *arguments: Value) -> Sequence[Value]:
    try:
        if not callable(function):
            raise LuaError(b"attempt to call a " + values.type_name(function) + b" value")
        return (True, *function(*arguments))
    except LuaError as error:
        return (False, error.value)
    except RecursionError:
        return (False, b"stack overflow")


def _select(which: Value, *arguments: Value) -> Sequence[Value]:
    if which == b"#":
        return (float(len(arguments)),)
    number = int(values.arithmetic(which))
    if number == 0 or number < -len(arguments):
        raise LuaError(b"bad argument #1 to 'select' (index out of range)")
    return arguments[number - 1 :] if number > 0 else arguments[number:]


def _table_argument(value: Value, name: bytes) -> Table:
    if type(value) is not Table:
        raise LuaError(b"bad argument #1 to '" + name + b"' (table expected, got " + values.type_name(value) + b")")
    return value


def _ipairs(table: Value = None) -> Sequence[Value]:
    array = _table_argument(table, b"ipairs").array

    def step(_state: Value, at: float) -> Sequence[Value]:
        number = int(at)
        if number < len(array) and array[number] is not None:
            return (at + 1.0, array[number])
        return (None,)

    return (step, table, 0.0)


def _pairs(table: Value = None) -> Sequence[Value]:
    items = _table_argument(table, b"pairs").items()
    return (lambda _state, _key: next(items, (None,)), table, None)


def _next(table: Value = None, key: Value = None) -> Sequence[Value]:
    items = _table_argument(table, b"next").items()
    if key is not None:
        for found, _value in items:
            if values.equal(found, key):
                break
    return next(items, (None,))


def unpack(table: Value = None, start: Value = 1.0, stop: Value = None) -> Sequence[Value]:
    """``unpack(table, start, stop)``."""
    source = _table_argument(table, b"unpack")
    first = int(values.arithmetic(start))
    last = len(source.array) if stop is None else int(values.arithmetic(stop))
    if last - first + 1 >= MAX_UNPACKED:
        raise LuaError(b"too many results to unpack")
    return [source.get(float(number)) for number in range(first, last + 1)]


def _numbers(function: Callable[..., float]) -> Function:
    """A function of numbers."""

    def checked(*arguments: Value) -> Sequence[Value]:
        if not arguments:
            raise LuaError(b"bad argument #1 (number expected, got no value)")
        return (float(function(*(values.arithmetic(argument) for argument in arguments))),)

    return checked


def _rounding(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda number: float(function(number)) if math.isfinite(number) else number


_MATH: Final[dict[str, Function]] = {
    "abs": _numbers(abs),
    "ceil": _numbers(_rounding(math.ceil)),
    "floor": _numbers(_rounding(math.floor)),
    "fmod": _numbers(math.fmod),
    "max": _numbers(lambda *numbers: max(numbers)),
    "min": _numbers(lambda *numbers: min(numbers)),
    "pow": _numbers(math.pow),
    "sqrt": _numbers(math.sqrt),
}


def _concat(table: Value = None, separator: Value = b"", start: Value = 1.0, stop: Value = None) -> bytes:
    source = _table_argument(table, b"concat")
    last = len(source.array) if stop is None else int(values.arithmetic(stop))
    words: list[bytes] = []
    for number in range(int(values.arithmetic(start)), last + 1):
        word = values.to_text(source.get(float(number)))
        if word is None:
            raise LuaError(b"invalid value at index %d in table for 'concat'" % number)
        words.append(word)
    between = values.to_text(separator)
    if between is None:
        raise LuaError(b"bad argument #2 to 'concat' (string expected)")
    return between.join(words)


def _insert(table: Value, *arguments: Value) -> Sequence[Value]:
    source = _table_argument(table, b"insert")
    if len(arguments) == 1:
        source.set(float(len(source.array) + 1), arguments[0])
    elif len(arguments) == 2:
        place = int(values.arithmetic(arguments[0]))
        for number in range(len(source.array), place - 1, -1):
            source.set(float(number + 1), source.get(float(number)))
        source.set(float(place), arguments[1])
    else:
        raise LuaError(b"wrong number of arguments to 'insert'")
    return ()


def _remove(table: Value, place: Value = None) -> Sequence[Value]:
    source = _table_argument(table, b"remove")
    size = len(source.array)
    number = size if place is None else int(values.arithmetic(place))
    if not 1 <= number <= size:
        return ()
    removed = source.get(float(number))
    for following in range(number, size):
        source.set(float(following), source.get(float(following + 1)))
    source.set(float(size), None)
    return (removed,)


def _sort(table: Value, before: Value = None) -> Sequence[Value]:
    source = _table_argument(table, b"sort")

    def truth(a: Value, b: Value) -> bool:
        if before is None:
            return values.less(a, b)
        found = before(a, b)
        return bool(found) and found[0] is not None and found[0] is not False

    order = functools.cmp_to_key(lambda a, b: -1 if truth(a, b) else 1 if truth(b, a) else 0)
    source.array.sort(key=order)
    return ()


_TABLE: Final[dict[str, Function]] = {
    "concat": _one(_concat),
    "insert": _insert,
    "remove": values.fitted(_remove),
    "sort": values.fitted(_sort),
}
