"""The checker of runs: each step is there once, and what was acknowledged is stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import Findings
from .journal import Record

COMPLETED = "completed"


@dataclass
class LeftOfRun:
    """What is stored of a session with one run. ``ended``: whether its stream has an end. ``entries``: ids of usage."""

    status: str
    messages: list[str]
    output: Any
    said: list[str]
    ended: bool
    entries: list[str]


def script(session: str, steps: int) -> LeftOfRun:
    """What a run leaves that came to its end."""
    said = [str(n) for n in range(steps)]
    return LeftOfRun(COMPLETED, ["count", "done"], steps, said, True, [f"{session}-{n}" for n in said])


def check_runs(journals: Mapping[str, Sequence[Record]], left: Mapping[str, LeftOfRun], *, steps: int) -> Findings:
    """Compare what workers were told of runs with what is left of them.

    A run that failed, as its worker could not reach the server for long, is there up to some step.
    """
    found = Findings()
    told = {
        record["session"]: record["status"]
        for journal in journals.values()
        for record in journal
        if record["what"] == "run ended"
    }
    for session, run in left.items():
        found.count("runs")
        whole, status = script(session, steps), told.get(session)
        if status is not None and status != run.status:
            found.broken("run is not whole", f"{session}: told {status}, stored is {run.status}")
        elif run.status == COMPLETED and run != whole:
            found.broken("run is not whole", f"{session}: {run}")
        elif run.status != COMPLETED:
            found.count("runs that failed")
            said, entries = whole.said[: len(run.said)], set(run.entries)
            if (
                run.said != said
                or run.messages.count("count") > 1
                or run.messages.count("done") > 1
                or len(entries) < len(run.entries)
                or not run.ended
            ):
                found.broken("run is not whole", f"{session}: {run}")
    return found
