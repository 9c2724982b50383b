"""Material for the codec's reading of replies: values as a server writes them, whole, in pieces and damaged."""

from __future__ import annotations

from typing import Any

from tests.fuzz.material import Material


def as_reply(value: Any) -> bytes:
    """A value as RESP2; what has no form there as nil."""
    if isinstance(value, (bytes, bytearray)):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(as_reply, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    return b"+%b\r\n" % value.encode() if isinstance(value, str) else b"$-1\r\n"


def reply_of(material: Material, value: Any) -> Any:
    """A value as a server writes it, rarely damaged."""
    written = as_reply(value)
    if material.rarely():
        at = material.below(len(written))
        written = written[:at] + bytes([material.byte()]) + written[at + material.below(2) :]
    return None if material.rarely() else written


def piece_of(material: Material) -> Any:
    """What a connection may receive at once: parts of replies."""
    if material.rarely():
        return material.pick([None, "text", b"", b"\n", b"x"])
    values: list[Any] = [[b"a", [5, None]], b"text", 5, None, [], "OK", [[], b"\r\n"]]
    written = reply_of(material, material.pick(values)) or b""
    at = material.below(len(written) + 1)
    return written if material.below(2) else material.pick([written[:at], written[at:]])
