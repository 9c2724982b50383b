"""The checker can fail: journals and logs with each fault put into them, and each is found, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.check_streams import Log, check_streams
from tests.chaos.findings import Findings
from tests.chaos.history import Stored, producers, reader, waits
from tests.chaos.journal import Record

FIRST, SECOND = "t1", "t2"


def stored(number: int, *, term: str = FIRST, name: str = "", sequence: int = 0) -> Stored:
    return Stored(("e", term, sequence or number), name or f"p.0.s.{number}")


@dataclasses.dataclass
class World:
    """A run without a fault: ten chunks, all acknowledged, stored and read."""

    writing: list[Record]
    reading: list[Record]
    logs: list[list[Stored]]
    may_lose: bool = False
    kept: int | None = None

    def check(self) -> dict[str, list[str]]:
        logs: dict[str, list[Log]] = {"s": list(self.logs)}
        found = check_streams(
            producers("p", self.writing), [reader("r", self.reading)], logs, may_lose=self.may_lose, kept=self.kept
        )
        assert found.counts["acknowledged"] == sum(record["what"] == "ack" for record in self.writing)
        return found.violations()

    def trim(self, *numbers: int) -> None:
        """The log keeps five chunks, and these are trimmed."""
        self.logs[0] = [one for one in self.logs[0] if one.place[2] not in numbers]
        self.kept = 5

    def lose(self, *numbers: int) -> None:
        """A history without these chunks is left; they were read, and the reader was told."""
        self.logs.append([one for one in self.logs[0] if one.place[2] not in numbers])
        self.may_lose = True
        gap = {"what": "gap", "stream": "s", "requested": 10, "position": 10 - len(numbers)}
        self.reading.insert(-1, gap)


def world() -> World:
    log = [stored(number) for number in range(1, 11)]
    writing: list[Record] = [{"what": "begin"}]
    writing += [{"what": "ack", "stream": "s", "names": [one.name], "last": one.place[2]} for one in log]
    writing += [{"what": "finished"}]
    reading: list[Record] = [{"what": "begin"}]
    reading += [{"what": "seen", "stream": "s", "chunks": [[*one.place, one.name]]} for one in log]
    reading += [{"what": "ended", "stream": "s"}]
    return World(writing, reading, [log])


def put(what: str, **fields: Any) -> Record:
    return {"what": what, "stream": "s", **fields}


def lost_in_silence(w: World) -> None:
    w.lose(9, 10)


def lost_and_told_of_too_little(w: World) -> None:
    w.lose(9, 10)
    w.writing.insert(-1, put("lost", first=10, last=10))


def lost_and_told_before_it_was_acknowledged(w: World) -> None:
    w.lose(10)
    w.writing.insert(-2, put("lost", first=10, last=10))


def lost_where_nothing_may_be(w: World) -> None:
    w.lose(10)
    w.writing.insert(-1, put("lost", first=10, last=10))
    w.may_lose = False


def reported_but_there(w: World) -> None:
    w.writing.insert(-1, put("lost", first=3, last=3))


def stored_twice(w: World) -> None:
    twin = stored(11, name="p.0.s.10")
    w.logs[0].append(twin)
    w.reading.insert(-1, put("seen", chunks=[[*twin.place, twin.name]]))


def written_out_of_order(w: World) -> None:
    late = [stored(11, name="q.0.s.2"), stored(12, name="q.0.s.1")]
    w.logs[0].extend(late)
    w.reading.insert(-1, put("seen", chunks=[[*one.place, one.name] for one in late]))


def sequences_that_go_back(w: World) -> None:
    late = stored(11, sequence=4, term=SECOND)
    w.logs[0].append(late)
    w.reading.insert(-1, put("seen", chunks=[[*late.place, late.name]]))


def two_contents_for_two_readers(w: World) -> None:
    w.lose(10)
    w.writing.insert(-1, put("lost", first=10, last=10))
    other = stored(10, name="q.0.s.0")
    w.logs[-1].append(other)
    w.reading.insert(-1, put("seen", chunks=[[*other.place, other.name]]))


def reader_that_skips_a_chunk(w: World) -> None:
    del w.reading[5]


def reader_that_walks_from_a_lost_branch_into_another(w: World) -> None:
    w.lose(9, 10)
    w.writing.insert(-1, put("lost", first=9, last=10))
    w.reading.pop(-2)
    after = stored(11, term=SECOND, name="q.0.s.0")
    w.logs[-1].append(after)
    w.reading.insert(-1, put("seen", chunks=[[*after.place, after.name]]))


def reader_that_gets_a_chunk_again(w: World) -> None:
    w.reading.insert(6, w.reading[5])


def trimmed_too_early(w: World) -> None:
    w.trim(1, 2, 3, 4, 5, 6)


def trimmed_away_in_silence(w: World) -> None:
    w.trim(1, 2, 3, 4, 5)
    del w.reading[3:5]


def reader_that_never_ends(w: World) -> None:
    w.reading.pop()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (lost_in_silence, {"lost in silence"}),
        (lost_and_told_of_too_little, {"lost in silence"}),
        (lost_and_told_before_it_was_acknowledged, {"lost in silence"}),
        (lost_where_nothing_may_be, {"lost where nothing may be"}),
        (reported_but_there, {"reported, not lost"}),
        (stored_twice, {"stored twice", "read twice"}),
        (written_out_of_order, {"out of order"}),
        (sequences_that_go_back, {"out of order"}),
        (two_contents_for_two_readers, {"two contents"}),
        (reader_that_skips_a_chunk, {"read out of order", "missed by a reader"}),
        (reader_that_walks_from_a_lost_branch_into_another, {"read out of order"}),
        (reader_that_gets_a_chunk_again, {"read twice", "read out of order"}),
        (trimmed_too_early, {"lost where nothing may be", "lost in silence"}),
        (trimmed_away_in_silence, {"read out of order"}),
        (reader_that_never_ends, {"hung"}),
    ],
)
def test_each_fault_is_found_and_no_other(fault: Callable[[World], None], found: set[str]) -> None:
    injured = world()
    fault(injured)
    assert set(injured.check()) == found


def test_a_run_without_a_fault_breaks_nothing() -> None:
    assert world().check() == {}


def test_a_loss_that_is_reported_breaks_nothing() -> None:
    reported = world()
    reported.lose(9, 10)
    reported.writing.insert(-1, put("lost", first=9, last=10))
    assert reported.check() == {}
    gone = world()
    gone.lose(9, 10)
    gone.writing.insert(-1, put("gone", code="stream_deleted"))
    assert set(gone.check()) == {"reported, not lost"}


def test_what_is_trimmed_and_said_breaks_nothing() -> None:
    trimmed = world()
    trimmed.trim(1, 2, 3, 4, 5)
    assert trimmed.check() == {}
    trimmed.writing[1]["last"] = None  # of a flush: its place is known from what follows
    trimmed.reading[1:3] = [put("gap", requested=0, position=2)]
    assert trimmed.check() == {}


def test_a_loss_of_a_producer_that_was_killed_is_counted_apart() -> None:
    killed = world()
    killed.lose(9, 10)
    killed.writing.pop()
    assert killed.check() == {}


def test_a_call_without_an_answer_is_found() -> None:
    found = waits(
        [[{"what": "hung", "op": "write", "seconds": 60}], [{"what": "calls", "count": 3, "failed": 1, "longest": 2.0}]]
    )
    assert (found.hung, found.calls, found.failed, found.longest) == (["write: no answer within 60 s"], 3, 1, 2.0)


def test_examples_are_few_and_counts_whole() -> None:
    found = Findings()
    for number in range(20):
        found.broken("hung", str(number))
    both = Findings()
    both.add(found)
    both.add(found)
    assert both.counts["hung"] == 40
    assert both.violations() == {"hung": ["0", "1", "2", "3", "4"]}
    assert both.violations(frozenset({"hung"})) == {}
