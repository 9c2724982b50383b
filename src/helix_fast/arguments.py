"""Arguments: checks before a byte is sent, and values in and out of JSON. A check returns the value or raises."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

import msgspec

from .errors import InvalidArgumentError

# Lua and JavaScript hold integers exactly up to here; sequences and times stay below, tokens are moved as text.
MAX_EXACT = 2**53 - 1
MAX_TOKEN = 2**63 - 1
_ESCAPE: Final = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_REPLACEMENT: Final = rb"\ufffd"
_SHOWN: Final = 200  # characters of a value in a message


def finite(value: float) -> bool:
    """Whether a number is a finite float, or an int that can be one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def integer(value: object, what: str, low: int = 0, high: int = MAX_EXACT) -> int:
    """An int (no bool) from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{what} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidArgumentError(f"{what} must be from {low} to {high}, not {shown(value)}")
    return value


def token(value: object) -> bytes:
    """A fencing token in the form that scripts take: decimal text, empty for None."""
    return b"" if value is None else b"%d" % integer(value, "fencing_token", 0, MAX_TOKEN)


def ttl_seconds(value: object, what: str = "ttl") -> int:
    """A TTL in whole seconds; None and 0 mean: keep until deleted."""
    return 0 if value is None else integer(value, what, 0, 10 * 365 * 86_400)


def milliseconds(value: object, what: str, low: int = 0) -> float:
    """A number of milliseconds, at least ``low``, as seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not finite(value):
        raise InvalidArgumentError(f"{what} must be a number of milliseconds, not {shown(value)}")
    if value < low:
        raise InvalidArgumentError(f"{what} must be at least {low} ms, not {shown(value)}")
    return value / 1000


def seconds(value: object, what: str, low: float = 0.0) -> float:
    """A number of seconds, at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not finite(value):
        raise InvalidArgumentError(f"{what} must be a number of seconds, not {shown(value)}")
    if value < low:
        raise InvalidArgumentError(f"{what} must be at least {low:g} s, not {value:g}")
    return float(value)


def text(value: object, what: str) -> str:
    """A str that UTF-8 can encode; one of a subclass as a plain str."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} is no Unicode text: {error}") from error
    return str.__str__(value)


def shown(value: object) -> str:
    """A value in a message: its repr, shortened; its type where that is not to be had (too deep)."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"  # Python refuses to print one of thousands of digits
    try:
        found = repr(value)
    except Exception:  # noqa: BLE001  whatever a foreign object raises
        return f"a value of type {type(value).__name__}"
    return found if len(found) <= _SHOWN else f"{found[:_SHOWN]}…"


def _plain(value: Any) -> object:
    """What JSON has for an object of another library, as the libraries of this field write it."""
    if isinstance(value, str):
        return str.__str__(value)
    kind = type(value)
    found: object
    if callable(getattr(kind, "model_dump", None)):  # pydantic
        try:
            found = value.model_dump(mode="json")
        except Exception as error:
            raise TypeError(f"model_dump() of {kind.__name__} failed: {error}") from error
    elif hasattr(kind, "dtype") and callable(getattr(kind, "item", None)):  # scalars of numpy and the like
        found = value.item() if getattr(value, "shape", ()) == () else value
        if kind.__name__ == "datetime64":  # an int of nanoseconds otherwise
            found = str(value)
        elif kind.__name__ == "timedelta64" and isinstance(found, int):
            raise TypeError("timedelta64 of this unit has no form in JSON")
        elif type(found) is kind:
            raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")
    elif isinstance(value, Mapping):
        found = dict(value)
    elif isinstance(value, (float, int)):
        found = float.__float__(value) if isinstance(value, float) else int.__int__(value)
    elif isinstance(value, PurePath):
        found = str(value)
    else:
        raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")
    from . import codec

    codec.check_finite(found)
    return found


to_json: Final = msgspec.json.Encoder(enc_hook=_plain).encode
"""What every store encodes with: also models of pydantic, scalars of numpy, mappings, paths, subclasses of str."""


def reason(value: object, error: BaseException) -> str:
    """Why a value cannot be written as JSON, with the path to the part that cannot."""
    path, part = "", value
    while isinstance(part, (dict, list, tuple)) and len(path) < _SHOWN:
        found = _faulty(part)
        if found is None:
            break
        step, part, error = found
        path += step
    text = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return f"{path.removeprefix('.')}: {text}" if path else text


def _faulty(value: Any) -> tuple[str, Any, BaseException] | None:
    """The first member or item that cannot be written, as path, value and error."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        try:
            to_json(part)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:  # noqa: PERF203  after a failure
            return f".{key}" if isinstance(value, dict) else f"[{key}]", part, error
    return None


def json_value(value: object, what: str) -> bytes:
    """A value as JSON."""
    from . import codec

    try:
        codec.check_finite(value)
        return to_json(value)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidArgumentError(f"{what} cannot be written as JSON: {reason(value, error)}") from error


def without_lone_surrogates(data: bytes) -> bytes | None:
    r"""JSON in which lone surrogates in escapes are U+FFFD; None if there are none.

    JavaScript writes them when it has cut a text in half. They are legal JSON, but no Unicode text: ``"\ud83d"``.
    """
    if b"\\u" not in data:
        return None
    repaired = _ESCAPE.sub(_whole, data)
    return None if repaired == data else repaired


def _whole(escape: re.Match[bytes]) -> bytes:
    pair, lone = escape[1], escape[2]
    return _REPLACEMENT if lone and not pair else escape[0]


@functools.cache
def _snake_names(struct: type[msgspec.Struct]) -> dict[str, str]:
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    return {python: wire for python, wire in names if python != wire and not wire.startswith("~")}


def snake_case(struct: type[msgspec.Struct], fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first field that goes by its name in Python, which is none on the wire, and its name there.

    The field would be kept as one that nobody knows, and mean nothing. Beside the name on the wire it is data.
    """
    names = _snake_names(struct)
    if names.keys().isdisjoint(fields):
        return None
    return next(((name, wire) for name, wire in names.items() if name in fields and wire not in fields), None)
