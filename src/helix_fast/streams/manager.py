"""RedisStreamManager: opens, ends, pauses, resets and deletes streams. One file: the methods that users call.

Opening a writer or a reader only wires up its collaborators; what is longer than that is in those.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, UnsetType
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.clock import iso_now
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    StoreResponseError,
    StreamClosedError,
    StreamDeletedError,
    StreamNotFoundError,
)
from helix_fast.index import IdPage, Index
from helix_fast.keys import StreamKeys, stream_control, stream_index
from helix_fast.lua import Argument, Script, script
from helix_fast.options import ConnectionOptions
from helix_fast.replies import check_stream_reply
from helix_fast.store import RedisStore, on_own_loop
from helix_fast.transport.binding import cancel

from .appender import Appender
from .control import ControlChannel, message
from .cursor import CursorContext, StreamCursor
from .entries import check_current, check_foreign, reading_meta, stored_fence
from .info import read_info
from .lease_renewal import LeaseRenewer
from .lines import LineReader
from .loss_memory import LossMemory
from .reader import ResumableReader, StreamReader
from .recovery import Recovery
from .schema import StreamInfo, StreamPosition, to_position
from .seal_later import SealLater
from .sealer import Sealer
from .terms import NO_TERM, Terms, new_tag
from .writer import StreamWriter

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OPEN: Final = script("streams", "stream_open")
_LEAVE: Final = script("streams", "stream_leave")
_END: Final = script("streams", "stream_end")
_FLAG: Final = script("streams", "stream_flag")
_RESET: Final = script("streams", "stream_reset")
_DELETE: Final = script("streams", "stream_delete")
_INFO: Final = script("streams", "stream_info")


class RedisStreamManager(RedisStore):
    """Streams on Redis Streams: token by token in, resumable at any sequence out.

    Args:
        redis, client, host, port, username, password, db, key_prefix, logger, wait_replicas, topology: see RedisStore.
        max_stream_length: chunks that a stream keeps at least; it keeps up to 10 % and a batch more. None or 0: all.
        block_timeout: milliseconds of silence after which a reader reads the log without waiting for a push.
        ttl: seconds from the last write, or from the last renewal by an open writer, until a stream expires. None or
            0: it is kept until it is deleted.
        lease_ms: default of ``create_writer``; None: no lease, so that readers do not notice a producer that died.
        linger_ms: milliseconds for which ``send`` gathers chunks; 0 sends them in the same turn of the event loop.
        max_chunk_bytes: largest encoded chunk.
        loss_memory_s: seconds for which a closed writer's acknowledged chunks are remembered: if the server turns out
            to have lost some, ``on("error")`` gets AcknowledgedDataLostError.
        max_buffered_bytes: unacknowledged bytes of a stream beyond which ``writer.drain()`` waits.
        seal_after: seconds after which a stream that this manager or one of its writers has ended is sealed in the
            background, see ``seal_stream``; None: never. Streams are left unsealed if the manager is closed earlier.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "helix:",
        max_stream_length: int | None = 10_000,
        block_timeout: float = 5_000,
        ttl: int | None = 86_400,
        lease_ms: int | None = None,
        linger_ms: float = 0,
        max_chunk_bytes: int = 1 << 20,
        max_buffered_bytes: int = 8 << 20,
        loss_memory_s: float = 60,
        seal_after: float | None = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        length = 0 if max_stream_length is None else max_stream_length
        self.max_stream_length: int = arguments.integer(length, "max_stream_length")
        self.ttl: int = arguments.ttl_seconds(ttl)
        self._linger = arguments.milliseconds(linger_ms, "linger_ms")
        self._lease_ms = _lease(lease_ms)
        self._max_chunk_bytes = arguments.integer(max_chunk_bytes, "max_chunk_bytes", 64)
        self._max_buffered_bytes = arguments.integer(max_buffered_bytes, "max_buffered_bytes", 1)
        memory = arguments.seconds(loss_memory_s, "loss_memory_s")
        delay = None if seal_after is None else arguments.seconds(seal_after, "seal_after")
        silence = arguments.milliseconds(block_timeout, "block_timeout", 1)
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._appenders: dict[str, Appender] = {}
        self._dropping: set[asyncio.Task[None]] = set()
        self._all_appenders: weakref.WeakSet[Appender] = weakref.WeakSet()
        self._cursors: weakref.WeakSet[StreamCursor] = weakref.WeakSet()
        requests, report = self._requests, self._errors.report
        self._recovery = Recovery(requests)
        self._index = Index(requests, partial(stream_index, self.key_prefix), self.ttl, "list_streams", report)
        self._leases = LeaseRenewer(requests, self.ttl, self._index, report)
        self._losses = LossMemory(memory, report)
        self._sealer = Sealer(requests)
        self._seal_later = SealLater(self.seal_stream, delay, report)
        self._cursor_context = CursorContext(
            requests, requests.topology, self.ttl, stream_control(self.key_prefix), silence, report
        )
        self._control = ControlChannel(requests, self.key_prefix, self._appenders, self._reconnected)
        requests.topology.watch(self._node_connected)

    def _reconnected(self) -> None:
        """Messages and chunks may be lost: renew every lease, which reads the stop flags, and look what is stored."""
        if self._requests.closed:
            return  # a task begun now would outlive the manager
        for appender in self._appenders.values():
            self._leases.renew_now(appender)
        self._losses.check()

    def _node_connected(self) -> None:
        """A node of a cluster may have come back with less; the control channel is on one of them and tells of that."""
        topology = self._requests.topology
        if topology.clustered and not self._requests.closed:
            for appender in self._appenders.values():
                if appender.generation != topology.generation(appender.stream_id):
                    self._leases.renew_now(appender)
            self._losses.check()

    # writers

    async def create_writer(
        self,
        stream_id: str,
        agent_id: str,
        agent_type: str | None = None,
        *,
        fencing_token: int | None = None,
        lease_ms: int | None = None,
        max_length: int | UnsetType | None = UNSET,
    ) -> StreamWriter:
        """Open a stream for writing; create it if it does not exist.

        Args:
            agent_id, agent_type: filled into chunk structs without these fields.
            fencing_token: a larger one than the stream has seen takes the stream over: every older writer is refused.
            lease_ms: lease of this process as a producer, in milliseconds, renewed while the writer is open. When the
                process dies without closing the writer, readers get ProducerLostError after this time.
            max_length: in place of the manager's ``max_stream_length``, while this process has a writer of the stream;
                None or 0: all chunks are kept.

        Raises:
            StreamClosedError: the stream has ended or failed.
            StaleFencingTokenError: the stream has seen a larger token.
            InvalidIdError, InvalidArgumentError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        arguments.text(agent_id, "agent_id")
        if agent_type is not None:
            arguments.text(agent_type, "agent_type")
        token = arguments.token(fencing_token)
        lease = self._lease_ms if lease_ms is None else _lease(lease_ms)
        length = self.max_stream_length if max_length is UNSET else arguments.integer(max_length or 0, "max_length")
        await self._control.subscribe()
        generation = self._requests.topology.generation(stream_id)
        try:
            reply = await self._run(
                _OPEN,
                stream_id,
                (keys.stream, keys.meta, keys.lease, self._index.key_beside(keys.stream, stream_id)),
                (
                    self._leases.producer, token, lease, self.ttl, await self._requests.publish_command(), keys.channel,
                    new_tag(), *self._known(stream_id),
                ),
            )  # fmt: skip
        except BaseException:
            if lease:
                self._withdraw(stream_id, keys)
            raise
        check_stream_reply(stream_id, reply, token, meta=keys.meta)
        with reading_meta(keys.meta):
            _kind, number, epoch, last, text, stop, reason, _status, fence, history = reply
            terms, known = Terms(text.decode(), epoch.decode(), fencing_token), int(last)
            check_current(terms, number)
        stored_fence(keys.meta, fence)
        await self._index.listed(stream_id, created=not known)
        shared = self._appenders.get(stream_id)
        if shared is not None and shared.fence == fence and shared.terms.key != terms.key:
            await _let_join(shared)  # another writer, or this open, began a term for a new history
        if shared is None or not shared.alive or shared.fence != fence or shared.terms.epoch != terms.epoch:
            before = [one for one in (shared, self._losses.take(stream_id)) if one is not None]
            shared = Appender(
                stream_id,
                self._requests.topology,
                keys,
                terms,
                known,
                fence,
                history,
                generation=generation,
                nonce=secrets.token_urlsafe(3).encode(),
                max_length=length,
                linger=self._linger,
                recovery=self._recovery,
                report=self._errors.report,
            )
            self._appenders[stream_id] = shared
            for one in before:
                shared.adopt(one)
            self._all_appenders.add(shared)
        elif fencing_token is not None:
            shared.terms.token = fencing_token
        shared.writers += 1
        shared.lease_ms = max(shared.lease_ms, lease)
        if stop == b"1":
            shared.stop(reason.decode(errors="replace"))
        self._leases.add(shared)
        return StreamWriter(
            shared,
            agent_id,
            agent_type,
            max_chunk_bytes=self._max_chunk_bytes,
            max_buffered_bytes=self._max_buffered_bytes,
            finish=self._finish_own,
            leave=self._leave,
            drop=self._drop,
            report=self._errors.report,
        )

    def _known(self, stream_id: str) -> tuple[str, str, int, str]:
        """Number, tag, last sequence and epoch of the term that this process knows of a stream."""
        shared = self._appenders.get(stream_id) or self._losses.get(stream_id)
        return (*NO_TERM, 0, "") if shared is None else (*shared.terms.key, shared.sequence.last, shared.terms.epoch)

    def _withdraw(self, stream_id: str, keys: StreamKeys) -> None:
        """Undo the lease of a failed or cancelled open; else readers get ProducerLostError when it expires."""
        shared = self._appenders.get(stream_id)
        if shared is None or not shared.lease_ms:
            frame = _LEAVE.frame((keys.meta, keys.lease), (self._leases.producer, ""), by_text=True)
            with contextlib.suppress(HelixError):
                self._requests.topology.send(stream_id, frame)

    async def _finish_own(self, appender: Appender, status: str, value: Any) -> None:
        """End the stream of a writer."""
        try:
            await self._finish(appender.stream_id, status, value, appender.terms.token, appender)
        except StreamNotFoundError as error:
            raise StreamDeletedError(appender.stream_id) from error

    async def _leave(self, appender: Appender, *, keep_lease: bool = False) -> None:
        """A writer is closed. With ``keep_lease`` its lease is left to run out."""
        appender.writers -= 1
        if appender.writers:
            return
        if self._appenders.get(appender.stream_id) is appender:
            del self._appenders[appender.stream_id]
        await self._leases.remove(appender)
        alive = not appender.closed
        await appender.close()
        self._losses.keep(appender)
        if appender.lease_ms and alive and not keep_lease and not self._requests.closed:
            keys = appender.keys
            args = (self._leases.producer, appender.terms.current)
            await self._requests.run(_LEAVE, appender.stream_id, (keys.meta, keys.lease), args)
            successor = self._appenders.get(appender.stream_id)
            if successor is not None and successor.lease_ms:
                self._leases.renew_now(successor)  # opened meanwhile: it holds the lease under the same name

    def _drop(self, appender: Appender) -> None:
        """A writer was garbage-collected: its lease and its stream's TTL are not renewed any more."""
        if not self._requests.closed:
            task = asyncio.get_running_loop().create_task(self._release(appender), name="drop a writer")
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _release(self, appender: Appender) -> None:
        """What was sent is still stored."""
        try:
            await appender.flush()
        except HelixError as error:
            self._errors.report(error)
        await self._leave(appender, keep_lease=True)

    # readers

    def read(
        self,
        stream_id: str,
        *,
        from_sequence: int | str | StreamPosition = 0,
        epoch: str | None = None,
        wait_ms: float | None = None,
        on_gap: str = "raise",
    ) -> ResumableReader:
        """The chunks after ``from_sequence``, then live, until the stream ends. Nothing is sent before the first step.

        ```python
        async for chunk, sequence, _epoch in helix.streams.read("run-1", wait_ms=10_000):
            print(sequence, chunk)
        ```

        Args:
            wait_ms: milliseconds to wait for a stream that does not exist yet; None or 0: not at all.
            from_sequence, epoch, on_gap: see ``create_resumable_reader``.

        Raises:
            InvalidIdError, InvalidArgumentError. While iterating: StreamNotFoundError if the stream does not exist,
                SequenceGapError and StreamResetError as ``create_resumable_reader``, and the errors of StreamReader.
        """
        cursor = self._cursor(stream_id, from_sequence, epoch, on_gap, wait_ms)
        return ResumableReader(cursor, (cursor.last + 1, [], False))

    async def create_reader(self, stream_id: str, *, wait_ms: float | None = None) -> StreamReader | None:
        """A reader that begins with the first chunk still kept; None if the stream does not exist.

        None cannot say what is missing in an ``async with``: where a missing stream is an error, use ``read``.

        Args:
            wait_ms: milliseconds to wait for a stream that does not exist yet; None or 0: not at all.

        Raises:
            InvalidIdError, InvalidArgumentError, StoreConnectionError; while iterating see StreamReader.
        """
        cursor = self._cursor(stream_id, 0, None, "skip", wait_ms)
        page = await cursor.open()
        cursor.skip_gaps = False
        return None if page is None else StreamReader(cursor, page)

    async def create_resumable_reader(
        self,
        stream_id: str,
        *,
        from_sequence: int | str | StreamPosition = 0,
        epoch: str | None = None,
        on_gap: str = "raise",
        wait_ms: float | None = None,
    ) -> ResumableReader | None:
        """A reader of everything after ``from_sequence``; None if the stream does not exist.

        Args:
            from_sequence: the last sequence seen; 0 for the beginning of the epoch. Or a position: one that knows its
                epoch and term is recognised where the server has lost what was seen there.
            epoch: the epoch of a bare sequence, if known: it tells a position from before a reset.
            on_gap: ``"raise"``, or ``"skip"`` to go on with the first chunk still kept, or behind what is left of the
                position's term.
            wait_ms: milliseconds to wait for a stream that does not exist yet; None or 0: not at all.

        Raises:
            SequenceGapError: chunks after ``from_sequence`` are no longer kept, or it is not a place in this log: it
                lies behind its end, or on a branch that the server has lost.
            StreamResetError: the position is of another epoch.
            InvalidIdError, InvalidArgumentError, StoreConnectionError; while iterating see StreamReader.
        """
        cursor = self._cursor(stream_id, from_sequence, epoch, on_gap, wait_ms)
        page = await cursor.open()
        return None if page is None else ResumableReader(cursor, page)

    def _cursor(
        self,
        stream_id: str,
        after: int | str | StreamPosition,
        epoch: str | None,
        on_gap: str,
        wait_ms: float | None,
    ) -> StreamCursor:
        keys = StreamKeys(self.key_prefix, stream_id)
        if epoch is not None:
            arguments.text(epoch, "epoch")
        position = to_position(after, epoch or "")
        if on_gap not in {"raise", "skip"}:
            raise InvalidArgumentError(f"on_gap must be 'raise' or 'skip', not {on_gap!r}")
        wait = arguments.milliseconds(wait_ms or 0, "wait_ms")
        cursor = StreamCursor(
            self._cursor_context, stream_id, keys, after=position, skip_gaps=on_gap == "skip", wait=wait
        )
        self._cursors.add(cursor)
        return cursor

    def _line_reader(
        self, stream_id: str, position: StreamPosition, *, on_gap: str = "raise", wait_ms: float = 0
    ) -> LineReader:
        """A reader of undecoded lines, for what passes them on."""
        return LineReader(self._cursor(stream_id, position, None, on_gap, wait_ms))

    async def exists(self, stream_id: str) -> bool:
        """Whether there is such a stream, ended ones included. Raises InvalidIdError, StoreConnectionError."""
        keys = StreamKeys(self.key_prefix, stream_id)
        return bool(await self._requests.command(stream_id, b"EXISTS", keys.stream))

    async def list_streams(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
        """Ids of the streams, in no particular order, read from an index: the server's keys are not scanned.

        Streams that have ended are listed as long as they are kept. Those that other programs made are not, before one
        of these stores has opened or ended them.

        Args:
            limit: ids at most, from 1; None: all.
            cursor: ``.cursor`` of the page before.

        Returns:
            The ids, with ``.cursor`` for the next page. A stream that is opened between two pages may be on both; none
            that exists all the time is missing.

        Raises:
            InvalidArgumentError: a limit below 1, or what is no cursor of this method. StoreConnectionError.
        """
        return await self._index.page(limit, cursor, self.exists)

    # the stream itself

    async def end_stream(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream: readers stop after its last chunk, writers are refused. Ending it twice is no error.

        Args:
            output: any JSON value, returned by ``get_info``.
            fencing_token: refused if the stream has seen a larger one.

        Raises:
            StreamNotFoundError, StreamClosedError (it has failed), StaleFencingTokenError, InvalidArgumentError.
        """
        await self._finish(stream_id, "ended", output, fencing_token)

    async def fail_stream(
        self, stream_id: str, error: str | BaseException, *, fencing_token: int | None = None
    ) -> None:
        """End a stream with an error: readers get StreamFailedError after its last chunk. Else as ``end_stream``."""
        await self._finish(stream_id, "failed", error, fencing_token)

    async def _finish(
        self, stream_id: str, status: str, value: Any, fencing_token: int | None, writer: Appender | None = None
    ) -> None:
        """End a stream; for a writer, only the one that it writes to."""
        keys = StreamKeys(self.key_prefix, stream_id)
        data = _output(value) if status == "ended" else _reason(value)
        token = arguments.token(fencing_token)
        appender = self._appenders.get(stream_id)
        if appender is not None and appender.alive:
            # Chunks that this process has buffered for the stream come before its end.
            with contextlib.suppress(StreamClosedError):
                await appender.flush()
        mine = ("", "") if writer is None else (writer.terms.epoch, writer.fence)
        reply = await self._run(
            _END,
            stream_id,
            (keys.stream, keys.meta, keys.lease, self._index.key_beside(keys.stream, stream_id)),
            (
                status, data, token, self.ttl, iso_now(), await self._requests.publish_command(), keys.channel,
                *mine,
            ),
        )  # fmt: skip
        check_stream_reply(stream_id, reply, token, meta=keys.meta)
        self._seal_later.ended(stream_id)
        await self._index.listed(stream_id)

    async def pause_stream(self, stream_id: str) -> None:
        """Mark a stream paused: its silence is intended. Readers go on waiting, whatever becomes of the lease.

        Writes are accepted as before.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        await self._flag(stream_id, "pause", "")

    async def resume_stream(self, stream_id: str) -> None:
        """Mark a paused stream active. Raises as ``pause_stream``."""
        await self._flag(stream_id, "resume", "")

    async def request_stop(self, stream_id: str, reason: str | None = None) -> None:
        """Ask the writers of a stream to stop, in all processes: sets their ``stop_requested``. It cannot be undone.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        await self._flag(stream_id, "stop", arguments.text(reason or "", "reason"))

    async def _flag(self, stream_id: str, what: str, reason: str) -> None:
        keys = StreamKeys(self.key_prefix, stream_id)
        told = message(what.encode(), reason.encode(), stream_id)
        reply = await self._run(
            _FLAG,
            stream_id,
            (keys.stream, keys.meta),
            (what, reason, iso_now(), stream_control(self.key_prefix), told),
        )
        check_stream_reply(stream_id, reply)

    async def seal_stream(self, stream_id: str) -> bool:
        """Rewrite the log of an ended stream as a few deflated entries; it takes about a tenth of the memory then.

        Nothing else changes: epoch, positions, sequences, the end and the time to live stay, and so do readers in the
        middle of it. Programs that do not know sealed entries cannot read the log any more; earlier versions of this
        library raise MalformedStreamError. Safe to call again, and from several processes at once. A long log is sent
        by parts, none of which holds the server or the event loop for more than a few milliseconds.

        Returns:
            True if the log is as small as sealing makes it, also where it was before. False, and nothing was changed:
            there is no such stream, it has not ended, or another program has written to it.

        Raises:
            InvalidIdError, MalformedStreamError, StoreConnectionError.
        """
        return await self._sealer.seal(stream_id, StreamKeys(self.key_prefix, stream_id))

    async def reset_stream(self, stream_id: str, *, fencing_token: int | None = None) -> str:
        """Delete a stream's chunks and begin a new epoch, which is returned. Sequences go on growing.

        Open readers and writers get StreamResetError.

        Raises:
            StreamNotFoundError, StaleFencingTokenError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        token = arguments.token(fencing_token)
        publish = await self._requests.publish_command()
        reply = await self._run(
            _RESET,
            stream_id,
            (keys.stream, keys.meta, keys.lease, self._index.key_beside(keys.stream, stream_id)),
            (secrets.token_hex(8), token, self.ttl, iso_now(), publish, keys.channel, new_tag()),
        )
        check_stream_reply(stream_id, reply, token, meta=keys.meta)
        await self._index.listed(stream_id)
        return str(reply[1].decode())

    async def delete_stream(self, stream_id: str) -> bool:
        """Delete a stream and everything that belongs to it; returns whether it existed.

        Open readers and writers get StreamDeletedError. A writer does not create it again.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        args = (await self._requests.publish_command(), keys.channel)
        names = (keys.stream, keys.meta, keys.lease, self._index.key_beside(keys.stream, stream_id))
        existed = bool(await self._requests.run(_DELETE, stream_id, names, args))
        self._index.forget(stream_id)
        return existed

    async def get_info(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream, all of the same moment; None if it does not exist.

        Raises:
            MalformedStreamError: what is stored is no stream of ours. InvalidIdError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        reply = await self._run(_INFO, stream_id, (keys.stream, keys.meta, keys.lease), ())
        return read_info(stream_id, keys, reply) if reply else None

    async def _run(self, script: Script, stream_id: str, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """Run a script; MalformedStreamError if it fails on what is stored."""
        try:
            return await self._requests.run(script, stream_id, keys, args)
        except StoreResponseError as error:
            check_foreign(keys[0], error)
            raise

    @on_own_loop
    async def close(self) -> None:
        """Close the store, its readers and its writers. Chunks that were sent and not flushed may be lost."""
        if self._requests.closed:
            return
        for cursor in list(self._cursors):
            cursor.abort()
        # in reverse order, and each of them even if an earlier one is cancelled
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(super().close)
            for appender in list(self._all_appenders):
                stack.push_async_callback(appender.close)
            stack.push_async_callback(self._leases.close)
            stack.push_async_callback(cancel, *self._dropping)
            stack.push_async_callback(self._seal_later.close)
            stack.push_async_callback(self._losses.close)


def _output(value: Any) -> bytes:
    return b"" if value is None else arguments.json_value(value, "output")


def _reason(error: object) -> bytes:
    text = str(error) if isinstance(error, BaseException) else arguments.text(error, "error")
    return text.encode(errors="replace")


def _lease(value: int | None) -> int:
    return 0 if value is None else arguments.integer(value, "lease_ms", 10, 10 * 86_400_000)


async def _let_join(appender: Appender) -> None:
    """Have an appender join the term that its stream has now, if nothing else makes it look."""
    checked = appender.check()
    if checked is not None:
        await asyncio.wait([checked])
