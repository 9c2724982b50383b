"""The terms of a stream: which number leads the ids of which sequences."""

from __future__ import annotations


class Terms:
    """(term, first sequence) of each term that still has entries, oldest first; the last one is current.

    Args:
        text: ``"term:first,term:first"``, as the meta hash has it.
        epoch: the life of the stream that they belong to.
        token: the fencing token with which the writer opened, if it had one.
    """

    __slots__ = ("_pairs", "epoch", "number", "token")

    def __init__(self, text: str, epoch: str, token: int | None = None) -> None:
        pairs = [pair.split(":") for pair in text.split(",")]
        self._pairs = [(int(term), int(first)) for term, first in pairs]
        self.number = self._pairs[-1][0]
        self.epoch = epoch
        self.token = token

    def id_at(self, sequence: int) -> bytes | None:
        """The lowest id that an entry which begins at ``sequence`` can have; None where that is not known.

        Entries before the first term were written by plain XADD and have ids of any kind.
        """
        for term, first in reversed(self._pairs):
            if first <= sequence:
                return b"%d-%d" % (term, sequence)
        return None
