"""The awaited writes that raised, and how a repeated one is known."""

from __future__ import annotations

from collections.abc import Iterable

from helix_fast.codec import Write

MAX_RAISED = 4096


class Raised:
    """The writes that raised and whose chunks may be stored: a repeated call takes over what became of them.

    A repeat is known by its chunk objects, whatever other tasks wrote meanwhile; by equal chunks only as the next thing
    that its writer does, since equal chunks (tokens!) come again and mean something else. A task that writes another
    chunk has given the first one up: the same object may come again from it, and is then meant as a new chunk.
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def add(self, writes: Iterable[Write]) -> None:
        """These raised."""
        known = {id(write) for write in self.writes}
        self.writes = [*self.writes, *(write for write in writes if id(write) not in known)][-MAX_RAISED:]

    def drop(self, writes: Iterable[Write]) -> None:
        """What became of these cannot be known any more."""
        over = {id(write) for write in writes}
        self.writes = [write for write in self.writes if id(write) not in over]

    def take(self, write: Write) -> Write | None:
        """The one that ``write`` repeats, if it repeats one."""
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
