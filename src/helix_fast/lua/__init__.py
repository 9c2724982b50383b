"""The loader of Lua scripts. A script is sent by its digest, or by its text to a server that does not have it yet.

The scripts of a product are in its own ``lua/``; files that several products include are here. A line
``-- include name`` stands for the file ``name.lua`` of the product, or else of this folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Final, overload

from helix_fast import codec
from helix_fast.slices import Slices

Argument = bytes | str | int | float
LONG: Final = 500
"""Arguments from which on they are worth framing in slices."""
_INCLUDE: Final = re.compile(rb"^-- include (\w+)$", re.MULTILINE)


class FramedArguments:
    """Many arguments of a script, framed in pieces while they are gathered: so it can be done in slices.

    What they were made of is freed with each piece, not all at the end.

    Attributes:
        first: arguments that stand before those that are added.
    """

    __slots__ = ("_count", "_open", "_pieces", "first")

    def __init__(self) -> None:
        self.first: Sequence[Argument] = ()
        self._count = 0
        self._open: list[Argument] = []
        self._pieces: list[bytes] = []

    @classmethod
    async def of(cls, first: Sequence[Argument], args: Sequence[Argument]) -> FramedArguments:
        """``first``, and behind them ``args``, framed in slices."""
        framed, slices = cls(), Slices()
        framed.first = first
        for start in range(0, len(args), LONG):
            framed.add(*args[start : start + LONG])
            if slices.over:
                await slices.next()
        return framed

    def add(self, *args: Argument) -> None:
        """Add arguments behind the others."""
        self._open += args
        if len(self._open) >= LONG:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._pieces.append(_without_count(codec.frame_command(self._open)))
            self._count += len(self._open)
            self._open = []

    def behind(self, *head: Argument) -> tuple[bytes, ...]:
        """The request that begins with ``head``, in pieces."""
        self._close()
        head = (*head, *self.first)
        count = b"*%d\r\n" % (len(head) + self._count)
        return (count + _without_count(codec.frame_command(head)), *self._pieces)


def _without_count(frame: bytes) -> bytes:
    return frame[frame.index(b"\n") + 1 :]


class Script:
    """One script: its text and the digest that identifies it on a server. The file is read on first use."""

    def __init__(self, product: str, name: str) -> None:
        self.product = product
        self.name = name

    @cached_property
    def body(self) -> bytes:
        """The text, with the included files."""
        return _text(self.product, self.name)

    @cached_property
    def sha(self) -> bytes:
        """The digest, in hexadecimal."""
        return hashlib.sha1(self.body, usedforsecurity=False).hexdigest().encode()

    @overload
    def frame(self, keys: Sequence[bytes], args: Sequence[Argument], *, by_text: bool = False) -> bytes: ...

    @overload
    def frame(
        self, keys: Sequence[bytes], args: Sequence[Argument] | FramedArguments, *, by_text: bool = False
    ) -> bytes | tuple[bytes, ...]: ...

    def frame(
        self, keys: Sequence[bytes], args: Sequence[Argument] | FramedArguments, *, by_text: bool = False
    ) -> bytes | tuple[bytes, ...]:
        """The request that runs the script, as RESP: EVALSHA, or EVAL with the whole text."""
        head = (b"EVAL", self.body) if by_text else (b"EVALSHA", self.sha)
        if isinstance(args, FramedArguments):
            return args.behind(*head, len(keys), *keys)
        return codec.frame_command([*head, len(keys), *keys, *args])


def _text(product: str, name: str) -> bytes:
    from importlib import resources

    package = resources.files("helix_fast")
    own, shared = package / product / "lua" / f"{name}.lua", package / "lua" / f"{name}.lua"
    body = (own if own.is_file() else shared).read_bytes()
    return _INCLUDE.sub(lambda found: _text(product, found[1].decode()), body)


@cache
def script(product: str, name: str) -> Script:
    """The script ``<product>/lua/<name>.lua``."""
    return Script(product, name)
