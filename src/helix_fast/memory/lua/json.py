"""The ``cjson`` library, as far as scripts go that let it touch strings, small integers and tables of them."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from . import values
from .values import LuaError, Table, Value

NULL: Final = type("Null", (), {"__repr__": lambda _self: "cjson.null"})()
MAX_DEPTH: Final = 1000
_SPARSE_RATIO: Final = 2
_SPARSE_SAFE: Final = 10
_SPECIAL: Final = re.compile(rb"[\x00-\x1f\"\\/\x7f]")
_SHORT: Final = {
    b'"': b'\\"', b"\\": b"\\\\", b"/": b"\\/",
    b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\f": b"\\f", b"\r": b"\\r",
}  # fmt: skip
_decode: Final = msgspec.json.Decoder().decode


def decode(text: Value = None) -> Value:
    """``cjson.decode``: every number becomes a double, an array and an object alike a table."""
    if type(text) is not bytes:
        raise LuaError(b"bad argument #1 to 'decode' (string expected, got " + values.type_name(text) + b")")
    try:
        return _from_python(_decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LuaError(b"Expected value but found invalid token: " + str(error).encode()) from error


def _from_python(value: Any) -> Value:
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return NULL
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    table = Table()
    if isinstance(value, list):
        table.array = [_from_python(each) for each in value]
    else:
        table.fields = {key.encode(): _from_python(each) for key, each in value.items()}
    return table


def encode(value: Value = None) -> bytes:
    """``cjson.encode``: an empty table is an object, a number has 14 digits."""
    out: list[bytes] = []
    _encode(value, out, 0)
    return b"".join(out)


def _encode(value: Value, out: list[bytes], depth: int) -> None:
    if type(value) is bytes:
        out.append(_quoted(value))
    elif type(value) is float:
        if value != value or value in {float("inf"), float("-inf")}:
            raise LuaError(b"Cannot serialise number: must not be NaN or Inf")
        out.append(values.text_of_number(value))
    elif value is None or value is NULL:
        out.append(b"null")
    elif type(value) is bool:
        out.append(b"true" if value else b"false")
    elif type(value) is Table:
        if depth >= MAX_DEPTH:
            raise LuaError(b"Cannot serialise, excessive depth (%d)" % (depth + 1))
        _encode_table(value, out, depth + 1)
    else:
        raise LuaError(b"Cannot serialise " + values.type_name(value) + b": type not supported")


def _encode_table(table: Table, out: list[bytes], depth: int) -> None:
    items = list(table.items())
    numbers = [key for key, _value in items]
    if items and all(type(key) is float and key >= 1 and key.is_integer() for key in numbers):
        size = int(max(numbers))
        if size > _SPARSE_SAFE and size > len(items) * _SPARSE_RATIO:
            raise LuaError(b"Cannot serialise table: excessively sparse array")
        out.append(b"[")
        for number in range(1, size + 1):
            if number > 1:
                out.append(b",")
            _encode(table.get(float(number)), out, depth)
        out.append(b"]")
        return
    out.append(b"{")
    for number, (key, value) in enumerate(items):
        if number:
            out.append(b",")
        name = values.to_text(key)
        if name is None:
            raise LuaError(b"Cannot serialise table: table key must be a number or string")
        out += (_quoted(name), b":")
        _encode(value, out, depth)
    out.append(b"}")


def _quoted(text: bytes) -> bytes:
    return b'"' + _SPECIAL.sub(lambda match: _SHORT.get(match[0]) or b"\\u%04x" % match[0][0], text) + b'"'
