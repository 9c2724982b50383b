"""The Lua scripts of ``lua/``: loaded once, sent by digest, and by their text where a server does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property

from helix_fast import codec

Argument = bytes | str | int | float


class Script:
    """One script: its text and the digest that names it on a server. Read when first used, not when imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def body(self) -> bytes:
        """The text."""
        from importlib import resources

        return (resources.files("helix_fast") / "lua" / f"{self.name}.lua").read_bytes()

    @cached_property
    def sha(self) -> bytes:
        """The digest, in hexadecimal."""
        return hashlib.sha1(self.body, usedforsecurity=False).hexdigest().encode()

    def frame(self, keys: Sequence[bytes], args: Sequence[Argument], *, by_text: bool = False) -> bytes:
        """The request that runs it, as RESP: EVALSHA, or EVAL with the whole text."""
        head = (b"EVAL", self.body) if by_text else (b"EVALSHA", self.sha)
        return codec.frame_command([*head, len(keys), *keys, *args])


@cache
def script(name: str) -> Script:
    """The script ``lua/<name>.lua``."""
    return Script(name)
