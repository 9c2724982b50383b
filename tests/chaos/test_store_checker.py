"""The checker of sessions, usage and locks can fail: each fault is put into journals and data, and is found alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.check_stores import Left, Message, check_stores
from tests.chaos.journal import Record


@dataclasses.dataclass
class World:
    """A run without a fault: a session of its own, one under a lock, and usage."""

    journals: dict[str, list[Record]]
    left: Left
    may_lose: bool = False

    def check(self) -> set[str]:
        return set(check_stores(self.journals, self.left, may_lose=self.may_lose, tokens=3).violations())

    def put(self, program: str, what: str, **fields: Any) -> None:
        """Write a record before the end of a journal."""
        self.journals[program].insert(-1, {"what": what, **fields})

    def lose_message(self) -> None:
        self.left.messages["talker"].pop()
        self.may_lose = True


def grant(token: int, at: float) -> list[Record]:
    session = {"session": "locked"}
    return [
        {"what": "granted", "token": token, "asked": at, "at": at + 1, **session},
        {"what": "held", "token": token, "moment": at + 2, **session},
        {"what": "appended", "token": token, "names": [f"h.0.locked.{token}"], "count": 1, **session},
        {"what": "held", "token": token, "moment": at + 3, **session},
        {"what": "left", "token": token, **session},
    ]


def world() -> World:
    talk: list[Record] = [{"what": "begin"}]
    for number in range(1, 6):
        talk.append({"what": "appended", "session": "talker", "names": [f"t.0.talker.{number}"], "count": number})
        talk.append({"what": "version", "session": "talker", "version": number})
    recorded = [{"what": "recorded", "session": "used", "names": [f"u.0.used.{n}"]} for n in range(4)]
    end: Record = {"what": "finished"}
    audit: Record = {"what": "audit", "session": "used", "rollup": [4, 12]}
    return World(
        {
            "talker": [*talk, end],
            "recorder": [{"what": "begin"}, *recorded, end],
            "auditor": [{"what": "begin"}, audit, end],
            "holder": [{"what": "begin"}, *grant(10, 0.0), *grant(20, 10.0), end],
        },
        Left(
            {
                "talker": [Message(f"t.0.talker.{number}") for number in range(1, 6)],
                "locked": [Message("h.0.locked.10", 10), Message("h.0.locked.20", 20)],
            },
            {"used": [f"u.0.used.{n}" for n in range(4)]},
            {"used": (4, 12)},
        ),
    )


def message_lost_in_silence(w: World) -> None:
    w.lose_message()


def message_lost_where_nothing_may_be(w: World) -> None:
    w.lose_message()
    w.may_lose = False


def message_lost_and_told_of_too_early(w: World) -> None:
    w.lose_message()
    w.journals["talker"].insert(1, {"what": "lost", "stream": "talker", "first": 1, "last": 9})


def message_lost_and_another_session_told(w: World) -> None:
    w.lose_message()
    w.put("talker", "lost", stream="shared", first=1, last=9)


def message_twice(w: World) -> None:
    w.left.messages["talker"].append(w.left.messages["talker"][-1])


def messages_out_of_order(w: World) -> None:
    w.left.messages["talker"].reverse()


def version_that_goes_back(w: World) -> None:
    w.put("talker", "version", session="talker", version=3)


def entry_twice(w: World) -> None:
    w.left.entries["used"].append("u.0.used.0")
    w.left.rollups["used"] = (5, 15)
    w.journals["auditor"][1]["rollup"] = [5, 15]


def entry_lost(w: World) -> None:
    w.left.entries["used"].pop()
    w.left.rollups["used"] = (3, 9)
    w.journals["auditor"][1]["rollup"] = [3, 9]


def sum_of_a_new_process_is_wrong(w: World) -> None:
    w.left.rollups["used"] = (4, 11)
    w.journals["auditor"][1]["rollup"] = [4, 11]


def sum_that_a_process_kept_is_wrong(w: World) -> None:
    w.journals["auditor"][1]["rollup"] = [5, 15]


def token_that_goes_back(w: World) -> None:
    w.journals["holder"][-1:-1] = [record for record in grant(15, 20.0) if record["what"] != "appended"]


def lock_held_by_two(w: World) -> None:
    w.journals["other"] = [{"what": "begin"}, *grant(30, 1.0), {"what": "finished"}]
    w.journals["other"][3:4] = []
    w.journals["holder"][-1:-1] = [{"what": "held", "session": "locked", "token": 20, "moment": 14.0}]
    w.journals["other"][1] |= {"asked": 12.0, "at": 12.5}
    w.journals["other"][2] |= {"moment": 13.5}


def write_behind_a_larger_token(w: World) -> None:
    w.left.messages["locked"].append(Message("h.0.locked.21", 10))


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (message_lost_in_silence, "message lost in silence"),
        (message_lost_where_nothing_may_be, "lost where nothing may be"),
        (message_lost_and_told_of_too_early, "message lost in silence"),
        (message_lost_and_another_session_told, "message lost in silence"),
        (message_twice, "message twice"),
        (messages_out_of_order, "out of order"),
        (version_that_goes_back, "version went back"),
        (entry_twice, "entry twice"),
        (entry_lost, "lost where nothing may be"),
        (sum_of_a_new_process_is_wrong, "sum is wrong"),
        (sum_that_a_process_kept_is_wrong, "sum is wrong"),
        (token_that_goes_back, "token went back"),
        (lock_held_by_two, "locked twice"),
        (write_behind_a_larger_token, "stale write"),
    ],
)
def test_each_fault_is_found_and_no_other(fault: Callable[[World], None], found: str) -> None:
    injured = world()
    fault(injured)
    assert injured.check() == {found}


def test_a_run_without_a_fault_breaks_nothing() -> None:
    assert world().check() == set()


def test_what_is_told_breaks_nothing() -> None:
    told = world()
    told.lose_message()
    told.put("talker", "version", session="talker", version=3)
    told.put("talker", "lost", stream="talker", first=4, last=5)
    assert told.check() == set()


def test_locks_of_two_sessions_do_not_overlap() -> None:
    two = world()
    two.journals["other"] = [{"what": "begin"}, *grant(15, 0.5), {"what": "finished"}]
    for record in two.journals["other"]:
        record["session"] = "other"
    two.left.messages["other"] = [Message("h.0.locked.15", 15)]
    assert two.check() == set()
