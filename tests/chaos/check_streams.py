"""The checker of streams: what producers had acknowledged, what readers saw, and the raw logs of servers. Pure."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .findings import Findings
from .history import Ack, Place, Producer, Reader, Stored

Log = Sequence[Stored]
FENCED = re.compile(r"\.token(\d+)\.")
"""In the name of a chunk that was written with a fencing token."""


def check_streams(
    producers: Iterable[Producer],
    readers: Iterable[Reader],
    logs: Mapping[str, Sequence[Log]],
    *,
    may_lose: bool,
    whole: bool = False,
    kept: int | None = None,
) -> Findings:
    """Compare journals with logs.

    Args:
        logs: of each stream; the last one is that which is left, the others are of branches that were cut off.
        may_lose: whether the servers may lose what is acknowledged, where they say so.
        whole: no branch went on after its log was taken.
        kept: chunks that each log keeps at least; None: all.
    """
    found = Findings()
    producers, readers = list(producers), list(readers)
    places = _places(readers, logs)
    for producer in producers:
        _check_producer(found, producer, logs, places, may_lose, kept)
    for stream, branches in logs.items():
        runs = {reader.name: reader.runs[stream] for reader in readers if stream in reader.runs}
        for log in branches:
            _check_log(found, stream, log)
        _check_contents(found, stream, branches, runs)
        for reader in readers:
            if stream in reader.ended:
                _check_reader(found, reader, stream, branches, whole, trimmed=kept is not None)
            else:
                found.broken("hung", f"{reader.name} did not come to the end of {stream}")
    found.count("gaps", sum(reader.gaps for reader in readers))
    return found


def _places(readers: Iterable[Reader], logs: Mapping[str, Sequence[Log]]) -> dict[str, int]:
    """The sequence of each chunk that any log or reader has seen."""
    runs = [run for reader in readers for each in reader.runs.values() for run in each]
    return {stored.name: stored.place[2] for log in (*itertools.chain(*logs.values()), *runs) for stored in log}


def _check_producer(
    found: Findings,
    producer: Producer,
    logs: Mapping[str, Sequence[Log]],
    places: Mapping[str, int],
    may_lose: bool,
    kept: int | None,
) -> None:
    left = {stream: {stored.name: stored.place[2] for stored in branches[-1]} for stream, branches in logs.items()}
    trimmed = {} if kept is None else {stream: max(log.values(), default=0) - kept for stream, log in left.items()}
    lowest: dict[str, int] = {}  # that the sequence can be: one that was never told is above the one before
    for ack in producer.acks:
        found.count("acknowledged")
        sequence = places.get(ack.name) if ack.sequence is None else ack.sequence
        lowest[ack.stream] = sequence or lowest.get(ack.stream, 0) + 1
        if lowest[ack.stream] <= trimmed.get(ack.stream, 0) and ack.name not in left[ack.stream]:
            found.count("trimmed")
            continue
        told = _was_told(producer, ack, sequence)
        if ack.name in left.get(ack.stream, {}):
            if told and left[ack.stream][ack.name] == sequence:
                found.broken("reported, not lost", f"{ack} of {producer.name}")
            continue
        found.count("lost")
        if told:
            found.count("lost, reported")
        elif producer.finished:
            found.broken("lost in silence", f"{ack} of {producer.name}; told: {producer.told[-3:]}")
        else:
            found.count("lost with its producer")
        if not may_lose:
            found.broken("lost where nothing may be", f"{ack} of {producer.name}")


def _was_told(producer: Producer, ack: Ack, sequence: int | None) -> bool:
    """Where nobody knows the chunk's sequence, any later loss of the stream may be the chunk's."""
    return any(
        told.last is None or sequence is None or told.first <= sequence <= told.last
        for told in producer.told
        if told.stream == ack.stream and told.at > ack.at
    )


def _check_log(found: Findings, stream: str, log: Log) -> None:
    """No chunk twice, those of each incarnation in the order in which it wrote them, and none behind a larger token."""
    seen: set[str] = set()
    newest: dict[str, int] = {}
    place: tuple[str, int] = ("", 0)
    token = 0
    for stored in log:
        fenced = FENCED.search(stored.name)
        if fenced is not None:
            if int(fenced[1]) < token:
                found.broken("stale write", f"{stored} in {stream} after one with token {token}")
            token = max(token, int(fenced[1]))
        if stored.name in seen:
            found.broken("stored twice", f"{stored} in {stream}")
        seen.add(stored.name)
        author, _, number = stored.name.rpartition(".")
        if int(number) < newest.get(author, -1):
            found.broken("out of order", f"{stored} in {stream} after number {newest[author]}")
        newest[author] = int(number)
        epoch, _term, sequence = stored.place
        if epoch == place[0] and sequence <= place[1]:
            found.broken("out of order", f"{stored} in {stream} after sequence {place[1]}")
        place = (epoch, sequence)


def _check_contents(
    found: Findings, stream: str, branches: Sequence[Log], runs: Mapping[str, Sequence[Sequence[Stored]]]
) -> None:
    """A place has one content, in every log and for every reader."""
    contents: dict[Place, Stored] = {}
    for log in (*branches, *itertools.chain(*runs.values())):
        for stored in log:
            known = contents.setdefault(stored.place, stored)
            if known.name != stored.name:
                found.broken("two contents", f"{known} and {stored.name} in {stream}")


def _check_reader(
    found: Findings, reader: Reader, stream: str, branches: Sequence[Log], whole: bool, *, trimmed: bool
) -> None:
    follows: dict[str, set[str]] = defaultdict(set)
    terms: set[str] = set()
    for log in branches:
        terms.update(stored.place[1] for stored in log)
        for before, after in itertools.pairwise(log):
            follows[before.name].add(after.name)
    seen: set[str] = set()
    for run in reader.runs.get(stream, []):
        in_run: set[str] = set()
        for stored in run:
            found.count("read")
            if stored.name in in_run:
                found.broken("read twice", f"{stored} of {stream} by {reader.name}")
            in_run.add(stored.name)
        seen |= in_run
        for before, after in itertools.pairwise(run):
            if trimmed and (before.place[0], before.place[2] + 1) == (after.place[0], after.place[2]):
                continue  # nothing is lost where logs are only trimmed: the next sequence is the next chunk
            if after.name not in follows[before.name] and (whole or not _continues(before.place, after.place, terms)):
                found.broken("read out of order", f"{reader.name} came from {before} to {after} of {stream}")
    for stored in branches[-1]:
        if stored.name not in seen:
            found.broken("missed by a reader", f"{stored} of {stream} by {reader.name}")


def _continues(before: Place, after: Place, terms: set[str]) -> bool:
    """Whether one place can follow another in a branch whose end no log has: it was written after the last look."""
    if before[0] != after[0]:
        return False
    return after[2] == before[2] + 1 if after[1] == before[1] else after[1] not in terms and after[2] > before[2]
