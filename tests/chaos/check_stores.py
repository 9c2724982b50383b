"""The checker of sessions, usage and locks: what programs had acknowledged, and what is stored in the end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .check_runs import LeftOfRun
from .findings import Findings
from .journal import Record

Journals = Mapping[str, Sequence[Record]]


class Message(NamedTuple):
    """A stored message; ``token``: with which it was written, if it was fenced."""

    name: str
    token: int | None = None


@dataclass
class Left:
    """What is stored in the end: messages, usage entries and runs by session, and the sums that a new process reads."""

    messages: dict[str, list[Message]] = field(default_factory=dict)
    entries: dict[str, list[str]] = field(default_factory=dict)
    rollups: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    runs: dict[str, LeftOfRun] = field(default_factory=dict)


def check_stores(journals: Journals, left: Left, *, may_lose: bool, tokens: int) -> Findings:
    """Compare journals with what is left.

    Args:
        may_lose: whether the servers may lose what is acknowledged.
        tokens: of each usage entry.
    """
    found = Findings()
    for name, journal in journals.items():
        _check_messages(found, name, journal, left, may_lose)
        _check_versions(found, name, journal)
        _check_recorded(found, name, journal, left, may_lose)
        _check_audit(found, name, journal, left)
    for session, messages in left.messages.items():
        _check_conversation(found, session, messages)
    for session, entries in left.entries.items():
        for entry, times in Counter(entries).items():
            if times > 1:
                found.broken("entry twice", f"{entry} of {session}, {times} times")
        expected = (len(entries), tokens * len(entries)) if entries else None
        if left.rollups[session] != expected:
            found.broken("sum is wrong", f"{session}: {left.rollups[session]}, should be {expected}")
    check_locks(found, journals)
    return found


def _check_messages(found: Findings, name: str, journal: Sequence[Record], left: Left, may_lose: bool) -> None:
    stored = {session: {message.name for message in messages} for session, messages in left.messages.items()}
    last_begin = max((at for at, record in enumerate(journal) if record["what"] == "begin"), default=0)
    finished = any(record["what"] == "finished" for record in journal)
    for at, record in enumerate(journal):
        if record["what"] != "appended":
            continue
        session = record["session"]
        for message in record["names"]:
            found.count("messages")
            if message in stored[session]:
                continue
            found.count("messages lost")
            if not may_lose:
                found.broken("lost where nothing may be", f"message {message} of {session}")
            elif _told(journal[at + 1 :], session):
                found.count("messages lost, reported")
            elif at < last_begin or not finished:
                found.count("messages lost with their writer")
            elif session == name:  # of a session that others write too, the version may be as high again
                found.broken("message lost in silence", f"message {message} of {session}")
            else:
                found.count("messages lost, shared session")


def _told(journal: Iterable[Record], session: str) -> bool:
    return any(record["what"] in {"lost", "gone"} and record["stream"] == session for record in journal)


def _check_versions(found: Findings, name: str, journal: Sequence[Record]) -> None:
    """The version of a session never goes back before its writer's eyes, unless it is told."""
    highest: dict[str, tuple[int, int]] = {}
    for at, record in enumerate(journal):
        if record["what"] == "begin":
            highest.clear()
        if record["what"] != "version":
            continue
        session, version = record["session"], record["version"]
        before, since = highest.get(session, (0, at))
        if version < before and not _told(journal[since:], session):
            found.broken("version went back", f"{session} from {before} to {version}, seen by {name}")
        highest[session] = (version, at)


def _check_conversation(found: Findings, session: str, messages: Sequence[Message]) -> None:
    newest: dict[str, int] = {}
    token = 0
    for name, times in Counter(one.name for one in messages).items():
        if times > 1:
            found.broken("message twice", f"{name} of {session}, {times} times")
    for message in messages:
        author, _, number = message.name.rpartition(".")
        if int(number) < newest.get(author, -1):
            found.broken("out of order", f"message {message.name} of {session} after number {newest[author]}")
        newest[author] = int(number)
        if message.token is not None:
            if message.token < token:
                found.broken("stale write", f"{message} of {session} after one with token {token}")
            token = max(token, message.token)


def _check_recorded(found: Findings, name: str, journal: Sequence[Record], left: Left, may_lose: bool) -> None:
    stored = {session: set(entries) for session, entries in left.entries.items()}
    for record in journal:
        if record["what"] == "recorded":
            for entry in record["names"]:
                found.count("entries")
                if entry not in stored[record["session"]]:
                    found.count("entries lost")
                    if not may_lose:
                        found.broken("lost where nothing may be", f"entry {entry} recorded by {name}")


def _check_audit(found: Findings, name: str, journal: Sequence[Record], left: Left) -> None:
    for record in journal:
        if record["what"] == "audit":
            kept: Any = record["rollup"] and tuple(record["rollup"])
            if kept != left.rollups[record["session"]]:
                example = f"{record['session']}: {name} has {kept}, stored is {left.rollups[record['session']]}"
                found.broken("sum is wrong", example)


class Grant(NamedTuple):
    """An acquired lock. ``asked``, ``at``: before and after the call, on the machine's clock."""

    session: str
    token: int
    asked: float
    at: float
    holder: str


def check_locks(found: Findings, journals: Journals) -> None:
    """Tokens grow, and at no moment do two hold a lock."""
    grants: list[Grant] = []
    moments: dict[tuple[str, int], list[float]] = {}
    for name, journal in journals.items():
        for record in journal:
            if record["what"] == "granted":
                key = record["session"], record["token"]
                grants.append(Grant(*key, record["asked"], record["at"], name))
            elif record["what"] == "held":
                moments.setdefault((record["session"], record["token"]), []).append(record["moment"])
    found.count("grants", len(grants))
    grants.sort(key=lambda grant: grant.at)
    for number, grant in enumerate(grants):
        for later in grants[number + 1 : number + 50]:
            if later.session != grant.session:
                continue
            if later.asked > grant.at and later.token <= grant.token:
                found.broken("token went back", f"{later} after {grant}")
            began = min(moments.get((later.session, later.token), [float("inf")]))
            over = [at for at in moments.get((grant.session, grant.token), []) if at > began]
            if over and later.token != grant.token:
                found.broken("locked twice", f"{grant} still held {over[-1] - began:.3f} s after {later} began")
