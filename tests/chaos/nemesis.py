"""The nemesis: which fault comes when. A pure function of the seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple


class Fault(NamedTuple):
    """One act: ``pause`` seconds after the one before, healed after ``lasts`` seconds; ``dice``: for other choices."""

    name: str
    pause: float
    lasts: float
    dice: int


def schedule(seed: int, track: str, faults: Mapping[str, int], seconds: float, pause: float) -> list[Fault]:
    """The faults of one track (servers, links, programs), one after another, for so many seconds.

    Args:
        faults: names, and how often each comes in proportion.
        pause: seconds between two of them, on average.
    """
    if not faults:
        return []
    dice = random.Random(f"{seed} {track}")
    # Each fault once before any comes twice, where there is time for that.
    order = sorted(faults, key=lambda name: (dice.random() / faults[name], name))
    acts: list[Fault] = []
    spent = 0.0
    while True:
        name = order.pop(0) if order else dice.choices(list(faults), list(faults.values()))[0]
        act = Fault(name, dice.uniform(0.4, 1.6) * pause, dice.uniform(0.05, 2.0), dice.randrange(1 << 30))
        spent += act.pause + act.lasts
        if spent > seconds:
            return acts
        acts.append(act)
