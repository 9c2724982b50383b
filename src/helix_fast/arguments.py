"""Checks of arguments, before a byte is sent. Each returns the checked value or raises InvalidArgumentError."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from .errors import InvalidArgumentError

# Lua and JavaScript hold integers exactly up to here; sequences and times stay below, tokens are moved as text.
MAX_EXACT = 2**53 - 1
MAX_TOKEN = 2**63 - 1


def finite(value: float) -> bool:
    """Whether a number is a finite float, or an int that can be one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: object) -> str:
    """A refused value for a message; Python refuses to print an int of thousands of digits."""
    return (
        f"an int of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 128 else repr(value)
    )


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


def _plain(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


to_json: Final = msgspec.json.Encoder(enc_hook=_plain).encode
"""What every store encodes with. A str of a subclass (numpy's, say) is a str."""


def json_value(value: object, what: str) -> bytes:
    """A value as JSON."""
    from . import codec

    try:
        codec.check_finite(value)
        return to_json(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError(f"{what} cannot be written as JSON: {error}") from error
