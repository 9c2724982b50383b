"""A short run of the chaos of `make chaos`: a nemesis, real servers and programs, and the checker."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.arenas import ARENAS
from tests.chaos.conductor import one_run, plan

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]


# The others run for minutes: `make chaos`.
@pytest.mark.parametrize("topology", ["always", "snapshot", "runs"])
async def test_nothing_that_is_promised_breaks_under_a_nemesis(short_path: Path, topology: str) -> None:
    seed = random.randrange(1 << 30)
    found, done = await one_run(topology, seed, 8.0, short_path)
    again = f"python -m tests.chaos --only {topology} --seed {seed} --seconds 8"
    assert not found.violations(ARENAS[topology].allowed), again
    assert found.counts["acknowledged"] + found.counts["runs"] > 0
    assert found.counts["read"] + found.counts["runs"] > 0
    assert done.total() > 0


@pytest.mark.parametrize("topology", ARENAS)
def test_the_nemesis_acts_by_its_seed_alone(topology: str) -> None:
    kind = ARENAS[topology]
    assert plan(kind, 5, 30.0) == plan(kind, 5, 30.0) != plan(kind, 6, 30.0)
    longer = plan(kind, 5, 60.0)
    for track, acts in plan(kind, 5, 30.0).items():
        assert longer[track][: len(acts)] == acts
    assert kind.faults.keys() <= {act.name for act in plan(kind, 5, 60.0)["servers"]}
