"""What a checker has found: counts of what is allowed somewhere, and examples of what is allowed nowhere."""

from __future__ import annotations

from collections import Counter, defaultdict

EXAMPLES = 5

BROKEN = (
    "lost in silence",
    "lost where nothing may be",
    "reported, not lost",
    "stored twice",
    "out of order",
    "two contents",
    "read out of order",
    "read twice",
    "missed by a reader",
    "hung",
    "crashed",
    "locked twice",
    "token went back",
    "stale write",
    "entry twice",
    "sum is wrong",
    "message lost in silence",
    "message twice",
    "version went back",
    "malformed session",
    "not sealed",
    "run is not whole",
)
"""What no server may do to a caller; a topology may allow some of it by name."""


class Findings:
    """``counts``: by name. ``examples``: of each broken promise, the first few. ``longest``: call, in seconds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.longest = 0.0
        self.examples: defaultdict[str, list[str]] = defaultdict(list)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def broken(self, what: str, example: str) -> None:
        assert what in BROKEN, what
        self.counts[what] += 1
        if len(self.examples[what]) < EXAMPLES:
            self.examples[what].append(example)

    def add(self, other: Findings) -> None:
        self.counts.update(other.counts)
        self.longest = max(self.longest, other.longest)
        for what, examples in other.examples.items():
            self.examples[what].extend(examples[: EXAMPLES - len(self.examples[what])])

    def violations(self, allowed: frozenset[str] = frozenset()) -> dict[str, list[str]]:
        """The broken promises that a topology does not allow, with examples."""
        return {what: examples for what, examples in self.examples.items() if examples and what not in allowed}
