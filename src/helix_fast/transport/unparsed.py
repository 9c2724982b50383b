"""Unparsed replies: pages that the codec reads as the server wrote them, without an object for each of their strings.

A lane parses its replies by hiredis, which keeps no bytes. So from the moment when an unparsed reply is due, what
arrives is cut into replies first: that one is handed out as bytes, the others go through hiredis one by one. Where
hiredis is in the middle of a reply just then, it goes on until it has ended one; a reply that it has parsed by then is
handed out as it is.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from helix_fast import codec


class Unparsed(NamedTuple):
    """An array as the server wrote it."""

    reply: bytes


class UnparsedSlot(partial[None]):
    """An ``on_reply`` that takes an Unparsed; what it gets may be parsed all the same, or an error."""


class Cutting:
    """The cutting of one connection's replies.

    Attributes:
        due: unparsed replies that have not come yet.
        begun: what arrives goes to the cutter, and not to hiredis.
    """

    __slots__ = ("begun", "cutter", "due")

    def __init__(self) -> None:
        self.due: int = 0
        self.begun: bool = False
        self.cutter: codec.ReplyCutter = codec.ReplyCutter()

    def expect(self, *, idle: bool) -> None:
        """One more is due. ``idle``: no other reply is, so hiredis is not in the middle of one."""
        self.begun = self.begun or (idle and not self.due)
        self.due += 1

    def take(self) -> bytes:
        """One that was due has come. Returns what must go to hiredis now, if it was the last."""
        self.due -= 1
        if self.due or not self.begun:
            return b""
        self.begun = False
        return self.cutter.rest()

    def reset(self) -> None:
        """The connection is gone, and all that was due with it."""
        self.due, self.begun = 0, False
        self.cutter.rest()
