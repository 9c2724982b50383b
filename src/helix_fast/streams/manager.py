"""RedisStreamManager: makes the writers and readers of streams, and ends, pauses, resets and deletes streams."""

from __future__ import annotations

import contextlib
import secrets
import weakref
from typing import TYPE_CHECKING, Any, Final

from helix_fast import arguments
from helix_fast.clock import iso_now
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    StaleFencingTokenError,
    StreamClosedError,
    StreamNotFoundError,
)
from helix_fast.keys import StreamKeys, check_id, stream_control
from helix_fast.lua import script
from helix_fast.store import ConnectionOptions, RedisStore

from .appender import Appender
from .control import Control, message
from .cursor import Feed, Source
from .info import read_info
from .lease_renewal import Keeper
from .reader import ResumableReader, StreamReader
from .recovery import Recovery
from .schema import StreamInfo
from .terms import Terms
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
        redis, client, host, port, username, password, db, key_prefix, logger: see RedisStore.
        max_stream_length: chunks that a stream keeps at least; up to 10 % and a batch more are kept. None or 0: all.
        block_timeout: milliseconds of silence after which a reader looks into the log by itself.
        ttl: seconds that a stream lives after it was last written or held open by a writer. None or 0: until deleted.
        lease_ms: lease of a writer's process where ``create_writer`` names none; None: no lease, a writer that dies is
            not noticed.
        linger_ms: how long ``send`` may wait for more to send together; 0 sends on the same turn of the event loop.
        max_chunk_bytes: largest encoded chunk.
        max_buffered_bytes: unacknowledged bytes of a stream beyond which ``writer.drain()`` waits.
    """

    def __init__(
        self,
        redis: Any = None,
        *,
        key_prefix: str = "helix:",
        max_stream_length: int | None = 10_000,
        block_timeout: float = 5_000,
        ttl: int | None = 86_400,
        lease_ms: int | None = None,
        linger_ms: float = 0,
        max_chunk_bytes: int = 1 << 20,
        max_buffered_bytes: int = 8 << 20,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        length = 0 if max_stream_length is None else max_stream_length
        self.max_stream_length: int = arguments.integer(length, "max_stream_length")
        self.ttl: int = arguments.ttl_seconds(ttl)
        self._linger = arguments.milliseconds(linger_ms, "linger_ms")
        self._lease_ms = _lease(lease_ms)
        self._max_chunk_bytes = arguments.integer(max_chunk_bytes, "max_chunk_bytes", 64)
        self._max_buffered_bytes = arguments.integer(max_buffered_bytes, "max_buffered_bytes", 1)
        silence = arguments.milliseconds(block_timeout, "block_timeout", 1)
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._appenders: dict[str, Appender] = {}
        self._all_appenders: weakref.WeakSet[Appender] = weakref.WeakSet()
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()
        self._recovery = Recovery(self)
        self._producer = secrets.token_urlsafe(3).encode()
        self._keeper = Keeper(self, self._producer, self.ttl, self.report)
        self._source = Source(self, self._topology, self.ttl, stream_control(self.key_prefix), silence)
        self._control = Control(self, self._appenders, self._keeper.hurry)

    # writers

    async def create_writer(
        self,
        stream_id: str,
        agent_id: str,
        agent_type: str | None = None,
        *,
        fencing_token: int | None = None,
        lease_ms: int | None = None,
    ) -> StreamWriter:
        """Open a stream for writing; creates it if need be.

        Args:
            agent_id, agent_type: filled into chunk structs that name none.
            fencing_token: a larger one than the stream has seen takes the stream over: every older writer is refused.
            lease_ms: milliseconds after which a process that died without closing its writer counts as lost: readers
                get ProducerLostError. Renewed in the background while the writer is open.

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
        await self._control.listen()
        generation = self._topology.generation(stream_id)
        try:
            reply = await self.run(
                _OPEN,
                stream_id,
                (keys.stream, keys.meta, keys.lease),
                (self._producer, token, lease, self.ttl, await self.publish_word(), keys.channel),
            )
        except BaseException:
            if lease:
                self._withdraw(stream_id, keys)
            raise
        if reply[0] == b"closed":
            raise StreamClosedError(stream_id, reply[1].decode())
        if reply[0] == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))
        _kind, _term, epoch, last, text, stop, reason, _status = reply
        terms = Terms(text.decode(), epoch.decode(), fencing_token)
        shared = self._appenders.get(stream_id)
        if shared is None or shared.closed or shared.terms.current != terms.current:
            shared = Appender(
                stream_id,
                self._topology,
                keys,
                terms,
                int(last),
                generation=generation,
                nonce=secrets.token_urlsafe(3).encode(),
                max_length=self.max_stream_length,
                linger=self._linger,
                recovery=self._recovery,
                report=self.report,
            )
            self._appenders[stream_id] = shared
            self._all_appenders.add(shared)
        elif fencing_token is not None:
            shared.terms.token = fencing_token
        shared.writers += 1
        shared.lease_ms = max(shared.lease_ms, lease)
        if stop == b"1":
            shared.stop(reason.decode())
        self._keeper.add(shared)
        return StreamWriter(
            shared,
            agent_id,
            agent_type,
            max_chunk_bytes=self._max_chunk_bytes,
            max_buffered_bytes=self._max_buffered_bytes,
            leave=self._leave,
            report=self.report,
        )

    def _withdraw(self, stream_id: str, keys: StreamKeys) -> None:
        """Opening was cancelled or its reply lost: nobody would renew the lease, and it would be missed."""
        shared = self._appenders.get(stream_id)
        if shared is None or not shared.lease_ms:
            frame = _LEAVE.frame((keys.meta, keys.lease), (self._producer, ""), by_text=True)
            with contextlib.suppress(HelixError):
                self._topology.send(stream_id, frame)

    async def _leave(self, appender: Appender) -> None:
        appender.writers -= 1
        if appender.writers:
            return
        self._keeper.remove(appender)
        if self._appenders.get(appender.stream_id) is appender:
            del self._appenders[appender.stream_id]
        alive = not appender.closed
        await appender.close()
        if appender.lease_ms and alive and not self.closed:
            keys = appender.keys
            args = (self._producer, appender.terms.current)
            await self.run(_LEAVE, appender.stream_id, (keys.meta, keys.lease), args)
            successor = self._appenders.get(appender.stream_id)
            if successor is not None and successor.lease_ms:
                self._keeper.hurry(successor)  # opened meanwhile: it holds the lease under the same name

    # readers

    async def create_reader(self, stream_id: str) -> StreamReader | None:
        """A reader from the first chunk that is kept, then live; None where there is no such stream.

        Raises:
            InvalidIdError, StoreConnectionError; while iterating see StreamReader.
        """
        feed = Feed(self._source, stream_id, StreamKeys(self.key_prefix, stream_id), epoch=None, skip_gaps=True)
        page = await feed.open()
        if page is None:
            return None
        feed.skip_gaps = False
        self._feeds.add(feed)
        return StreamReader(feed, page)

    async def create_resumable_reader(
        self, stream_id: str, *, from_sequence: int = 0, epoch: str | None = None, on_gap: str = "raise"
    ) -> ResumableReader | None:
        """A reader of everything after ``from_sequence``, then live; None where there is no such stream.

        Args:
            from_sequence: the last sequence seen; 0 for the beginning of the epoch.
            epoch: of that position, where it is known: tells a position of an earlier life of the stream.
            on_gap: ``"raise"``, or ``"skip"`` to go on from the first chunk that is still kept.

        Raises:
            SequenceGapError: chunks after ``from_sequence`` are no longer kept.
            StreamResetError: the position is of another epoch.
            InvalidIdError, InvalidArgumentError, StoreConnectionError; while iterating see StreamReader.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        arguments.integer(from_sequence, "from_sequence")
        if epoch is not None:
            arguments.text(epoch, "epoch")
        if on_gap not in {"raise", "skip"}:
            raise InvalidArgumentError(f"on_gap must be 'raise' or 'skip', not {on_gap!r}")
        feed = Feed(self._source, stream_id, keys, after=from_sequence, epoch=epoch, skip_gaps=on_gap == "skip")
        page = await feed.open()
        if page is None:
            return None
        self._feeds.add(feed)
        return ResumableReader(feed, page)

    # the stream itself

    async def end_stream(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream: readers stop after its last chunk, writers are refused. Ending it twice is no error.

        Args:
            output: kept as JSON, told by ``get_info``.
            fencing_token: refused where the stream has seen a larger one.

        Raises:
            StreamNotFoundError, StreamClosedError (it has failed), StaleFencingTokenError, InvalidArgumentError.
        """
        value = b"" if output is None else arguments.json_value(output, "output")
        await self._finish(stream_id, "ended", value, fencing_token)

    async def fail_stream(
        self, stream_id: str, error: str | BaseException, *, fencing_token: int | None = None
    ) -> None:
        """End a stream with an error: readers get StreamFailedError after its last chunk. Else as ``end_stream``."""
        reason = str(error) if isinstance(error, BaseException) else arguments.text(error, "error")
        await self._finish(stream_id, "failed", reason.encode(errors="replace"), fencing_token)

    async def _finish(self, stream_id: str, status: str, value: bytes, fencing_token: int | None) -> None:
        keys = StreamKeys(self.key_prefix, stream_id)
        token = arguments.token(fencing_token)
        appender = self._appenders.get(stream_id)
        if appender is not None and not appender.closed:
            # What this process has been given for the stream comes before its end.
            with contextlib.suppress(StreamClosedError):
                await appender.flush()
        reply = await self.run(
            _END,
            stream_id,
            (keys.stream, keys.meta, keys.lease),
            (status, value, token, self.ttl, iso_now(), await self.publish_word(), keys.channel),
        )
        _check(stream_id, reply, token, status)

    async def pause_stream(self, stream_id: str) -> None:
        """Mark a stream paused: the silence is meant. Readers wait on and no lease is missed; writes are taken as ever.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        await self._flag(stream_id, "pause", "")

    async def resume_stream(self, stream_id: str) -> None:
        """Mark a paused stream active. Raises as ``pause_stream``."""
        await self._flag(stream_id, "resume", "")

    async def request_stop(self, stream_id: str, reason: str | None = None) -> None:
        """Ask the writers of a stream, in whatever process, to stop: sets their ``stop_requested``, now and for good.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        await self._flag(stream_id, "stop", arguments.text(reason or "", "reason"))

    async def _flag(self, stream_id: str, what: str, reason: str) -> None:
        keys = StreamKeys(self.key_prefix, stream_id)
        told = message(what.encode(), reason.encode(), stream_id)
        reply = await self.run(
            _FLAG,
            stream_id,
            (keys.stream, keys.meta),
            (what, reason, iso_now(), stream_control(self.key_prefix), told),
        )
        _check(stream_id, reply, b"", "")

    async def reset_stream(self, stream_id: str, *, fencing_token: int | None = None) -> str:
        """Start a new life of a stream, without its chunks; returns the new epoch. Sequences go on growing.

        Open readers and writers get StreamResetError.

        Raises:
            StreamNotFoundError, StaleFencingTokenError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        token = arguments.token(fencing_token)
        reply = await self.run(
            _RESET,
            stream_id,
            (keys.stream, keys.meta, keys.lease),
            (secrets.token_hex(8), token, self.ttl, iso_now(), await self.publish_word(), keys.channel),
        )
        if reply[0] == b"none":
            raise StreamNotFoundError(stream_id)
        if reply[0] == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))
        return str(reply[1].decode())

    async def delete_stream(self, stream_id: str) -> bool:
        """Delete a stream with all that belongs to it; returns whether there was one.

        Open readers get StreamDeletedError, and so do open writers: they do not bring it back.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        reply = await self.run(
            _DELETE, stream_id, (keys.stream, keys.meta, keys.lease), (await self.publish_word(), keys.channel)
        )
        return bool(reply)

    async def get_info(self, stream_id: str) -> StreamInfo | None:
        """What is known of a stream, at one moment; None where there is none."""
        keys = StreamKeys(self.key_prefix, check_id(stream_id, "stream_id"))
        reply = await self.run(_INFO, stream_id, (keys.stream, keys.meta, keys.lease), ())
        return read_info(stream_id, reply) if reply else None

    async def close(self) -> None:
        """Close the store: open readers and writers stop. What was sent and not flushed is not waited for."""
        if self.closed:
            return
        for feed in list(self._feeds):
            feed.abort()
        # from the last, and each of them also where one before it is cancelled
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(super().close)
            for appender in list(self._all_appenders):
                stack.push_async_callback(appender.close)
            stack.push_async_callback(self._keeper.close)


def _lease(value: int | None) -> int:
    return 0 if value is None else arguments.integer(value, "lease_ms", 10, 10 * 86_400_000)


def _check(stream_id: str, reply: bytes, token: bytes, wanted: str) -> None:
    """Raise what the reply of stream_end or stream_flag means."""
    text = reply.decode()
    if text in {"done", wanted}:
        return
    if text == "none":
        raise StreamNotFoundError(stream_id)
    if text in {"ended", "failed"}:
        raise StreamClosedError(stream_id, text)
    raise StaleFencingTokenError(int(token), int(text))
