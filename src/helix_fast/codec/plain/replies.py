"""Replies as the server wrote them (RESP2), in plain Python."""

from __future__ import annotations

import re

from .arguments import u64
from .decode import merge_entries

MOST_VALUES = 1 << 40
_HEAD = re.compile(rb"([*$])(0|[1-9][0-9]{0,11})\r\n")


class ReplyCutter:
    """Cuts what a server sends into replies."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # where the values that are not seen yet begin
        self._left = 1  # so many of them the reply has still

    @property
    def size(self) -> int:
        """Bytes fed that are not part of a reply yet."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        self._data += data

    def next(self) -> bytes | None:
        """The next whole reply, or None."""
        data = self._data
        while self._left:
            if self._at == len(data):
                return None
            end = data.find(b"\n", self._at)
            mark = data[self._at : self._at + 1]
            if mark not in b"$*+-:":
                raise ValueError(f"no reply begins with byte {mark[0]}")
            if end < 0:
                return None
            end += 1
            if mark in b"$*" and data[self._at + 1 : end] != b"-1\r\n":
                head = _HEAD.match(data, self._at)
                if head is None or head.end() != end:
                    raise ValueError("no reply: a length is malformed")
                number = int(head[2])
                if mark == b"*":
                    self._left += number
                    if self._left > MOST_VALUES:
                        raise ValueError("no reply: it has too many values")
                else:
                    if len(data) < end + number + 2:
                        return None
                    end += number + 2
                    if data[end - 2 : end] != b"\r\n":
                        raise ValueError("no reply: a string does not end where it should")
            self._left -= 1
            self._at = end
        reply = bytes(data[: self._at])
        del data[: self._at]
        self._at, self._left = 0, 1
        return reply

    def rest(self) -> bytes:
        """Take what was fed and is not part of a whole reply."""
        rest = bytes(self._data)
        self._data.clear()
        self._at, self._left = 0, 1
        return rest


def _head(data: bytes, at: int, mark: bytes) -> tuple[int, int] | None:
    """The number behind ``mark``, and where its line ends."""
    found = _HEAD.match(data, at)
    return None if found is None or found[1] != mark else (int(found[2]), found.end())


def _string(data: bytes, at: int) -> tuple[bytes, int] | None:
    """A bulk string, and where it ends."""
    found = _head(data, at, b"$")
    if found is None:
        return None
    length, start = found
    if data[start + length : start + length + 2] != b"\r\n":
        return None
    return data[start : start + length], start + length + 2


def _strings(data: bytes, at: int, count: int) -> tuple[list[bytes], int] | None:
    """So many bulk strings, and where they end."""
    strings = []
    for _ in range(count):
        found = _string(data, at)
        if found is None:
            return None
        text, at = found
        strings.append(text)
    return strings, at


def read_message(reply: bytes) -> tuple[bytes, bytes] | None:
    """Channel and payload of a message; None: the reply is none."""
    if not reply.startswith((b"*3\r\n$7\r\nmessage\r\n", b"*3\r\n$8\r\nsmessage\r\n")):
        return None
    found = _strings(reply, 4, 3)
    return None if found is None else (found[0][1], found[0][2])


def merge_page(reply: bytes, last: int) -> tuple[int, int, int, bytes, bytes, bytes]:
    """As ``merge_entries``, of a reply to XRANGE that was not parsed."""
    if not isinstance(reply, bytes):
        raise TypeError(f"reply must be bytes, not {type(reply).__name__}")
    top = u64(last, "last")
    head = _head(reply, 0, b"*")
    if head is None:
        raise ValueError("no reply to XRANGE")
    count, at = head
    entries: list[list[object]] = []
    for _ in range(count):
        pair = _head(reply, at, b"*")
        name = None if pair is None or pair[0] != 2 else _string(reply, pair[1])
        fields = None if name is None else _head(reply, name[1], b"*")
        found = None if fields is None or fields[0] != 6 else _strings(reply, fields[1], 6)
        if name is None or found is None:
            break
        entries.append([name[0], found[0]])
        at = found[1]
    taken, top, body = merge_entries(entries, top)
    first, newest = (entries[0][0], entries[taken - 1][0]) if taken else (b"", b"")
    assert isinstance(first, bytes)
    assert isinstance(newest, bytes)
    return count, taken, top, first, newest, body


class StringArray:
    """The strings of a reply that is an array of strings."""

    def __init__(self, reply: bytes) -> None:
        if not isinstance(reply, bytes):
            raise TypeError(f"reply must be bytes, not {type(reply).__name__}")
        head = _head(reply, 0, b"*")
        found = None if head is None else _strings(reply, head[1], head[0])
        if found is None or found[1] != len(reply):
            raise ValueError("no array of strings")
        self._strings = found[0]
        self.first: bytes = self._strings[0] if self._strings else b""
        self.last: bytes = self._strings[-1] if self._strings else b""

    def __len__(self) -> int:
        return len(self._strings)

    def strings(self, first: int = 0) -> list[bytes]:
        """The strings from an index on, as objects."""
        return self._strings[max(0, first) :]
