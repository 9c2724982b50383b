"""RedisUsageStore: entries recorded once each, read by filters, found by the index. Sums are in rollup.py."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Union
from weakref import WeakSet

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments, codec
from helix_fast.clock import now_ms
from helix_fast.errors import InvalidArgumentError, MalformedEntryError
from helix_fast.keys import UsageKeys, check_id
from helix_fast.lua import script
from helix_fast.store import ConnectionOptions, RedisStore
from helix_fast.transport.cluster import Cluster

from .filters import Range, check_kinds, check_range
from .index import SessionIdPage, UsageIndex, forever
from .pages import Pages, Place
from .recorder import UsageRecorder
from .rollup import RollupReader
from .rollup_schema import UsageRollup, build_rollup
from .schema import EncodedEntry, TokenCounts, TokenUsage, UsageEntry, UsageSource, decode_entry, encode_entry

if TYPE_CHECKING:
    from typing_extensions import Unpack

_RECORD: Final = script("usage", "usage_record")
_DELETE: Final = script("usage", "usage_delete")
# One call is one script, and the server does nothing else meanwhile: this many take it some 0.1 s.
MAX_ENTRIES_PER_CALL: Final = 100_000
_DELETE_REMEMBERED_MS: Final = 60_000

Entry = Union[UsageEntry, dict[str, Any]]  # noqa: UP007


class RedisUsageStore(RedisStore):
    """Usage of tokens, tools, sub-agents and anything else, on Redis or Valkey.

    Each entry costs, beside its JSON, its id in a hash for as long as the session's usage is kept: that is what makes
    recording idempotent. docs/usage.md says what that costs.

    Args:
        redis: a URL or a ``redis.asyncio`` client; see RedisStore for this and for what is not named here.
        key_prefix: put before every key: ``{key_prefix}:usage:entries:{session_id}``.
        ttl_seconds: how long a session's usage is kept after its last entry; None or 0: until it is deleted.
        rollup_sessions: sessions whose sums are kept in this process, so that a rollup reads only new entries.
        wait_replicas: replicas that must have an entry before it counts as recorded; see ``connect``.

    Raises:
        InvalidArgumentError, InvalidUrlError: settings that make no sense; nothing is connected yet.

    Source: "RedisUsageStore" on the reference page.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "helix",
        ttl_seconds: int | None = 86_400,
        rollup_sessions: int = 1_000,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self._ttl = arguments.ttl_seconds(ttl_seconds, "ttl_seconds")
        arguments.integer(rollup_sessions, "rollup_sessions")
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._rollups = RollupReader(self, self.key_prefix, rollup_sessions)
        self._operations = itertools.count(1)
        self._name = base64.b64encode(os.urandom(6)).decode()
        self._index = UsageIndex(self, self.key_prefix)
        self._recorders: WeakSet[UsageRecorder] = WeakSet()

    # recording

    async def record_entry(self, entry: Entry) -> bool:
        """Record one entry, in one round trip.

        Args:
            entry: a struct, or a dict in wire form. Its id is made where it has none; give one to repeat a call safely.

        Returns:
            True; False where this id is already recorded and still kept: nothing is counted twice.

        Raises:
            MalformedEntryError: a wrong or missing field; nothing is sent.
            InvalidIdError: a session id that cannot be one; nothing is sent.
            StoreError: no answer in time, or a refusal; without an answer it is not known whether it is recorded.
                Calling again with the same id never counts it twice.
        """
        return await self.record_encoded([encode_entry(entry, now_ms())]) == 1

    async def record_entries(self, entries: Iterable[Entry]) -> int:
        """Record entries of one session in one round trip: all of them, or none.

        Args:
            entries: up to 100 000; structs or dicts in wire form, all of the same session.

        Returns:
            How many are recorded now; the others' ids were known, or came twice in the call.

        Raises:
            MalformedEntryError: one of them is wrong, or of another session than the first; nothing is sent.
            InvalidArgumentError: too many entries, or not an iterable of entries; nothing is sent.
            InvalidIdError, StoreError: as record_entry.
        """
        if isinstance(entries, (Mapping, str, bytes)) or not isinstance(entries, Iterable):
            raise InvalidArgumentError(f"entries must be an iterable of entries, not {type(entries).__name__}")
        now = now_ms()
        encoded = [encode_entry(entry, now) for entry in entries]
        if len(encoded) > MAX_ENTRIES_PER_CALL:
            raise InvalidArgumentError(f"{len(encoded)} entries in one call, {MAX_ENTRIES_PER_CALL} are allowed")
        for entry in encoded:
            if entry.session_id != encoded[0].session_id:
                raise MalformedEntryError(
                    f"entries of sessions {encoded[0].session_id!r} and {entry.session_id!r} in one call",
                    hint="record the entries of each session in a call of their own",
                )
        return await self.record_encoded(encoded) if encoded else 0

    async def record_tokens(
        self,
        session_id: str,
        model: str,
        *,
        prompt: int,
        completion: int,
        reasoning: int = 0,
        cached: int = 0,
        total: int | None = None,
        id: str | None = None,  # noqa: A002  the entry's field
        run_id: str | None = None,
        step_count: int = 0,
        timestamp: int | None = None,
        source: UsageSource | None = None,
    ) -> bool:
        """Record one call of a model: ``record_entry`` of a TokenUsage, whose fields these are.

        Returns, raises: as record_entry.
        """
        counts = TokenCounts(prompt=prompt, completion=completion, reasoning=reasoning, cached=cached, total=total)
        return await self.record_entry(
            TokenUsage(
                id=id,
                session_id=session_id,
                run_id=run_id,
                step_count=step_count,
                timestamp=timestamp,
                source=source,
                model=model,
                tokens=counts,
            )
        )

    async def record_encoded(self, entries: list[EncodedEntry]) -> int:
        """Send entries of one session that were encoded before; for recorders."""
        session_id = entries[0].session_id
        keys = UsageKeys(self.key_prefix, session_id)
        names = [keys.entries, keys.ids]
        if self._clustered:
            await self._index.list_session(session_id, self._ttl)
        else:
            names.append(self._index.key(session_id))
        operation = f"{self._name}{next(self._operations):x}"
        args: list[bytes | str | int | float] = [operation, self._ttl, operation, session_id, forever(session_id)]
        for entry in entries:
            args.append(entry.id)
            args.append(entry.wire)
        return int(await self.run(_RECORD, session_id, names, args))

    @property
    def _clustered(self) -> bool:
        return isinstance(self._topology, Cluster)

    def recorder(
        self, session_id: str, *, max_batch: int = 500, linger_ms: float = 50, max_pending: int = 50_000
    ) -> UsageRecorder:
        """A recorder for a busy producer: entries are taken without waiting and sent in batches.

        Args:
            session_id: of all its entries; filled in where an entry has none.
            max_batch: entries of one request, 1 to 100 000.
            linger_ms: how long an entry waits for others, in milliseconds, from 0.
            max_pending: entries taken and not yet acknowledged, at most.
        """
        made = UsageRecorder(self, session_id, max_batch=max_batch, linger_ms=linger_ms, max_pending=max_pending)
        self._recorders.add(made)
        return made

    # reading

    async def get_entries(
        self,
        session_id: str,
        *,
        kinds: Collection[str] | None = None,
        step_range: Range | None = None,
        time_range: Range | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[UsageEntry]:
        """Entries of a session in the order in which they were recorded.

        Args:
            kinds: only entries of these kinds; None: of all.
            step_range: only entries whose step is in ``(min, max)`` or ``{"min": …, "max": …}``; both bounds belong to
                it, None leaves a side open.
            time_range: the same for the timestamp, Unix milliseconds; also ``{"start": …, "end": …}``.
            limit: entries at most; None: all. offset: matching entries to leave out first.

        Returns:
            The entries. What is stored and cannot be read as one is left out and reported by ``on("error")``.

        Raises:
            InvalidArgumentError: a range that ends before it begins, a negative limit or offset, a wrong type.
            InvalidIdError, StoreError.
        """
        keys = UsageKeys(self.key_prefix, session_id)
        names = check_kinds(kinds)
        steps, times = check_range(step_range, "step_range"), check_range(time_range, "time_range")
        arguments.integer(offset, "offset")
        most = None if limit is None else arguments.integer(limit, "limit")
        if most == 0 or names == ():
            return []
        if names is None and steps == times == (None, None) and most is not None:
            # Without filters the place in the list is the place in the result.
            found = await self.command(session_id, "LRANGE", keys.entries, offset, offset + most - 1)
        else:
            wanted = 2**62 if most is None else offset + most
            found = (await self._select(session_id, keys, names, steps, times, wanted))[offset:]
        return self._decode(session_id, found)

    async def _select(
        self, session_id: str, keys: UsageKeys, kinds: Any, steps: Any, times: Any, wanted: int
    ) -> list[bytes]:
        place = Place()
        found: list[bytes] = []
        pages = Pages(self, session_id, keys)
        while True:
            page = await pages.next(place)
            if page is None:
                return []
            if page.anew:
                place, found = Place(), []  # another list than the one begun with
            entries = page.entries
            place.move(page.nonce, entries)
            if kinds is None and steps == times == (None, None):
                found += entries[: wanted - len(found)]  # also what is no entry: it is to be reported
            else:
                found += codec.select_entries(entries, kinds, steps, times, wanted - len(found))
            if place.read >= page.length or len(found) >= wanted:
                return found

    def _decode(self, session_id: str, found: list[bytes]) -> list[UsageEntry]:
        entries: list[UsageEntry] = []
        for data in found:
            try:
                entries.append(decode_entry(data))
            except MalformedEntryError as error:  # noqa: PERF203  one bad entry must not hide the others
                self.report(MalformedEntryError(f"session {session_id!r}: {error}"))
        return entries

    async def get_rollup(self, session_id: str, *, include_sub_agents: bool = False) -> UsageRollup | None:
        """What a session's usage adds up to; None where it has none.

        Only entries are read that this process has not added before, and in a process that has added none those that
        no other had added: one round trip, and more only for thousands of new entries.

        Args:
            include_sub_agents: add all sessions below it that subagent entries name, to any depth, each once; one
                wave of pipelined requests for each level. Then ``by_session`` and ``missing_sessions`` are set.

        Raises:
            InvalidIdError, StoreError.
        """
        session_id = check_id(session_id, "session_id")
        if include_sub_agents:
            return await self._rollups.tree(session_id)
        rollup = await self._rollups.session(session_id)
        return None if rollup is None else build_rollup(session_id, rollup.export())

    async def exists(self, session_id: str) -> bool:
        """Whether the session has usage. Raises InvalidIdError, StoreError."""
        return bool(await self.command(session_id, "EXISTS", UsageKeys(self.key_prefix, session_id).entries))

    async def get_entry_count(self, session_id: str) -> int:
        """Entries of a session, without reading them. Raises InvalidIdError, StoreError."""
        return int(await self.command(session_id, "LLEN", UsageKeys(self.key_prefix, session_id).entries))

    async def delete(self, session_id: str) -> bool:
        """Delete a session's usage, at once. False where there was none.

        Raises:
            InvalidIdError, StoreError.
        """
        keys = UsageKeys(self.key_prefix, session_id)
        operation = f"{self._name}{next(self._operations):x}:"
        remembered = max(_DELETE_REMEMBERED_MS, int(self._topology.retry_timeout * 2_000))
        names = [keys.entries, keys.ids, keys.deleted, keys.totals]
        if not self._clustered:
            names.append(self._index.key(session_id))
        self._rollups.forget(session_id)
        return bool(await self.run(_DELETE, session_id, names, [operation, session_id, remembered]))

    # the index

    async def find_session_ids(self, *, limit: int | None = None, cursor: str | None = None) -> SessionIdPage:
        """Sessions that have usage, from the index: no scan of the server.

        Args:
            limit: ids at most, from 1; None: all.
            cursor: ``.cursor`` of the page before.

        Returns:
            The ids, and in ``.cursor`` where to go on. A session that is recorded while pages are read may come again
            in a later one; none that is there all the time is left out.

        Raises:
            InvalidArgumentError: a limit below 1, a cursor that is none of ours.
            StoreError.
        """
        page = await self._index.page(limit, cursor)
        if not self._clustered:
            return page
        # There the index may list a session longer than it lives.
        there = await asyncio.gather(*(self.exists(session_id) for session_id in page))
        kept = SessionIdPage(itertools.compress(page, there))
        kept.cursor = page.cursor
        return kept

    async def close(self) -> None:
        """Flush the recorders, then close the store. Safe to call twice.

        Entries that cannot be written any more are reported by ``on("error")``.
        """
        for recorder in list(self._recorders):
            await recorder.finish()
        # Totals that nobody waits for leave in this turn of the loop: a program that reads one rollup stores them too.
        await asyncio.sleep(0)
        await super().close()
