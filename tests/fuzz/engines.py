"""What brings bytes to the fuzz target: Hypothesis, which is always there, or atheris, which follows coverage."""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

# Few bytes for short programs that shrink well, many for long ones. (Left alone, Hypothesis draws five bytes or so.)
PROGRAMS = st.one_of(
    st.binary(max_size=64), st.binary(min_size=100, max_size=300), st.binary(min_size=400, max_size=1500)
)
ROUND = 500


def with_hypothesis(run: Callable[[bytes], None], programs: int, number: int) -> None:
    """Run `programs` programs, and make the first one that fails smaller.

    Args:
        number: the seed; the same one brings the same programs.

    Raises:
        Exception: what `run` raised on the smallest program that it fails on.
    """

    @seed(number)
    @settings(
        max_examples=programs,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAMS)
    def one(data: bytes) -> None:
        run(data)

    one()


def for_seconds(run: Callable[[bytes], None], seconds: float, number: int) -> None:
    """Run rounds of programs until the time is over; the arguments are those of `with_hypothesis`."""
    end = time.monotonic() + seconds
    numbers = random.Random(number)
    while time.monotonic() < end:
        with_hypothesis(run, ROUND, numbers.getrandbits(32))


def with_atheris(run: Callable[[bytes], None], seconds: float, number: int) -> None:
    """Run programs for some seconds, led by which lines of the plain codec they reach. Ends the process.

    Raises:
        ImportError: atheris is not installed.
    """
    atheris = importlib.import_module("atheris")
    arguments = [sys.argv[0], f"-max_total_time={seconds:.0f}", f"-seed={number}", "-max_len=4096", "-len_control=10"]
    # libFuzzer ends the process itself, without a way back.
    atheris.Setup([*arguments, "-artifact_prefix=build/fuzz/"], run)
    atheris.Fuzz()
