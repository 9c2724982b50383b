"""Checks of arguments, in plain Python: the range of integers, and bytes that are bytes."""

from __future__ import annotations

U64_MAX = 18446744073709551615


def u64(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not 0 <= value <= U64_MAX:
        raise OverflowError(f"{name} is outside 0..{U64_MAX}")
    return int(value)


def require_bytes(value: object, name: str) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return value
