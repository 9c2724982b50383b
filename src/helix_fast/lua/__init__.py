"""The loader of Lua scripts. A script is sent by its digest, or by its text to a server that does not have it yet.

The scripts of a product are in its own ``lua/``; files that several products include are here. A line
``-- include name`` stands for the file ``name.lua`` of the product, or else of this folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Final

from helix_fast import codec

Argument = bytes | str | int | float
_INCLUDE: Final = re.compile(rb"^-- include (\w+)$", re.MULTILINE)


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

    def frame(self, keys: Sequence[bytes], args: Sequence[Argument], *, by_text: bool = False) -> bytes:
        """The request that runs the script, as RESP: EVALSHA, or EVAL with the whole text."""
        head = (b"EVAL", self.body) if by_text else (b"EVALSHA", self.sha)
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
