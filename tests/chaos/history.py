"""What a journal says, by kind of program: the material of the checker. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .journal import Record

Place = tuple[str, str, int]
"""Epoch, term, sequence."""


class Stored(NamedTuple):
    """A chunk in a log, or in what a reader was given."""

    place: Place
    name: str


class Ack(NamedTuple):
    """An acknowledged chunk. ``sequence``: None: the call does not tell. ``at``: the record's place in the journal."""

    stream: str
    sequence: int | None
    name: str
    at: int


class Told(NamedTuple):
    """A report that chunks of a stream are lost; ``at``: the record's place in the journal. last None: all so far."""

    stream: str
    first: int
    last: int | None
    at: int


@dataclass
class Producer:
    """One incarnation of a producing program. ``finished``: it ended by itself, and had looked at every stream."""

    name: str
    acks: list[Ack] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    finished: bool = False


@dataclass
class Reader:
    """A reading program over all its incarnations. ``runs``: what it was given between two errors, by stream."""

    name: str
    runs: dict[str, list[list[Stored]]] = field(default_factory=dict)
    gaps: int = 0
    ended: set[str] = field(default_factory=set)


@dataclass
class Waits:
    """How long single calls took: the longest, and those that came to no end within their bound."""

    longest: float = 0.0
    hung: list[str] = field(default_factory=list)
    calls: int = 0
    failed: int = 0


def producers(name: str, journal: Iterable[Record]) -> list[Producer]:
    """The incarnations of a producing program, in their order."""
    found: list[Producer] = []
    for at, record in enumerate(journal):
        what = record["what"]
        if what == "begin":
            found.append(Producer(f"{name}.{len(found)}"))
        elif what == "ack":
            names, last = record["names"], record["last"]
            for before, chunk in enumerate(reversed(names)):
                found[-1].acks.append(Ack(record["stream"], None if last is None else last - before, chunk, at))
        elif what == "lost":
            found[-1].told.append(Told(record["stream"], record["first"], record["last"], at))
        elif what == "gone":
            found[-1].told.append(Told(record["stream"], 0, None, at))
        elif what == "finished":
            found[-1].finished = True
    return found


def reader(name: str, journal: Iterable[Record]) -> Reader:
    """What a reading program was given."""
    found = Reader(name)
    for record in journal:
        what = record["what"]
        if what == "seen":
            found.runs.setdefault(record["stream"], [[]])[-1].extend(
                Stored((epoch, term, sequence), chunk) for epoch, term, sequence, chunk in record["chunks"]
            )
        elif what in {"gap", "gone"}:
            found.gaps += 1
            found.runs.setdefault(record["stream"], [[]]).append([])
        elif what == "ended":
            found.ended.add(record["stream"])
    return found


def waits(journals: Iterable[Iterable[Record]]) -> Waits:
    """How long the calls of all programs took."""
    found = Waits()
    for journal in journals:
        for record in journal:
            if record["what"] == "hung":
                found.hung.append(f"{record['op']}: no answer within {record['seconds']} s")
            elif record["what"] == "calls":
                found.calls += record["count"]
                found.failed += record["failed"]
                found.longest = max(found.longest, record["longest"])
    return found
