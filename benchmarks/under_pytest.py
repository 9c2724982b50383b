"""The same measures under pytest-benchmark: ``pytest benchmarks --benchmark-only``."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from .measure import QUICK, Measure, Size

ROUNDS = 3


def _collect() -> None:
    gc.collect()


def benchmark_of(*measures: type[Measure]) -> Callable[..., None]:
    """A test for each measure and side, on the data of ``make bench-quick``. pytest-benchmark times whole runs, with
    their preparation; what a run itself measured is in ``extra_info``."""

    @pytest.mark.parametrize("side", ["ours", "baseline"])
    @pytest.mark.parametrize("kind", measures, ids=lambda kind: kind.key)
    def test_measure(benchmark: Any, kind: type[Measure], side: str) -> None:
        benchmark.group = f"{kind.key} {kind.what}"
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        found: list[float] = []
        try:
            measure = kind(Size(QUICK))
            loop.run_until_complete(measure.open())
            try:
                benchmark.pedantic(
                    lambda: found.append(loop.run_until_complete(getattr(measure, side)())),
                    setup=_collect, rounds=ROUNDS, warmup_rounds=1,
                )  # fmt: skip
            finally:
                loop.run_until_complete(measure.close())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        benchmark.extra_info.update(unit=kind.unit, runs=found[1:], against=kind.against)

    test: Callable[..., None] = test_measure
    return test
