"""The ``string`` library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from . import values
from .patterns import captures, compiled
from .values import LuaError, Table, Value

_DIRECTIVE: Final = re.compile(rb"%([-+ #0]*)(\d{0,2})((?:\.\d{0,2})?)(.)", re.DOTALL)
_MAGIC: Final = re.compile(rb"[\^$*+?.(\[%-]")


def string_library() -> Table:
    """A table of all of them."""
    return Table(
        fields={
            b"byte": values.fitted(_byte),
            b"char": lambda *codes: (bytes(int(values.arithmetic(code)) for code in codes),),
            b"find": values.fitted(_find),
            b"format": lambda form, *arguments: (format_text(text(form), arguments),),
            b"gmatch": values.fitted(_gmatch),
            b"gsub": values.fitted(_gsub),
            b"len": values.fitted(lambda subject: (float(len(text(subject))),)),
            b"lower": values.fitted(lambda subject: (text(subject).lower(),)),
            b"match": values.fitted(_match),
            b"rep": values.fitted(lambda subject, count: (text(subject) * max(0, int(values.arithmetic(count))),)),
            b"reverse": values.fitted(lambda subject: (text(subject)[::-1],)),
            b"sub": values.fitted(lambda subject, start, stop=-1.0: (_sub(subject, start, stop),)),
            b"upper": values.fitted(lambda subject: (text(subject).upper(),)),
        }
    )


def text(value: Value) -> bytes:
    """An argument that must be a string or a number."""
    found = values.to_text(value)
    if found is None:
        raise LuaError(b"bad argument (string expected, got " + values.type_name(value) + b")")
    return found


def _start(place: Value, size: int) -> int:
    """Where a search from ``place`` begins, from 0; at the latest behind the last character."""
    number = int(values.arithmetic(place))
    if number < 0:
        number = max(size + number + 1, 1)
    return min(max(number, 1) - 1, size)


def _sub(subject: Value, start: Value, stop: Value) -> bytes:
    whole = text(subject)
    last = int(values.arithmetic(stop))
    if last < 0:
        last = len(whole) + last + 1
    return whole[_start(start, len(whole)) : max(last, 0)]


def _byte(subject: Value, start: Value = 1.0, stop: Value = None) -> Sequence[Value]:
    return [float(byte) for byte in _sub(subject, start, start if stop is None else stop)]


def _search(subject: bytes, pattern: bytes, start: int) -> tuple[re.Match[bytes], tuple[bool, ...]] | None:
    expression, anchored, positions = compiled(pattern)
    match = expression.match(subject, start) if anchored else expression.search(subject, start)
    return None if match is None else (match, positions)


def _find(subject: Value, pattern: Value, start: Value = 1.0, plain: Value = None) -> Sequence[Value]:
    whole, wanted = text(subject), text(pattern)
    begin = _start(start, len(whole))
    if (plain is not None and plain is not False) or not _MAGIC.search(wanted):
        at = whole.find(wanted, begin)
        return (None,) if at < 0 else (float(at + 1), float(at + len(wanted)))
    found = _search(whole, wanted, begin)
    if found is None:
        return (None,)
    match, positions = found
    return (float(match.start() + 1), float(match.end()), *captures(match, positions, whole=False))


def _match(subject: Value, pattern: Value, start: Value = 1.0) -> Sequence[Value]:
    whole = text(subject)
    found = _search(whole, text(pattern), _start(start, len(whole)))
    return (None,) if found is None else captures(*found)


def _gmatch(subject: Value, pattern: Value) -> Sequence[Value]:
    whole, wanted = text(subject), text(pattern)
    at = 0

    def step(*_state: Value) -> Sequence[Value]:
        nonlocal at
        found = _search(whole, wanted, at) if at <= len(whole) and not wanted.startswith(b"^") else None
        if found is None:
            return (None,)
        match = found[0]
        at = match.end() + (1 if match.end() == match.start() else 0)
        return captures(*found)

    return (step, None, None)


def _gsub(subject: Value, pattern: Value, replacement: Value, limit: Value = None) -> Sequence[Value]:
    whole, wanted = text(subject), text(pattern)
    most = None if limit is None else int(values.arithmetic(limit))
    out: list[bytes] = []
    at = count = 0
    while most is None or count < most:
        found = _search(whole, wanted, at)
        if found is None:
            break
        match, positions = found
        out += (whole[at : match.start()], _replaced(match, positions, replacement))
        count += 1
        at = match.end()
        if match.end() == match.start():
            out.append(whole[at : at + 1])
            at += 1
        if at > len(whole) or wanted.startswith(b"^"):
            break
    out.append(whole[at:])
    return (b"".join(out), float(count))


def _replaced(match: re.Match[bytes], positions: tuple[bool, ...], replacement: Value) -> bytes:
    groups = captures(match, positions)
    if type(replacement) is Table:
        value = replacement.get(groups[0])
    elif callable(replacement):
        given = replacement(*groups)
        value = given[0] if given else None
    else:
        return re.sub(
            rb"%(.)",
            lambda sign: (
                match[0] if sign[1] == b"0" else text(groups[int(sign[1]) - 1]) if sign[1].isdigit() else sign[1]
            ),
            text(replacement),
            flags=re.DOTALL,
        )
    return match[0] if value is None or value is False else text(value)


def format_text(form: bytes, arguments: Sequence[Value]) -> bytes:
    """``string.format``."""
    left = list(arguments)

    def fill(match: re.Match[bytes]) -> bytes:
        flags, width, precision, kind = match.groups()
        if kind == b"%":
            return b"%"
        if not left:
            raise LuaError(b"bad argument to 'format' (no value)")
        value = left.pop(0)
        if kind == b"s":
            return bytes(b"%" + flags + width + precision + b"s") % text(value)
        if kind not in b"cdieEfgGoxX":
            raise LuaError(b"invalid option '%" + kind + b"' to 'format'")
        number = values.arithmetic(value)
        if kind == b"c":
            return bytes((int(number),))
        if kind in b"di":
            return bytes(b"%" + flags + width + precision + b"d") % int(number)
        if kind in b"oxX":
            return bytes(b"%" + flags + width + precision + kind) % int(number)
        return bytes(b"%" + flags + width + precision + kind) % number

    return _DIRECTIVE.sub(fill, form)
