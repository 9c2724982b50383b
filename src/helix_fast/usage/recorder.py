"""UsageRecorder: entries taken without waiting, sent in batches, each counted once, none lost in silence."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from helix_fast import arguments
from helix_fast.clock import now_ms
from helix_fast.errors import BufferFullError, HelixError, StoreClosedError, UsageNotRecordedError
from helix_fast.keys import check_id
from helix_fast.transport.retry import is_transient, pause

from .schema import EncodedEntry, UsageEntry, decode_entry, encode_entry

if TYPE_CHECKING:
    from .store import RedisUsageStore

Self = TypeVar("Self", bound="UsageRecorder")
MAX_BATCH = 100_000


class UsageRecorder:
    """Made by ``RedisUsageStore.recorder()``; an async context manager, left with everything written or reported.

    A batch whose reply is lost is sent again, with the ids that its entries got in ``add``: nothing is doubled. While
    the server cannot be reached entries wait, up to ``max_pending``. What it refuses for good is given up: ``flush``
    and ``close`` raise UsageNotRecordedError with these entries; where neither is being awaited, it goes to the
    store's ``on("error")``.
    """

    def __init__(
        self, store: RedisUsageStore, session_id: str, *, max_batch: int, linger_ms: float, max_pending: int
    ) -> None:
        self.session_id: str = check_id(session_id, "session_id")
        self._store = store
        self._max_batch = arguments.integer(max_batch, "max_batch", 1, MAX_BATCH)
        self._linger = arguments.milliseconds(linger_ms, "linger_ms")
        self._max_pending = arguments.integer(max_pending, "max_pending", 1)
        self._entries: deque[EncodedEntry] = deque()
        self._settled = 0  # entries acknowledged or given up
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._lost: list[EncodedEntry] = []  # given up while somebody waits, who is to be told
        self._cause: Exception | None = None
        self._due = asyncio.Event()  # do not linger any more
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pending(self) -> int:
        """Entries taken and neither acknowledged nor given up."""
        return len(self._entries)

    def add(self, entry: UsageEntry | dict[str, Any]) -> str:
        """Take an entry and return its id. Nothing is awaited; it is sent soon.

        Raises:
            MalformedEntryError, InvalidIdError: a wrong field, or another session; nothing is taken.
            BufferFullError: ``max_pending`` entries wait already; nothing is taken. ``await flush()`` makes room.
            StoreClosedError: the recorder or its store is closed.
        """
        if self._closed or self._store.closed:
            raise StoreClosedError("the recorder is closed")
        if len(self._entries) >= self._max_pending:
            raise BufferFullError(
                f"{len(self._entries)} usage entries wait to be recorded", hint="await flush(), or raise max_pending"
            )
        encoded = encode_entry(entry, now_ms(), self.session_id)
        self._entries.append(encoded)
        if len(self._entries) >= self._max_batch:
            self._due.set()
        if self._task is None:
            if len(self._entries) < self._max_batch:
                self._due.clear()  # it may be left from the last flush
            self._task = asyncio.get_running_loop().create_task(self._send(), name="usage recorder")
        return encoded.id

    async def flush(self) -> None:
        """Return when all entries taken so far are acknowledged.

        Raises:
            UsageNotRecordedError: the server refused some for good; ``.entries`` are these. They are given up.
            StoreConnectionError: it cannot be reached for now. The entries stay and are sent when it can be.
        """
        await self._acknowledged()
        self._raise_lost()

    async def close(self) -> None:
        """Flush, and take no more. Safe to call twice.

        Raises:
            UsageNotRecordedError: with all entries that were not acknowledged; nothing of them is kept. Where their
                request was cut off they may be recorded all the same: with their ids they can be recorded again.
        """
        self._closed = True
        try:
            await self._acknowledged()
        except HelixError as error:
            self._cause = error
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._lost.extend(self._entries)
        self._settled += len(self._entries)
        self._entries.clear()
        self._raise_lost()

    async def _acknowledged(self) -> None:
        """Until all entries taken so far are acknowledged or given up."""
        if self._entries:
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((self._settled + len(self._entries), reached))
            self._due.set()
            await reached

    async def finish(self) -> None:
        """Close, and report what could not be written by the store's ``on("error")`` in place of raising it."""
        try:
            await self.close()
        except UsageNotRecordedError as error:
            self._store.report(error)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # The body's own error is what its caller must see.
        await (self.close() if kind is None else self.finish())

    async def _send(self) -> None:
        failures = 0
        try:
            while self._entries:
                await self._linger_or_due()
                batch = [self._entries[at] for at in range(min(len(self._entries), self._max_batch))]
                if len(self._entries) <= self._max_batch:
                    self._due.clear()
                try:
                    await self._store.record_encoded(batch)
                except Exception as error:  # noqa: BLE001  whatever it is, the entries must not be lost in silence
                    if isinstance(error, HelixError) and is_transient(error):
                        self._tell(error)
                        await asyncio.sleep(pause(failures := failures + 1))
                        continue
                    self._give_up(batch, error)
                failures = 0
                for _ in batch:
                    self._entries.popleft()
                self._settled += len(batch)
                self._wake()
        finally:
            self._task = None

    async def _linger_or_due(self) -> None:
        if self._linger and not self._due.is_set():
            try:
                await asyncio.wait_for(self._due.wait(), self._linger)
            except asyncio.TimeoutError:
                return

    def _give_up(self, batch: list[EncodedEntry], error: Exception) -> None:
        if self._waiters:
            self._lost.extend(batch)
            self._cause = error
        else:
            self._store.report(_not_recorded(batch, error))

    def _wake(self) -> None:
        reached = [waiter for waiter in self._waiters if waiter[0] <= self._settled]
        self._waiters = [waiter for waiter in self._waiters if waiter[0] > self._settled]
        for _target, future in reached:
            if not future.done():
                future.set_result(None)

    def _tell(self, error: HelixError) -> None:
        """Whoever waits hears that it does not go on for now; where nobody does, the store's callbacks do."""
        waiters, self._waiters = self._waiters, []
        for _target, future in waiters:
            if not future.done():
                future.set_exception(error)
        if not waiters:
            self._store.report(error)

    def _raise_lost(self) -> None:
        lost, self._lost = self._lost, []
        cause, self._cause = self._cause, None
        if lost:
            raise _not_recorded(lost, cause)


def _not_recorded(lost: list[EncodedEntry], cause: Exception | None) -> UsageNotRecordedError:
    reason = f": {cause}" if isinstance(cause, HelixError) else ""
    entries = [decode_entry(entry.wire) for entry in lost]
    error = UsageNotRecordedError(f"{len(lost)} usage entries were not recorded{reason}", entries)
    error.__cause__ = cause
    return error
