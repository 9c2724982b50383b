"""RedisUsageStore: the public face of the usage store. It records and reads entries; rollups are in rollup.py."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Union
from weakref import WeakSet

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments, codec
from helix_fast.clock import now_ms
from helix_fast.errors import InvalidArgumentError, MalformedEntryError
from helix_fast.index import IdPage
from helix_fast.keys import UsageKeys, check_id
from helix_fast.lua import FramedArguments, script
from helix_fast.options import ConnectionOptions
from helix_fast.slices import Slices
from helix_fast.store import RedisStore, on_own_loop

from .encoding import encode_entry
from .entries import EntryWriter
from .filters import Range, check_kinds, check_range
from .index import UsageIndex
from .pages import Pages
from .recorder import UsageRecorder
from .rollup import RollupReader
from .rollup_schema import UsageRollup, build_rollup
from .schema import Amount, TokenCounts, TokenUsage, UsageEntry, UsageSource, decode_entry
from .totals import Cursor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DELETE: Final = script("usage", "usage_delete")
# One call is one script, which blocks the server: for this many entries, some 0.1 s.
MAX_ENTRIES_PER_CALL: Final = 100_000
_DELETE_REMEMBERED_MS: Final = 60_000

Entry = Union[UsageEntry, dict[str, Any]]  # noqa: UP007


class RedisUsageStore(RedisStore):
    """Usage of tokens, tools, sub-agents and anything else, on Redis or Valkey.

    Beside the JSON of each entry the server keeps its id, as long as the session's usage, so that recording is
    idempotent. docs/usage.md says what that costs.

    Args:
        redis: a URL or a ``redis.asyncio`` client; see RedisStore for this and all other options.
        key_prefix: put before every key: ``{key_prefix}:usage:entries:{session_id}``.
        ttl_seconds: seconds from its last entry until a session's usage expires; None or 0: it is kept until deleted.
        rollup_sessions: sessions whose rollups are cached in this process, so that a rollup reads only new entries.
        wait_replicas: replicas that must have an entry before it counts as recorded; see ``connect``.

    Raises:
        InvalidArgumentError, InvalidUrlError: invalid settings. No connection was opened.

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
        self._rollups = RollupReader(self._requests, self.key_prefix, rollup_sessions)
        self._index = UsageIndex(self._requests, self.key_prefix)
        self._writer = EntryWriter(self._requests, self.key_prefix, self._ttl, self._index, self._errors.report)
        self._recorders: WeakSet[UsageRecorder] = WeakSet()

    # recording

    async def record_entry(self, entry: Entry) -> bool:
        """Record one entry, in one round trip.

        Args:
            entry: a struct, or a dict in wire form. Without an id it gets one; pass an id to repeat the call safely.

        Returns:
            True; False if this id is recorded already: nothing is counted twice.

        Raises:
            MalformedEntryError: a wrong or missing field; nothing is sent.
            InvalidIdError: a session id that cannot be one; nothing is sent.
            StoreError: no reply in time, or a refusal. Without a reply the entry may be recorded or not; a repeated
                call with the same id never counts it twice.
        """
        return await self._writer.write([encode_entry(entry, now_ms())]) == 1

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
        cost: Amount | None = None,
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
                cost=cost,
            )
        )

    async def record_entries(self, entries: Iterable[Entry]) -> int:
        """Record entries of one session in one round trip: all of them, or none.

        Args:
            entries: up to 100 000; structs or dicts in wire form, all of the same session. They must not be changed
                during the call: many are encoded in slices, between which other tasks run.

        Returns:
            How many this call has recorded; the ids of the others were recorded already, or are twice in the call.

        Raises:
            MalformedEntryError: one of them is wrong, or of another session than the first; nothing is sent.
            InvalidArgumentError: too many entries, or not an iterable of entries; nothing is sent.
            InvalidIdError, StoreError: as record_entry.
        """
        if isinstance(entries, (Mapping, str, bytes)) or not isinstance(entries, Iterable):
            raise InvalidArgumentError(f"entries must be an iterable of entries, not {type(entries).__name__}")
        now = now_ms()
        given = list(entries)
        if len(given) > MAX_ENTRIES_PER_CALL:
            raise InvalidArgumentError(f"{len(given)} entries in one call, {MAX_ENTRIES_PER_CALL} are allowed")
        session_id: str | None = None
        encoded = FramedArguments()
        slices = Slices()
        for entry in given:
            found = encode_entry(entry, now)
            if session_id is not None and found.session_id != session_id:
                raise MalformedEntryError(
                    f"entries of sessions {session_id!r} and {found.session_id!r} in one call",
                    hint="record the entries of each session in a call of their own",
                )
            session_id = found.session_id
            encoded.add(found.id, found.wire)
            if slices.over:
                await slices.next()
        return 0 if session_id is None else await self._writer.write_framed(session_id, encoded)

    def recorder(
        self, session_id: str, *, max_batch: int = 500, linger_ms: float = 50, max_pending: int = 50_000
    ) -> UsageRecorder:
        """A recorder for a busy producer: it buffers entries without waiting and sends them in batches.

        Args:
            session_id: of all its entries; filled into entries without one.
            max_batch: entries of one request, 1 to 100 000.
            linger_ms: milliseconds for which an entry waits for others, from 0.
            max_pending: entries that are not acknowledged yet, at most.
        """
        recorder = UsageRecorder(
            self._writer, session_id, max_batch=max_batch, linger_ms=linger_ms, max_pending=max_pending
        )
        self._recorders.add(recorder)
        return recorder

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
            step_range: only entries whose step is in ``(min, max)`` or ``{"min": …, "max": …}``, bounds included; None
                leaves a side open.
            time_range: the same for the timestamp, Unix milliseconds; also ``{"start": …, "end": …}``.
            limit: entries at most; None: all. offset: matching entries to skip first.

        Returns:
            The entries. Stored bytes that are no entry are left out and reported to ``on("error")``.

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
            # Without filters an offset in the list is one in the result.
            found = await self._requests.command(session_id, "LRANGE", keys.entries, offset, offset + most - 1)
        else:
            wanted = 2**62 if most is None else offset + most
            found = (await self._select(session_id, keys, names, steps, times, wanted))[offset:]
        return await self._decode(session_id, found)

    async def _select(
        self, session_id: str, keys: UsageKeys, kinds: Any, steps: Any, times: Any, wanted: int
    ) -> list[bytes]:
        cursor = Cursor()
        found: list[bytes] = []
        pages = Pages(self._requests, session_id, keys)
        while True:
            page = await pages.next(cursor)
            if page is None:
                return []
            if page.anew:
                cursor, found = Cursor(), []  # another list than that of the pages before
            entries = page.entries
            cursor.move(page.nonce, entries)
            if kinds is None and steps == times == (None, None):
                found += entries[: wanted - len(found)]  # also bytes that are no entry, to be reported
            else:
                found += codec.select_entries(entries, kinds, steps, times, wanted - len(found))
            if cursor.read >= page.length or len(found) >= wanted:
                return found

    async def _decode(self, session_id: str, found: list[bytes]) -> list[UsageEntry]:
        entries: list[UsageEntry] = []
        slices = Slices()
        for data in found:
            try:
                entries.append(decode_entry(data))
            except MalformedEntryError as error:  # one bad entry must not hide the others
                self._errors.report(MalformedEntryError(f"session {session_id!r}: {error}"))
            if slices.over:
                await slices.next()
        return entries

    async def get_rollup(self, session_id: str, *, include_sub_agents: bool = False) -> UsageRollup | None:
        """The sums of a session's usage; None if it has none.

        Reads only entries that this process has not summed yet. In a process that has summed none, it reads stored sums
        and the entries behind them. So it takes one round trip, and more only for thousands of new entries.

        Args:
            include_sub_agents: add all sessions that subagent entries name, to any depth, each once; one wave of
                pipelined requests for each level. Then ``by_session`` and ``missing_sessions`` are set.

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
        return bool(await self._requests.command(session_id, "EXISTS", UsageKeys(self.key_prefix, session_id).entries))

    async def get_entry_count(self, session_id: str) -> int:
        """The number of a session's entries. Raises InvalidIdError, StoreError."""
        return int(await self._requests.command(session_id, "LLEN", UsageKeys(self.key_prefix, session_id).entries))

    async def delete(self, session_id: str) -> bool:
        """Delete a session's usage; False if it has none.

        Raises:
            InvalidIdError, StoreError.
        """
        keys = UsageKeys(self.key_prefix, session_id)
        operation = self._writer.operation() + ":"
        remembered = max(_DELETE_REMEMBERED_MS, int(self._requests.retry_timeout * 2_000))
        names = [keys.entries, keys.ids, keys.deleted, keys.totals]
        if not self._requests.topology.clustered:
            names.append(self._index.key(session_id))
        self._rollups.forget(session_id)
        return bool(await self._requests.run(_DELETE, session_id, names, [operation, session_id, remembered]))

    # the index

    async def find_session_ids(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
        """Sessions that have usage, read from an index: the server's keys are not scanned.

        Args:
            limit: ids at most, from 1; None: all.
            cursor: ``.cursor`` of the page before.

        Returns:
            The ids, with ``.cursor`` for the next page. A session that gets entries between two pages may be on both;
            none that has usage all the time is missing.

        Raises:
            InvalidArgumentError: a limit below 1, an invalid cursor.
            StoreError.
        """
        page = await self._index.page(limit, cursor)
        if not self._requests.topology.clustered:
            return page
        # On a cluster the index may list a session longer than it lives.
        there = await asyncio.gather(*(self.exists(session_id) for session_id in page))
        kept = IdPage(itertools.compress(page, there))
        kept.cursor = page.cursor
        return kept

    @on_own_loop
    async def close(self) -> None:
        """Flush the recorders, then close the store. Safe to call twice.

        Entries that could not be recorded are reported to ``on("error")``.
        """
        for recorder in list(self._recorders):
            await recorder.finish()
        # Storing totals is not awaited. It is sent in this turn of the loop, also by a program that reads one rollup.
        await asyncio.sleep(0)
        await super().close()

    def _abandon(self) -> None:
        super()._abandon()
        if not self._requests.topology.binding.forked:  # there, the parent sends what is buffered
            for recorder in list(self._recorders):
                recorder.abandon()
