"""The terms of a stream: the number that the ids of its entries begin with, by sequence."""

from __future__ import annotations


class Terms:
    """Term and first sequence of each term that still has entries, oldest first.

    Args:
        text: ``"term:first,term:first"``, from the meta hash.
        epoch: the life of the stream that they belong to.
        token: the fencing token of the writer, None: it has none.

    Attributes:
        current: number of the last term.
    """

    __slots__ = ("_pairs", "current", "epoch", "token")

    def __init__(self, text: str, epoch: str, token: int | None = None) -> None:
        pairs = [pair.split(":") for pair in text.split(",")]
        self._pairs = [(int(term), int(first)) for term, first in pairs]
        self.current: int = self._pairs[-1][0]
        self.epoch: str = epoch
        self.token: int | None = token

    def id_at(self, sequence: int) -> bytes | None:
        """The lowest possible id of an entry that begins at ``sequence``; None: unknown.

        Entries before the first term were written by plain XADD and have ids of any kind.
        """
        for term, first in reversed(self._pairs):
            if first <= sequence:
                return b"%d-%d" % (term, sequence)
        return None
