"""What a measure is and how it is taken: ours, baseline, ours, baseline…; the ratio is the median over the pairs."""

from __future__ import annotations

import abc
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import msgspec

from helix_fast.embedded import EmbeddedServer

from .payloads import DEFAULT, Payload
from .probe import Probe

Reach = Literal["at least", "at most"]
Run = Callable[[], Awaitable[float]]
FULL: Final = "full"
QUICK: Final = "quick"
TINY: Final = "tiny"  # only shows that the benchmarks run


class WrongRunError(Exception):
    """A run did not do its work, so its time is void."""


def check(actual: object, expected: object, what: str) -> None:
    """WrongRunError unless ``actual`` equals ``expected``."""
    if actual != expected:
        raise WrongRunError(f"{what}: {actual!r}, expected {expected!r}")


def check_between(actual: int, least: int, most: int, what: str) -> None:
    """WrongRunError unless ``least <= actual <= most``."""
    if not least <= actual <= most:
        raise WrongRunError(f"{what}: {actual}, expected {least} to {most}")


@dataclass(frozen=True)
class Size:
    """How much data a measure uses, and which text."""

    name: str = FULL
    payload: Payload = DEFAULT

    def pick(self, full: int, quick: int, tiny: int) -> int:
        """The number for this size."""
        return {FULL: full, QUICK: quick, TINY: tiny}[self.name]

    @property
    def runs(self) -> int:
        """Pairs of a headline measure; the targets require at least five."""
        return self.pick(5, 3, 1)

    @property
    def full(self) -> bool:
        """Whether there is time for all variants."""
        return self.name == FULL

    @property
    def variant_runs(self) -> int:
        """Pairs of a variant."""
        return self.pick(3, 1, 1)


class Pair(msgspec.Struct):
    """One turn of each side."""

    ours: float
    baseline: float
    ratio: float


class Also(msgspec.Struct):
    """A second condition of a target, or (without a limit) a number that explains the first."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    reach: Reach = "at most"

    @property
    def reached(self) -> bool:
        """Whether the value is within its limit."""
        return self.limit is None or meets(self.value, self.limit, self.reach)


class Variant(msgspec.Struct):
    """The same measure of other data. It has no target of its own."""

    ours: float
    baseline: float
    ratio: float


class Result(msgspec.Struct, kw_only=True):
    """The result of a measure; one value of ``results.json``."""

    what: str
    against: str
    unit: str
    target: float
    reach: Reach
    ours: float
    baseline: float
    ratio: float
    reached: bool
    runs: list[Pair]
    also: list[Also] = []
    variants: dict[str, Variant] = {}
    payloads: dict[str, Variant] = {}
    seconds: float = 0.0


def meets(value: float, limit: float, reach: Reach) -> bool:
    """Whether a value is on the right side of its limit."""
    return value >= limit if reach == "at least" else value <= limit


class Measure(abc.ABC):
    """One row of the table. Subclasses say what is compared, and how one run of each side goes.

    A run returns its number in ``unit``, and raises WrongRunError if it did not do its work. Each measure has its own
    server, so that none inherits the memory or the connections of another.
    """

    key: ClassVar[str]
    what: ClassVar[str]
    against: ClassVar[str]
    unit: ClassVar[str]
    target: ClassVar[float]
    reach: ClassVar[Reach] = "at least"
    needs_server: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    """Whether it counts bytes, which do not vary: one pair is enough for a variant."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.text = size.payload.text
        self.server = EmbeddedServer()
        self.probe: Probe
        self._serial = 0

    async def open(self) -> None:
        """Start the server and prepare the data."""
        if self.needs_server:
            await self.server.start()
            self.probe = Probe(self.server.socket_path)
        await self.prepare()

    async def close(self) -> None:
        """Undo ``open``."""
        try:
            await self.clean()
        finally:
            if self.needs_server:
                self.probe.close()
                await self.server.stop()

    def fresh(self, what: str) -> str:
        """A name that is unique to this run."""
        self._serial += 1
        return f"{what}-{self._serial}"

    async def prepare(self) -> None:  # noqa: B027  most measures have something to prepare, not all
        """Make what all runs share."""

    async def clean(self) -> None:  # noqa: B027
        """Close what ``prepare`` opened."""

    @abc.abstractmethod
    async def ours(self) -> float:
        """One run of helix-fast."""

    @abc.abstractmethod
    async def baseline(self) -> float:
        """One run of what it is compared with."""

    def also(self) -> Iterable[Also]:
        """Further conditions and explanations, known after the runs."""
        return ()

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        """(name, ours, baseline) of other data."""
        return iter(())

    def payloads(self) -> Iterator[tuple[str, Run, Run]]:
        """(name of the payload, ours, baseline): the same, short, with other texts."""
        return iter(())


async def timed_run(run: Run) -> float:
    """One run after a garbage collection. Older objects are frozen: the collector skips them."""
    gc.collect()
    gc.freeze()
    try:
        return await run()
    finally:
        gc.unfreeze()


async def take_pairs(ours: Run, baseline: Run, runs: int) -> list[Pair]:
    """Take both sides in turns."""
    pairs = []
    for _ in range(runs):
        mine, theirs = await timed_run(ours), await timed_run(baseline)
        pairs.append(Pair(mine, theirs, mine / theirs))
    return pairs


def middle(pairs: list[Pair]) -> Variant:
    """The medians; that of the ratios is over the pairs, not the ratio of the medians."""
    return Variant(
        ours=statistics.median(pair.ours for pair in pairs),
        baseline=statistics.median(pair.baseline for pair in pairs),
        ratio=statistics.median(pair.ratio for pair in pairs),
    )


async def take(measure: Measure, say: Callable[[str], None] = lambda _text: None) -> Result:
    """Take a measure: one turn of each to warm up, then the runs, then the variants."""
    began = time.perf_counter()
    await measure.open()
    try:
        if measure.size.name != TINY:
            await take_pairs(measure.ours, measure.baseline, 1)
        pairs = await take_pairs(measure.ours, measure.baseline, measure.size.runs)
        also = list(measure.also())
        variants = await take_variants(measure, measure.variants(), say)
        # With a requested payload, only that one is measured; otherwise the others follow the headline.
        others = measure.payloads() if measure.size.payload is DEFAULT else iter(())
        payloads = await take_variants(measure, others, say)
    finally:
        await measure.close()
    found = result_of(measure, pairs, also)
    found.variants, found.payloads, found.seconds = variants, payloads, round(time.perf_counter() - began, 3)
    return found


async def take_variants(
    measure: Measure, variants: Iterator[tuple[str, Run, Run]], say: Callable[[str], None]
) -> dict[str, Variant]:
    """Each of them in turns with its baseline."""
    found = {}
    for name, ours, baseline in variants:
        say(f"{measure.key} {name}")
        found[name] = middle(await take_pairs(ours, baseline, 1 if measure.exact else measure.size.variant_runs))
    return found


def result_of(measure: Measure | type[Measure], pairs: list[Pair], also: list[Also]) -> Result:
    """Build the result; it is reached if its ratio and all its further conditions are."""
    found = middle(pairs)
    return Result(
        what=measure.what,
        against=measure.against,
        unit=measure.unit,
        target=measure.target,
        reach=measure.reach,
        ours=found.ours,
        baseline=found.baseline,
        ratio=found.ratio,
        reached=meets(found.ratio, measure.target, measure.reach) and all(part.reached for part in also),
        runs=pairs,
        also=also,
    )
