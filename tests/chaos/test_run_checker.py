"""The checker of runs can fail: each fault is put into what is left of a run, and is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.check_runs import LeftOfRun, check_runs, script


def failed() -> LeftOfRun:
    return LeftOfRun("failed", ["count"], None, ["0", "1"], True, ["s-0"])


def found(run: LeftOfRun, *told: str) -> set[str]:
    journal = [{"what": "run ended", "session": "s", "status": status} for status in told]
    return set(check_runs({"runner": journal}, {"s": run}, steps=4).violations())


@pytest.mark.parametrize("told", ["", "completed"])
@pytest.mark.parametrize(
    "injure",
    [
        lambda run: run.messages.append("done"),
        lambda run: run.messages.insert(0, "count"),
        lambda run: run.said.pop(),
        lambda run: run.said.insert(2, "1"),
        lambda run: run.said.reverse(),
        lambda run: run.entries.pop(),
        lambda run: run.entries.append("s-0"),
        lambda run: setattr(run, "ended", False),
        lambda run: setattr(run, "output", None),
    ],
)
def test_each_fault_of_a_run_is_found(injure: Callable[[LeftOfRun], object], told: str) -> None:
    run = script("s", 4)
    assert found(run, *filter(None, [told])) == set()
    injure(run)
    assert found(run, *filter(None, [told])) == {"run is not whole"}


def test_a_run_that_was_acknowledged_and_is_gone_is_found() -> None:
    assert found(LeftOfRun("", [], None, [], True, []), "completed") == {"run is not whole"}
    assert found(failed(), "completed") == {"run is not whole"}


@pytest.mark.parametrize(
    "injure",
    [
        lambda run: run.messages.append("count"),
        lambda run: run.said.append("1"),
        lambda run: run.entries.append("s-0"),
        lambda run: setattr(run, "ended", False),
    ],
)
def test_a_run_that_failed_is_there_up_to_a_step(injure: Callable[[LeftOfRun], object]) -> None:
    run = failed()
    assert found(run) == found(run, "failed") == set()
    injure(run)
    assert found(run) == {"run is not whole"}
