"""UsageRecorder: a write buffer for usage entries. They are sent in batches, counted once, and never lost silently."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any, TypeVar

from helix_fast import arguments
from helix_fast.clock import now_ms
from helix_fast.errors import BufferFullError, HelixError, StoreClosedError, StoreConnectionError, UsageNotRecordedError
from helix_fast.keys import check_id
from helix_fast.transport.binding import cancel
from helix_fast.transport.retry import back_off, is_transient

from .encoding import EncodedEntry, encode_entry
from .entries import EntryWriter
from .schema import UsageEntry, decode_entry

Self = TypeVar("Self", bound="UsageRecorder")
MAX_BATCH = 100_000


class UsageRecorder:
    """Made by ``RedisUsageStore.recorder()``. As an async context manager it closes when left.

    A batch whose reply is lost is sent again, with the ids that its entries got in ``add``, so that none is recorded
    twice. While the server cannot be reached, entries are buffered, up to ``max_pending``. Entries that the server
    refuses for good are dropped: a pending ``flush`` or ``close`` raises UsageNotRecordedError with them; with none
    pending, the error goes to the store's ``on("error")``.
    """

    def __init__(
        self, writer: EntryWriter, session_id: str, *, max_batch: int, linger_ms: float, max_pending: int
    ) -> None:
        self.session_id: str = check_id(session_id, "session_id")
        self._writer = writer
        self._max_batch = arguments.integer(max_batch, "max_batch", 1, MAX_BATCH)
        self._linger = arguments.milliseconds(linger_ms, "linger_ms")
        self._max_pending = arguments.integer(max_pending, "max_pending", 1)
        self._entries: deque[EncodedEntry] = deque()
        self._batch_size = self._max_batch  # of the next one, as far as the link has let batches pass
        self._finished = 0  # entries acknowledged or dropped
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []  # with the number that must be finished
        self._lost: list[EncodedEntry] = []  # dropped while a flush was pending, which raises them
        self._cause: Exception | None = None
        self._due = asyncio.Event()  # ends the lingering
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pending(self) -> int:
        """Entries that are neither acknowledged nor dropped."""
        return len(self._entries)

    def add(self, entry: UsageEntry | dict[str, Any]) -> str:
        """Buffer an entry, to be sent in the background, and return its id.

        Raises:
            MalformedEntryError, InvalidIdError: a wrong field, or another session; nothing is buffered.
            BufferFullError: ``max_pending`` entries are buffered already. ``await flush()`` makes room.
            StoreClosedError: the recorder or its store is closed.
        """
        if self._closed or self._writer.closed:
            raise StoreClosedError("the recorder is closed")
        self._writer.check_loop()
        if len(self._entries) >= self._max_pending:
            raise BufferFullError(
                f"{len(self._entries)} usage entries wait to be recorded", hint="await flush(), or raise max_pending"
            )
        encoded = encode_entry(entry, now_ms(), self.session_id)
        self._entries.append(encoded)
        self._start()
        if len(self._entries) >= self._max_batch:
            self._due.set()
        return encoded.id

    def _start(self) -> None:
        """Have what is buffered sent, on the running event loop: it may be another than before, if that is closed."""
        if self._task is not None and not self._task.get_loop().is_closed():
            return
        self._due = asyncio.Event()  # the last flush may have set the one before
        self._flushes.clear()
        self._task = asyncio.get_running_loop().create_task(self._send(), name="usage recorder")

    async def flush(self) -> None:
        """Wait until all entries added so far are acknowledged.

        Raises:
            UsageNotRecordedError: the server refused some for good; they are in ``.entries``, and are dropped.
            StoreConnectionError: the server cannot be reached. The entries stay, and are sent when it can.
        """
        await self._acknowledged()
        self._raise_lost()

    async def close(self) -> None:
        """Flush, and accept no more entries. Safe to call twice.

        Raises:
            UsageNotRecordedError: with all entries that were not acknowledged. They are dropped. Some may be recorded,
                if the reply to their request was lost; record them again with the same ids.
        """
        self._closed = True
        try:
            await self._acknowledged()
        except HelixError as error:
            self._cause = error
        await cancel(self._task)
        self._lost.extend(self._entries)
        self._finished += len(self._entries)
        self._entries.clear()
        # A flush that began meanwhile: nothing is sent any more, and this call raises the entries.
        self._fail_pending(StoreClosedError("the recorder is closed"))
        self._raise_lost()

    async def _acknowledged(self) -> None:
        """Wait until all entries added so far are acknowledged or dropped."""
        self._writer.check_loop()
        if self._entries:
            self._start()
            finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append((self._finished + len(self._entries), finished))
            self._due.set()
            await finished

    async def finish(self) -> None:
        """Close, and report entries that could not be recorded to the store's ``on("error")``. Raises nothing."""
        try:
            await self.close()
        except UsageNotRecordedError as error:
            self._writer.report(error)

    def abandon(self) -> None:
        """Report what is buffered as not recorded: the event loop that would send it cannot be had."""
        self._closed = True
        lost = list(self._entries)
        self._entries.clear()
        if lost:
            self._writer.report(_not_recorded(lost, None))

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # An error of the body goes up unchanged.
        await (self.close() if kind is None else self.finish())

    async def _send(self) -> None:
        try:
            while self._entries:
                await self._linger_or_due()
                self._due.clear()
                await self._send_gathered(len(self._entries))
        finally:
            self._task = None

    async def _send_gathered(self, count: int) -> None:
        """Send the first ``count`` entries, in batches. Their ids let any batch repeat them after a lost reply."""
        failures = 0
        batch: list[EncodedEntry] = []

        async def attempt() -> None:
            """After a failure the next batch is half as long: a bad link passes small requests."""
            nonlocal batch
            batch = list(itertools.islice(self._entries, min(count, self._batch_size)))
            try:
                await self._writer.write(batch, retry_timeout=0)
            except StoreConnectionError:
                self._batch_size = max(1, len(batch) // 2)
                raise
            self._batch_size = min(self._max_batch, 2 * self._batch_size)

        while count:
            try:
                await self._writer.retrying(attempt, self.session_id)
            except Exception as error:  # noqa: BLE001  no error may lose entries silently
                if isinstance(error, HelixError) and is_transient(error):
                    self._fail_flushes(error)
                    await asyncio.sleep(back_off(failures := failures + 1))
                    continue
                self._drop(batch, error)
            failures = 0
            for _ in batch:
                self._entries.popleft()
            count -= len(batch)
            self._finished += len(batch)
            self._wake_flushes()

    async def _linger_or_due(self) -> None:
        if self._linger and not self._due.is_set():
            try:
                await asyncio.wait_for(self._due.wait(), self._linger)
            except asyncio.TimeoutError:
                return

    def _drop(self, batch: list[EncodedEntry], error: Exception) -> None:
        if any(not future.done() for _target, future in self._flushes):
            self._lost.extend(batch)
            self._cause = error
        else:
            self._writer.report(_not_recorded(batch, error))

    def _wake_flushes(self) -> None:
        """Wake the flushes whose entries are finished."""
        finished = [flush for flush in self._flushes if flush[0] <= self._finished]
        self._flushes = [flush for flush in self._flushes if flush[0] > self._finished]
        for _target, future in finished:
            if not future.done():
                future.set_result(None)

    def _fail_flushes(self, error: HelixError) -> None:
        """Fail pending flushes with a retryable error; with none pending, report it."""
        if not self._fail_pending(error):
            self._writer.report(error)

    def _fail_pending(self, error: HelixError) -> bool:
        """Fail pending flushes; whether there were any; a cancelled one does not count."""
        pending = [future for _target, future in self._flushes if not future.done()]
        self._flushes = []
        for future in pending:
            future.set_exception(error)
        return bool(pending)

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
