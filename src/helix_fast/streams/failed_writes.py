"""The failed writes of one stream, and how a retry of one is recognised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from helix_fast.codec import Write

MAX_FAILED: Final = 4096


class FailedWrites:
    """Failed writes whose chunks may have been stored: a retry takes over their outcome.

    A retry is recognised by the identity of its chunk objects, at any time; or by equality, only if it is its writer's
    next write, because equal chunks (tokens!) are common. A task that writes something else gives up its claim: if the
    same object comes again from it, that is a new chunk.
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def add(self, writes: Iterable[Write]) -> None:
        """Remember writes that failed."""
        known = {id(write) for write in self.writes}
        self.writes = [*self.writes, *(write for write in writes if id(write) not in known)][-MAX_FAILED:]

    def drop(self, writes: Iterable[Write]) -> None:
        """Forget writes whose outcome cannot be known any more."""
        unknown = {id(write) for write in writes}
        self.writes = [write for write in self.writes if id(write) not in unknown]

    def take(self, write: Write) -> Write | None:
        """The failed write that ``write`` retries, if any; it is forgotten here."""
        found = next((before for before in self.writes if _identical(before.original, write.original)), None)
        if found is None:
            mine = [before for before in self.writes if before.owner is write.owner and before.fresh]
            found = next((before for before in mine if before.original == write.original), None)
            if found is None:
                for before in mine:
                    before.fresh = False
                self.writes = [before for before in self.writes if before.task is not write.task]
                return None
        self.writes.remove(found)
        return found


def _identical(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    return one is other
