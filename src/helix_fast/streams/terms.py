"""The terms of a stream: the number that the ids of its entries begin with, by sequence."""

from __future__ import annotations

import secrets
import string
from typing import Final, NamedTuple

_FIRST: Final = string.ascii_lowercase
_OTHERS: Final = string.digits + string.ascii_lowercase


def new_tag() -> str:
    """The tag of a term that may begin: a letter, then three letters or digits."""
    return secrets.choice(_FIRST) + "".join(secrets.choice(_OTHERS) for _ in range(3))


class TermKey(NamedTuple):
    """Number and tag of a term, as text: what no term of another branch of history shares."""

    number: str
    tag: str

    @property
    def text(self) -> str:
        """What a position's ``term`` has: empty where there is no tag, as nothing could be recognised by it."""
        return self.number + self.tag if self.tag else ""

    @property
    def comparable(self) -> TermKey:
        """Itself, or ``NO_TERM`` where there is no tag."""
        return self if self.tag else NO_TERM


NO_TERM: Final = TermKey("", "")


def term_key(text: str) -> TermKey:
    """The key that a position's ``term`` prints."""
    number = text[: next((at for at, char in enumerate(text) if char.isalpha()), len(text))]
    return TermKey(number, text[len(number) :])


class _Term(NamedTuple):
    number: int
    first: int
    before: int
    tag: str


SEALED: Final = "sealed,"
"""What the list of a sealed log begins with. Versions that cannot read such a log fail at this, with a typed error."""
KEPT_TERMS: Final = 128
"""So many terms are kept in the list at least."""


class Terms:
    """The terms that a stream's log knows, oldest first; see ``stream_terms.lua``.

    Args:
        text: the list, from the meta hash.
        epoch: the life of the stream that they belong to.
        token: the fencing token of the writer, None: it has none.

    Attributes:
        current: number of the last term. key: its number and tag.
        oldest, first: number of the first term of the list, and the sequence that it begins with.
        sealed: the log has sealed entries.
    """

    __slots__ = ("_terms", "current", "epoch", "first", "key", "oldest", "sealed", "token")

    def __init__(self, text: str, epoch: str, token: int | None = None) -> None:
        self.sealed: bool = text.startswith(SEALED)
        self._terms = [_parse(element) for element in text.removeprefix(SEALED).split(",")]
        last = self._terms[-1]
        self.current: int = last.number
        self.oldest: int = self._terms[0].number
        self.first: int = self._terms[0].first
        self.key: TermKey = TermKey(str(last.number), last.tag)
        self.epoch: str = epoch
        self.token: int | None = token

    def id_at(self, sequence: int) -> bytes | None:
        """The lowest possible id of an entry that begins at ``sequence``; None: unknown.

        Entries before the first term were written by plain XADD and have ids of any kind.
        """
        for term in reversed(self._terms):
            if term.first <= sequence:
                return b"%d-%d" % (term.number, sequence)
        return None

    def key_of(self, number: int) -> TermKey:
        """The key of the term of that number; ``NO_TERM`` where the list does not have it."""
        for term in reversed(self._terms):
            if term.number == number:
                return TermKey(str(number), term.tag)
        return NO_TERM

    def key_at(self, sequence: int) -> TermKey:
        """The key of the term in which chunk ``sequence`` is; ``NO_TERM`` where it is older than the list.

        A hole before a term belongs to it: who goes on behind a gap has left the branch on which the hole was filled.
        """
        for term in reversed(self._terms):
            if term.before < sequence:
                return TermKey(str(term.number), term.tag)
        return NO_TERM

    def parting(self, other: Terms, seen: int, last: int) -> int | None:
        """The last sequence that two branches of history share; None: they share no term of their lists.

        Args:
            other: the terms of the other branch, which ends at ``last``.
            seen: the last sequence known of this one.
        """
        for at in range(len(self._terms) - 1, -1, -1):
            key = TermKey(str(self._terms[at].number), self._terms[at].tag).comparable
            if key != NO_TERM and other.has(key):
                here = self._terms[at + 1].before if at + 1 < len(self._terms) else seen
                return min(here, other.end_of(key, last) or 0)
        return None

    def has(self, key: TermKey) -> bool:
        """Whether the list has a term."""
        return any(term.tag == key.tag and str(term.number) == key.number for term in self._terms)

    def part(self, one: bytes, other: bytes) -> bool:
        """Whether two ids are of different terms. Ids by plain XADD are of none."""
        number, another = one.partition(b"-")[0], other.partition(b"-")[0]
        return number != another and self.key_of(int(number or 0)) != self.key_of(int(another or 0))

    def end_of(self, key: TermKey, last: int) -> int | None:
        """Sequence of the last chunk that is stored of a term; ``last`` is that of the stream.

        None: nothing of the term is stored, as it is of a branch of history that was lost. A term that is older than
        all of a full list may have been pruned: it counts as stored.
        """
        for at, term in enumerate(self._terms):
            if term.tag == key.tag and str(term.number) == key.number:
                return self._terms[at + 1].before if at + 1 < len(self._terms) else last
        pruned = len(self._terms) >= KEPT_TERMS and int(key.number) < self._terms[0].number
        return last if pruned else None


def _parse(element: str) -> _Term:
    number, first, *rest = element.split(":")
    before, tag = rest or (int(first) - 1, "")  # written before terms had tags
    return _Term(int(number), int(first), int(before), tag)
