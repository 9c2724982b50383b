"""The sequences that this process had acknowledged, by term: what is looked for after a reconnection. No I/O."""

from __future__ import annotations

from typing import Final

from .terms import TermKey, Terms

MAX_RANGES: Final = 1024


class Acknowledged:
    """Ranges of acknowledged sequences of one stream, merged, oldest first.

    Where other writers' chunks lie between ours for very long, the oldest ranges are joined over them: if such a range
    is lost, so are the chunks of the others, and their loss is named here too.
    """

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: list[tuple[TermKey, int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, term: TermKey, first: int, last: int) -> None:
        """Chunks ``first`` to ``last`` of a term are stored; none where the one is above the other."""
        if first > last:
            return
        ranges = self._ranges
        if ranges and ranges[-1][0] == term and ranges[-1][1] <= first <= ranges[-1][2] + 1:
            ranges[-1] = (term, ranges[-1][1], max(last, ranges[-1][2]))
            return
        ranges.append((term, first, last))
        if len(ranges) > MAX_RANGES:
            self._join_oldest()

    def _join_oldest(self) -> None:
        joined: list[tuple[TermKey, int, int]] = []
        for term, first, last in self._ranges[: MAX_RANGES // 2]:
            if joined and joined[-1][0] == term:
                joined[-1] = (term, min(first, joined[-1][1]), max(last, joined[-1][2]))
            else:
                joined.append((term, first, last))
        self._ranges[: MAX_RANGES // 2] = joined

    def merge(self, other: Acknowledged) -> None:
        """Take over the ranges of an earlier appender of the stream."""
        self._ranges[:0] = other._ranges
        other._ranges = []

    def take_lost(self, terms: Terms, last: int) -> list[tuple[int, int]]:
        """The ranges that the log, which ends at ``last``, does not have any more; they are forgotten here."""
        kept: list[tuple[TermKey, int, int]] = []
        lost: list[tuple[int, int]] = []
        for term, first, final in self._ranges:
            end = terms.end_of(term, last)
            end = 0 if end is None else end
            if first <= min(end, final):
                kept.append((term, first, min(end, final)))
            if final > end:
                lost.append((max(first, end + 1), final))
        self._ranges = kept
        return _merged(lost)

    def take_all(self) -> list[tuple[int, int]]:
        """All ranges: the stream itself is lost."""
        lost = [(first, last) for _term, first, last in self._ranges]
        self._ranges = []
        return _merged(lost)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
