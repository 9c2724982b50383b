"""One file: written by .ci/make_sync.py from helix_fast.usage. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helix_fast.usage import store as _store

from .base import BlockingStore, listed
from .loop import call, run
from .recording import Recording

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Unpack

    from helix_fast.index import IdPage
    from helix_fast.options import ConnectionOptions
    from helix_fast.usage.filters import Range
    from helix_fast.usage.rollup_schema import UsageRollup
    from helix_fast.usage.schema import Amount, UsageEntry, UsageSource
    from helix_fast.usage.store import Entry


class UsageRecorder(Recording):
    """Made by ``RedisUsageStore.recorder()``. As a context manager it closes when left.

    A batch whose reply is lost is sent again, with the ids that its entries got in ``add``, so that none is recorded
    twice. While the server cannot be reached, entries are buffered, up to ``max_pending``. Entries that the server
    refuses for good are dropped: a pending ``flush`` or ``close`` raises UsageNotRecordedError with them; with none
    pending, the error goes to the store's ``on("error")``.
    """

    @property
    def session_id(self) -> str:
        """``session_id``, see the class."""
        return self._async.session_id

    @property
    def pending(self) -> int:
        """Entries that are neither acknowledged nor dropped."""
        return self._async.pending

    def add(self, entry: UsageEntry | dict[str, Any]) -> str:
        """Buffer an entry, to be sent in the background, and return its id.

        Raises:
            MalformedEntryError, InvalidIdError: a wrong field, or another session; nothing is buffered.
            BufferFullError: ``max_pending`` entries are buffered already. ``flush()`` makes room.
            StoreClosedError: the recorder or its store is closed.
        """
        return call(lambda: self._async.add(entry))

    def flush(self) -> None:
        """Wait until all entries added so far are acknowledged.

        Raises:
            UsageNotRecordedError: the server refused some for good; they are in ``.entries``, and are dropped.
            StoreConnectionError: the server cannot be reached. The entries stay, and are sent when it can.
        """
        run(self._async.flush())

    def close(self) -> None:
        """Flush, and accept no more entries. Safe to call twice.

        Raises:
            UsageNotRecordedError: with all entries that were not acknowledged. They are dropped. Some may be recorded,
                if the reply to their request was lost; record them again with the same ids.
        """
        run(self._async.close())

    def finish(self) -> None:
        """Close, and report entries that could not be recorded to the store's ``on("error")``. Raises nothing."""
        run(self._async.finish())


class RedisUsageStore(BlockingStore["_store.RedisUsageStore"]):
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
        self._async = _store.RedisUsageStore(
            redis, key_prefix=key_prefix, ttl_seconds=ttl_seconds, rollup_sessions=rollup_sessions, **connection
        )

    def record_entry(self, entry: Entry) -> bool:
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
        return run(self._async.record_entry(entry))

    def record_tokens(
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
        id: str | None = None,
        run_id: str | None = None,
        step_count: int = 0,
        timestamp: int | None = None,
        source: UsageSource | None = None,
    ) -> bool:
        """Record one call of a model: ``record_entry`` of a TokenUsage, whose fields these are.

        Returns, raises: as record_entry.
        """
        return run(
            self._async.record_tokens(
                session_id,
                model,
                prompt=prompt,
                completion=completion,
                reasoning=reasoning,
                cached=cached,
                total=total,
                cost=cost,
                id=id,
                run_id=run_id,
                step_count=step_count,
                timestamp=timestamp,
                source=source,
            )
        )

    def record_entries(self, entries: Iterable[Entry]) -> int:
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
        return run(self._async.record_entries(listed(entries)))

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
        return UsageRecorder._over(
            call(
                lambda: self._async.recorder(
                    session_id, max_batch=max_batch, linger_ms=linger_ms, max_pending=max_pending
                )
            )
        )

    def get_entries(
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
        return run(
            self._async.get_entries(
                session_id, kinds=kinds, step_range=step_range, time_range=time_range, limit=limit, offset=offset
            )
        )

    def get_rollup(self, session_id: str, *, include_sub_agents: bool = False) -> UsageRollup | None:
        """The sums of a session's usage; None if it has none.

        Reads only entries that this process has not summed yet. In a process that has summed none, it reads stored sums
        and the entries behind them. So it takes one round trip, and more only for thousands of new entries.

        Args:
            include_sub_agents: add all sessions that subagent entries name, to any depth, each once; one wave of
                pipelined requests for each level. Then ``by_session`` and ``missing_sessions`` are set.

        Raises:
            InvalidIdError, StoreError.
        """
        return run(self._async.get_rollup(session_id, include_sub_agents=include_sub_agents))

    def exists(self, session_id: str) -> bool:
        """Whether the session has usage. Raises InvalidIdError, StoreError."""
        return run(self._async.exists(session_id))

    def get_entry_count(self, session_id: str) -> int:
        """The number of a session's entries. Raises InvalidIdError, StoreError."""
        return run(self._async.get_entry_count(session_id))

    def delete(self, session_id: str) -> bool:
        """Delete a session's usage; False if it has none.

        Raises:
            InvalidIdError, StoreError.
        """
        return run(self._async.delete(session_id))

    def find_session_ids(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
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
        return run(self._async.find_session_ids(limit=limit, cursor=cursor))

    def close(self) -> None:
        """Flush the recorders, then close the store. Safe to call twice.

        Entries that could not be recorded are reported to ``on("error")``.
        """
        run(self._async.close())
