"""Lua's patterns as Python's regular expressions: both backtrack, so they find the same."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .values import LuaError

_CLASSES: Final = {
    "a": "A-Za-z", "c": r"\x00-\x1f\x7f", "d": "0-9", "l": "a-z", "p": r"!-/:-@\[-`{-~", "s": r"\t-\r ", "u": "A-Z",
    "w": "A-Za-z0-9", "x": "A-Fa-f0-9", "z": r"\x00",
}  # fmt: skip
_QUANTIFIERS: Final = {"*": "*", "+": "+", "-": "*?", "?": "?"}


@lru_cache(maxsize=256)
def compiled(pattern: bytes) -> tuple[re.Pattern[bytes], bool, tuple[bool, ...]]:
    """The expression, whether it is tied to where the search begins, and which captures are positions.

    Raises:
        LuaError: a pattern that is malformed, or uses ``%b`` or ``%f``.
    """
    text = pattern.decode("latin-1")
    anchored = text.startswith("^")
    at = 1 if anchored else 0
    out: list[str] = []
    positions: list[bool] = []
    opened: list[int] = []
    while at < len(text):
        sign = text[at]
        if sign == "(":
            positions.append(text[at + 1 : at + 2] == ")")
            opened.append(len(positions))
            out.append("(")
            at += 1
            continue
        if sign == ")":
            if not opened:
                raise LuaError(b"invalid pattern capture")
            opened.pop()
            out.append(")")
            at += 1
            continue
        if sign == "$" and at == len(text) - 1:
            out.append(r"\Z")
            break
        single, at = _single(text, at)
        if at < len(text) and text[at] in _QUANTIFIERS:
            single += _QUANTIFIERS[text[at]]
            at += 1
        out.append(single)
    if opened:
        raise LuaError(b"unfinished capture")
    return re.compile("".join(out).encode("latin-1"), re.DOTALL), anchored, tuple(positions)


def _single(text: str, at: int) -> tuple[str, int]:
    """What matches one character, and where the pattern goes on."""
    sign = text[at]
    if sign == ".":
        return ".", at + 1
    if sign == "%":
        if at + 1 >= len(text):
            raise LuaError(b"malformed pattern (ends with '%')")
        return _class(text[at + 1], alone=True), at + 2
    if sign == "[":
        return _set(text, at + 1)
    return re.escape(sign), at + 1


def _class(letter: str, *, alone: bool) -> str:
    if letter in "bf" or letter in "123456789":
        raise LuaError(b"patterns with %b, %f or %1 are not offered here")
    inside = _CLASSES.get(letter.lower()) if letter.isalpha() else None
    if inside is None:
        return re.escape(letter)
    if not alone and letter.isupper():
        raise LuaError(b"complements within a set are not offered here")
    return inside if not alone else f"[{'^' if letter.isupper() else ''}{inside}]"


def _set(text: str, at: int) -> tuple[str, int]:
    out = ["["]
    if text[at : at + 1] == "^":
        out.append("^")
        at += 1
    first = True
    while True:
        if at >= len(text):
            raise LuaError(b"malformed pattern (missing ']')")
        sign = text[at]
        if sign == "]" and not first:
            return "".join(out) + "]", at + 1
        first = False
        if sign == "%":
            out.append(_class(text[at + 1 : at + 2], alone=False))
            at += 2
        elif text[at + 1 : at + 2] == "-" and text[at + 2 : at + 3] not in {"", "]"}:
            out.append(f"{re.escape(sign)}-{re.escape(text[at + 2])}")
            at += 3
        else:
            out.append(re.escape(sign))
            at += 1


def captures(match: re.Match[bytes], positions: tuple[bool, ...], *, whole: bool = True) -> list[float | bytes | None]:
    """What was captured; the whole match where the pattern captures nothing and ``whole`` is set."""
    if not positions:
        return [match[0]] if whole else []
    return [
        float(match.start(number) + 1) if position else match[number] for number, position in enumerate(positions, 1)
    ]
