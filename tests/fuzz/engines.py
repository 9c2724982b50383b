"""What brings bytes to the fuzz target: Hypothesis, which is always there, or atheris, which follows coverage."""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROUND = 200
SIZES = (30, 100, 300, 1000, 3000)

Run = Callable[[bytes], None]


def random_bytes(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


# Drawn one by one, the bytes of long programs would cost five times what running them does.
PROGRAMS = st.one_of(st.binary(max_size=64), *[st.integers(0, 2**48).map(random_bytes)] * 3)


def with_hypothesis(run: Run, programs: int, number: int) -> None:
    """Run `programs` programs.

    Args:
        number: the seed; the same one brings the same programs.

    Raises:
        Exception: what `run` raised on the smallest program found that it fails on.
    """
    failed = b""

    @seed(number)
    @settings(
        max_examples=programs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAMS)
    def one(data: bytes) -> None:
        nonlocal failed
        failed = data
        run(data)

    try:
        one()
    except Exception:
        run(shortened(run, failed))
        raise


def shortened(run: Run, data: bytes) -> bytes:
    """The same program with all left out that it fails without."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            try:
                run(less)
                at += size
            except Exception:
                data = less
        size //= 2
    return data


def for_seconds(run: Run, seconds: float, number: int) -> None:
    """Run rounds of programs until the time is over; the arguments are those of `with_hypothesis`."""
    end = time.monotonic() + seconds
    numbers = random.Random(number)
    while time.monotonic() < end:
        with_hypothesis(run, ROUND, numbers.getrandbits(32))


def with_atheris(run: Run, seconds: float, number: int) -> None:
    """Run programs for some seconds, led by which lines of the plain codec they reach. Ends the process.

    Raises:
        ImportError: atheris is not installed.
    """
    atheris = importlib.import_module("atheris")
    arguments = [sys.argv[0], f"-max_total_time={seconds:.0f}", f"-seed={number}", "-max_len=4096", "-len_control=10"]
    # libFuzzer ends the process itself, without a way back.
    atheris.Setup([*arguments, "-artifact_prefix=build/fuzz/"], run)
    atheris.Fuzz()
