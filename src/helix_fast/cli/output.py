"""What every command prints: JSON and text that no terminal obeys and every encoding takes, and counts in words."""

from __future__ import annotations

import codecs
import io
import sys
from typing import Any, Final

import msgspec

_PLAIN: Final = {"→": "->", "…": "...", "–": "-", "—": "-", "×": "x"}


def print_json(value: Any) -> None:
    """Print a value as one line of JSON.

    Characters that a terminal would obey, or that the output cannot encode, are escaped, as JSON may escape any.
    """
    text = msgspec.json.encode(value).decode()
    if not (text.isascii() and text.isprintable()):
        encoding = sys.stdout.encoding or "utf-8"
        text = "".join(each if each.isprintable() and _fits(each, encoding) else _escaped(each) for each in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def printable(text: str) -> str:
    """The text without control characters but tabs and line ends: model output must not control a terminal."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def print_what_can_be_encoded() -> None:
    """Have output in an encoding without our arrows, or without a model's words, printed in what it does have."""
    codecs.register_error("helix-fast", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="helix-fast")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in found), error.end


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 stream", "2 streams"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
