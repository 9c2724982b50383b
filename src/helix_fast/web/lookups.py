"""What the page asks the stores: lists, one session, usage, the server. No HTTP here."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import msgspec

from helix_fast.connect import Helix
from helix_fast.errors import HelixError
from helix_fast.streams.schema import StreamInfo
from helix_fast.usage.schema import TokenUsage

LIVE: Final = frozenset({"active", "paused"})
AT_ONCE: Final = 500  # sessions looked at in one wave of requests
KEPT_SECONDS: Final = 2.0  # a list of ids serves every page that is open
POINTS: Final = 60  # of a chart
ENTRIES: Final = 5_000  # usage entries of a session that its chart shows, the newest


class Row(msgspec.Struct, rename="camel", omit_defaults=True):
    """A session, or a stream without one, in the list."""

    id: str
    status: str = ""
    agent_type: str = ""
    stream_id: str = ""
    chunks: int = 0
    updated_at: int | None = None
    live: bool = False
    lost: bool = False
    owner: str | None = None
    lock_ms: int | None = None


class Listing(msgspec.Struct, rename="camel"):
    """A page of the list; ``total`` ids are listed, of ``looked_at`` of them the status is known."""

    rows: list[Row]
    total: int
    looked_at: int


class Lookups:
    """What pages ask; one object for all of them.

    What was found out about an id is kept, and asked again while it is shown. Of the others a wave is asked with each
    list: first those that are new, then those that were asked longest ago. So a list costs a bounded number of requests
    however many ids there are, and soon knows which of them are live.
    """

    def __init__(self, helix: Helix) -> None:
        self._helix = helix
        self._ids: list[str] = []
        self._streams: set[str] = set()
        self._known: dict[str, Row] = {}
        self._asked_at: dict[str, float] = {}  # in this order; an id that is gone is not in ``_known``
        self._read_at = -KEPT_SECONDS
        self._reading = asyncio.Lock()
        self._asking = asyncio.Lock()

    async def ids(self) -> list[str]:
        """The ids of all sessions and streams, those listed last first. The server's keys are not scanned."""
        async with self._reading:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                sessions, streams = await asyncio.gather(
                    self._helix.state._index.unchecked(), self._helix.streams._index.unchecked()
                )
                found = {row.id: float(row.score) for row in sessions}
                begun: set[str] = set()
                for row in streams:
                    session = _session_of(row.id, found)
                    if row.id not in self._streams:
                        begun.add(session or row.id)
                    found[session or row.id] = max(found.get(session or row.id, 0.0), float(row.score))
                self._streams = {row.id for row in streams}
                self._ids = sorted(found, key=lambda name: (-found[name], name))
                for name in [name for name in self._asked_at if name in begun or name not in found]:
                    self._forget(name)
                self._read_at = time.monotonic()
            return self._ids

    async def listing(self, text: str, status: str, limit: int) -> Listing:
        """The ids that contain ``text``, live ones first within what is known.

        Args:
            status: of the session or of its stream; empty: any; ``live``: a stream that is written.
            limit: rows at most.
        """
        ids = [each for each in await self.ids() if text in each]
        async with self._asking:  # pages that ask at once share the answers
            await self._ask_wave(ids, status, limit)
            shown = self._choose(ids, status, limit)
            now = time.monotonic()
            await self._ask([row.id for row in shown if now - self._asked_at[row.id] >= KEPT_SECONDS])
            shown = self._choose(ids, status, limit)
        gone = sum(each in self._asked_at and each not in self._known for each in ids)
        looked_at = sum(each in self._asked_at for each in ids)
        return Listing(shown, len(ids) - gone, looked_at - gone)

    async def _ask_wave(self, ids: list[str], status: str, limit: int) -> None:
        """Ask for what is new, further waves of it only while too few rows are known; else for what is oldest."""
        new = [each for each in ids if each not in self._asked_at]
        await self._ask(new[:AT_ONCE])
        for first in range(AT_ONCE, len(new), AT_ONCE):
            if len(self._choose(ids, status, limit)) >= limit:
                break
            await self._ask(new[first : first + AT_ONCE])
        if len(new) < AT_ONCE and (wanted := set(ids)):
            before = time.monotonic() - KEPT_SECONDS
            old = (name for name, at in self._asked_at.items() if at < before and name in wanted)
            await self._ask(list(itertools.islice(old, AT_ONCE - len(new))))

    def _choose(self, ids: list[str], status: str, limit: int) -> list[Row]:
        rows = (self._known[each] for each in ids if each in self._known)
        found = (row for row in rows if not status or status == row.status or (status == "live" and row.live))
        return heapq.nsmallest(limit, found, key=_place)

    async def _ask(self, names: list[str]) -> None:
        rows = await asyncio.gather(*map(self._find, names))
        now = time.monotonic()
        for name, row in zip(names, rows, strict=True):
            self._forget(name)
            self._asked_at[name] = now
            if row is not None:
                self._known[name] = row

    def _forget(self, name: str) -> None:
        self._asked_at.pop(name, None)
        self._known.pop(name, None)

    async def row(self, name: str) -> Row:
        """A session's line in the list; what cannot be read says so."""
        return await self._find(name) or Row(id=name)

    async def _find(self, name: str) -> Row | None:
        """The line; None: there is no such session or stream."""
        try:
            run, lock = await asyncio.gather(self._helix.state.get_run(name), self._helix.locks.get_holder(name))
            stream_id = run.stream_id if run is not None and run.stream_id else name
            info = await self._helix.streams.get_info(stream_id)
            if run is None and info is None and lock is None and not await self._helix.state.exists(name):
                return None
        except HelixError as error:
            return Row(id=name, status=f"unreadable: {error.code}")
        row = Row(id=name, status=run.phase if run is not None else "", stream_id=stream_id if info else "")
        if info is not None:
            row.status = row.status or info.status
            row.chunks, row.updated_at = info.last_sequence, info.updated_at
            row.live = info.status in LIVE
            row.lost = row.live and run is not None and info.lease_expires_at is None
        if lock is not None:
            row.owner, row.lock_ms = lock.owner, lock.expires_in_ms
        return row

    async def session(self, name: str) -> dict[str, Any]:
        """Everything about one id."""
        helix = self._helix
        row = await self.row(name)
        state, usage, entries = await asyncio.gather(
            _or_error(helix.state.load_state(name)),
            _or_error(helix.usage.get_rollup(name, include_sub_agents=True)),
            _or_error(helix.usage.get_entry_count(name)),
        )
        info = await _or_error(helix.streams.get_info(row.stream_id)) if row.stream_id else None
        return {"row": row, "state": state, "stream": info, "usage": usage, "entries": entries}

    async def stream(self, name: str) -> StreamInfo | None:
        """The state of a stream."""
        return await self._helix.streams.get_info(name)

    async def usage_over_time(self, name: str) -> dict[str, Any]:
        """Tokens of a session by model, in equal stretches of time, at most POINTS of them."""
        count = await self._helix.usage.get_entry_count(name)
        entries = await self._helix.usage.get_entries(
            name, kinds=["tokens"], limit=ENTRIES, offset=max(0, count - ENTRIES)
        )
        spent = [
            (entry.timestamp, entry.model, _tokens(entry))
            for entry in entries
            if isinstance(entry, TokenUsage) and entry.timestamp
        ]
        if not spent:
            return {"from": None, "step": 0, "models": {}}
        first, last = min(spent)[0], max(spent)[0]
        step = max(1, -(-(last - first + 1) // POINTS))
        models: dict[str, list[int]] = {}
        for at, model, tokens in spent:
            series = models.setdefault(model, [0] * ((last - first) // step + 1))
            series[(at - first) // step] += tokens
        return {"from": first, "step": step, "models": models}

    async def usage_by_session(self, limit: int) -> list[dict[str, Any]]:
        """What sessions have used by model, the thriftiest left out."""
        names = await self._helix.usage.find_session_ids(limit=AT_ONCE)
        rollups = await asyncio.gather(*(_or_error(self._helix.usage.get_rollup(name)) for name in names))
        rows = [
            {"id": rollup.session_id, "total": rollup.tokens.total, "byModel": rollup.by_model}
            for rollup in rollups
            if rollup is not None and hasattr(rollup, "tokens")
        ]
        return sorted(rows, key=lambda row: -row["total"])[:limit]

    async def server(self) -> dict[str, Any]:
        """Memory, clients, replication and persistence, as the server tells it."""
        try:
            text = (await self._helix.state._requests.command("", b"INFO")).decode(errors="replace")
        except HelixError as error:
            return {"error": str(error), "hint": error.hint}
        info = dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)
        names = (
            *("redis_version", "valkey_version", "server_name", "uptime_in_seconds", "used_memory", "maxmemory"),
            *("maxmemory_policy", "mem_fragmentation_ratio", "evicted_keys", "connected_clients", "maxclients"),
            *("blocked_clients", "role", "connected_slaves", "master_link_status", "aof_enabled"),
            *("rdb_last_bgsave_status", "instantaneous_ops_per_sec", "rejected_connections", "pubsub_channels"),
        )
        return {name: info[name] for name in names if name in info}


def _session_of(stream: str, sessions: Mapping[str, float]) -> str:
    """The session of whose run a stream is: its line is the session's. Empty where there is none."""
    session = stream
    while ":" in session:
        session = session.rpartition(":")[0]
        if session in sessions:
            return session
    return ""


def _tokens(entry: TokenUsage) -> int:
    tokens = entry.tokens
    return tokens.total or (tokens.prompt or 0) + (tokens.completion or 0)


def _place(row: Row) -> tuple[bool, int, str]:
    """Live ones first, by id so that they keep their places; then those that were written last."""
    return not row.live, 0 if row.live else -(row.updated_at or 0), row.id


async def _or_error(lookup: Awaitable[Any]) -> Any:
    """What a lookup gives; a dict with ``error`` where it fails: the rest of the page is shown all the same."""
    try:
        return await lookup
    except HelixError as error:
        return {"error": str(error), "hint": error.hint}
