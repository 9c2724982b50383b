"""What the page asks the stores: lists, one session, usage, the server. No HTTP here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
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
    """A page of the list; ``total`` ids are known, ``looked_at`` of them were asked for their status."""

    rows: list[Row]
    total: int
    looked_at: int


class Lookups:
    """What pages ask; one object for all of them."""

    def __init__(self, helix: Helix) -> None:
        self._helix = helix
        self._ids: list[str] = []
        self._read_at = -KEPT_SECONDS
        self._reading = asyncio.Lock()

    async def ids(self) -> list[str]:
        """The ids of all sessions and streams, from the indexes; the server's keys are not scanned."""
        async with self._reading:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                sessions, streams = await asyncio.gather(
                    self._helix.state.list_sessions(), self._helix.streams.list_streams()
                )
                found = set(sessions)
                found |= {name for name in streams if not _of_session(name, found)}
                self._ids = sorted(found)
                self._read_at = time.monotonic()
            return self._ids

    async def listing(self, text: str, status: str, limit: int) -> Listing:
        """The ids that contain ``text``, live ones first within what is looked at.

        Args:
            status: of the session or of its stream; empty: any; ``live``: a stream that is written.
            limit: rows at most.
        """
        ids = [each for each in await self.ids() if text in each]
        rows: list[Row] = []
        looked_at = 0
        while looked_at < len(ids) and (len(rows) < limit or looked_at < AT_ONCE):
            wave = ids[looked_at : looked_at + AT_ONCE]
            looked_at += len(wave)
            found = await asyncio.gather(*map(self.row, wave))
            rows += [row for row in found if not status or status == row.status or (status == "live" and row.live)]
        rows.sort(key=_place)
        return Listing(rows[:limit], len(ids), looked_at)

    async def row(self, name: str) -> Row:
        """A session's line in the list; what cannot be read says so."""
        try:
            run, lock = await asyncio.gather(self._helix.state.get_run(name), self._helix.locks.get_holder(name))
            stream_id = run.stream_id if run is not None and run.stream_id else name
            info = await self._helix.streams.get_info(stream_id)
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


def _of_session(stream: str, sessions: set[str]) -> bool:
    """Whether a stream is that of a session's run: its line is the session's."""
    session = stream
    while ":" in session:
        session = session.rpartition(":")[0]
        if session in sessions:
            return True
    return False


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
