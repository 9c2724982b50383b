"""RedisResumableStorage: chunks of a stream by sequence, for callers that assign the sequences themselves."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments, codec
from helix_fast.errors import (
    ChunkTooLargeError,
    HelixError,
    InvalidArgumentError,
    MalformedChunkError,
    SequenceGapError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StreamNotFoundError,
)
from helix_fast.keys import StreamKeys, check_id
from helix_fast.lua import Argument, Script, script
from helix_fast.options import ConnectionOptions, ResumableOptions
from helix_fast.replies import check_stream_reply
from helix_fast.store import RedisStore, on_own_loop
from helix_fast.transport.binding import cancel, running_loop
from helix_fast.transport.lane import settle

from .chunks import StreamChunk, encode_chunk
from .cursor import StreamCursor
from .entries import check_foreign, reading_meta, sequence_of
from .lines import stored_lines
from .manager import RedisStreamManager
from .schema import StoredChunk, StreamInfo, StreamPosition, to_position
from .terms import new_tag
from .write_buffer import batch_limit

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OPEN: Final = script("streams", "stream_open")
_PUT: Final = script("streams", "stream_put")
Callback = Callable[[StreamChunk, int], object]


class Unsubscribe:
    """Ends a subscription when called. Await the result to be sure that no callback runs any more."""

    _task: asyncio.Task[None]

    def __init__(self) -> None:
        self.called: bool = False

    def __call__(self) -> asyncio.Future[Any]:
        """End the subscription."""
        self.called = True  # stored chunks are delivered without a turn of the loop in which a cancellation could act
        loop = self._task.get_loop()
        running = running_loop()
        if running is None or (running is not loop and not loop.is_closed()):
            raise InvalidArgumentError("a subscription is ended on the event loop on which it was made")
        if loop.is_closed() or asyncio.current_task(loop) is self._task:
            # it has ended with its loop; or the callback calls this, and must not wait for itself
            done = running.create_future()
            done.set_result(None)
            return done
        self._task.cancel()
        return asyncio.gather(self._task, return_exceptions=True)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until the stream has ended and its last chunk was delivered."""
        if not self._task.get_loop().is_closed():
            yield from asyncio.wait([self._task]).__await__()


class RedisResumableStorage(RedisStore):
    """Chunks stored and read by sequence, in the same streams as those of a RedisStreamManager.

    Args:
        redis, key_prefix, options: those of RedisStreamManager.
        manager: reads and ends the streams, in place of one of the storage's own. A Helix shares its manager this way;
            the storage does not close it.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "helix:",
        manager: RedisStreamManager | None = None,
        **options: Unpack[ResumableOptions],
    ) -> None:
        connection: dict[str, Any] = {}
        own: dict[str, Any] = {**options}
        for name in ConnectionOptions.__annotations__.keys() & own.keys():
            connection[name] = own.pop(name)
        super().__init__(redis, key_prefix=key_prefix, **connection)
        if manager is not None and own:
            raise InvalidArgumentError(f"{', '.join(own)}: the manager has these options")
        self._owns_manager = manager is None
        self._manager = manager or RedisStreamManager(
            topology=self._requests.topology, key_prefix=key_prefix, logger=connection.get("logger"), **own
        )
        self._subscriptions: set[asyncio.Task[None]] = set()  # kept: a caller may drop what subscribe returns

    async def create(self, stream_id: str, *, fencing_token: int | None = None) -> StreamInfo:
        """Create a stream; an existing one is left unchanged.

        Raises:
            StreamClosedError: it has ended or failed.
            MalformedStreamError: what is stored is no stream of ours.
            StaleFencingTokenError, InvalidIdError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        token = arguments.token(fencing_token)
        publish = await self._requests.publish_command()
        known = self._manager._known(stream_id)
        args = (b"", token, 0, self._manager.ttl, publish, keys.channel, new_tag(), *known)
        reply = await self._run(_OPEN, stream_id, keys, args, lists=True)
        check_stream_reply(stream_id, reply, token, meta=keys.meta)
        with reading_meta(keys.meta):
            last = int(reply[3])
        await self._manager._index.listed(stream_id, created=not last)
        info = await self._manager.get_info(stream_id)
        if info is None:
            raise StreamNotFoundError(stream_id)
        return info

    async def append(
        self, stream_id: str, chunk: StreamChunk | dict[str, Any], sequence: int, *, fencing_token: int | None = None
    ) -> None:
        """Append a chunk as ``sequence``. A repeated call with the same bytes as the last chunk changes nothing.

        A struct without ``timestamp`` stays without one, so that a repeated call has the same bytes.

        Raises:
            SequenceConflictError: ``sequence`` is not the stream's next one.
            StreamNotFoundError, StreamClosedError, StaleFencingTokenError, MalformedStreamError.
            MalformedChunkError, ChunkTooLargeError, InvalidArgumentError: nothing was sent.
        """
        await self.append_many(stream_id, (chunk,), sequence, fencing_token=fencing_token)

    async def append_many(
        self,
        stream_id: str,
        chunks: Sequence[StreamChunk | dict[str, Any]],
        first_sequence: int,
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Append chunks from ``first_sequence`` on, all or none. No chunks: nothing is sent. Errors of ``append``."""
        keys = StreamKeys(self.key_prefix, stream_id)
        arguments.integer(first_sequence, "sequence", 1)
        token = arguments.token(fencing_token)
        try:
            numbered = list(enumerate(chunks, first_sequence))
        except TypeError as error:
            raise InvalidArgumentError(f"append_many needs an iterable of chunks: {error}") from error
        encoded = [self._encode(chunk, sequence) for sequence, chunk in numbered]
        if not encoded:
            return
        keep = self._manager.max_stream_length
        longest = batch_limit(keep)
        publish = await self._requests.publish_command()
        entries = _entries(encoded, longest)
        head = (first_sequence, token, self._manager.ttl, keep, longest, publish, keys.channel, new_tag())
        index = self._manager._index
        lists = not index.lists(stream_id)
        reply = await self._run(_PUT, stream_id, keys, (*head, *entries), lists=lists)
        if reply[0] == b"sealed":
            if await self._ends_with(stream_id, encoded, first_sequence):
                return
            reply[0] = b"closed"
        check_stream_reply(stream_id, reply, token, first_sequence, meta=keys.meta)
        if lists:
            await index.listed(stream_id)

    async def _ends_with(self, stream_id: str, encoded: list[bytes], first: int) -> bool:
        """Whether chunks are those of a sealed stream from ``first`` on, byte for byte."""
        try:
            return await stored_lines(self._manager._cursor(stream_id, first - 1, None, "raise", None)) == encoded
        except SequenceGapError:
            return False

    async def _run(
        self, script: Script, stream_id: str, keys: StreamKeys, args: Sequence[Argument], *, lists: bool
    ) -> Any:
        index = self._manager._index.key_beside(keys.stream, stream_id, lists=lists)
        try:
            return await self._requests.run(script, stream_id, (keys.stream, keys.meta, keys.lease, index), args)
        except StoreResponseError as error:
            check_foreign(keys.stream, error)
            raise

    def _encode(self, chunk: StreamChunk | dict[str, Any], sequence: int) -> bytes:
        try:
            data = encode_chunk(chunk)
        except MalformedChunkError as error:
            error.sequence = sequence
            raise
        limit = self._manager._max_chunk_bytes
        if len(data) > limit:
            raise ChunkTooLargeError(len(data), limit)
        return data

    async def read_from(
        self, stream_id: str, from_sequence: int | str | StreamPosition = 0, limit: int | None = None
    ) -> list[StoredChunk]:
        """The stored chunks after ``from_sequence``, at most ``limit``; none if the stream does not exist.

        Raises:
            SequenceGapError: some of them are no longer kept, or ``from_sequence`` is not a place in this log.
            StreamResetError: the stream was reset after ``from_sequence``.
            MalformedChunkError: bytes that are no chunk.
            MalformedStreamError: what is stored is no stream of ours.
            InvalidIdError, InvalidArgumentError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        after = to_position(from_sequence)
        left = arguments.MAX_EXACT if limit is None else arguments.integer(limit, "limit")
        cursor = StreamCursor(self._manager._cursor_context, stream_id, keys, after=after, skip_gaps=False)
        found: list[StoredChunk] = []
        while left > len(found):
            page = await cursor.stored()
            if page is None:
                break
            first, chunks, faulty = page
            chunks = chunks[: left - len(found)]
            if faulty:
                for chunk in chunks:
                    if isinstance(chunk, MalformedChunkError):
                        raise chunk
            found += codec.number_chunks(StoredChunk, chunks, first, cursor.epoch, cursor.term)
        return found

    def subscribe(
        self, stream_id: str, callback: Callback, *, from_sequence: int | str | StreamPosition | None = None
    ) -> Unsubscribe:
        """Call ``callback(chunk, sequence)`` for each chunk, in order, one at a time; it may be a coroutine function.

        An error of the callback goes to ``on("error")``, and the next chunk follows. An error that ends the
        subscription before the end of the stream goes there too. If the stream does not exist yet, the subscription
        waits for it.

        Args:
            from_sequence: the last sequence seen, or a position; None: only chunks that are written from now on.

        Returns:
            A callable that ends the subscription; its result may be awaited.

        Raises:
            InvalidIdError, InvalidArgumentError.
        """
        check_id(stream_id, "stream_id")
        after = None if from_sequence is None else to_position(from_sequence)
        if not callable(callback):
            raise InvalidArgumentError("callback must be callable")
        if self._requests.closed:
            raise StoreClosedError("the store is closed")
        loop = self._requests.topology.binding.check()
        top: asyncio.Future[Any] | None = None
        if after is None:
            # Asked now, so that chunks which the caller writes after this call are delivered.
            top = loop.create_future()
            keys = StreamKeys(self.key_prefix, stream_id)
            frame = codec.frame_command((b"XREVRANGE", keys.stream, b"+", b"-", b"COUNT", b"1"))
            self._requests.topology.send(stream_id, frame, partial(settle, top))
        handle = Unsubscribe()
        deliver = self._deliver(stream_id, callback, after, top, handle)
        handle._task = loop.create_task(deliver, name=f"subscription {stream_id}")
        self._subscriptions.add(handle._task)
        handle._task.add_done_callback(self._subscriptions.discard)
        return handle

    async def _last_sequence(self, stream_id: str, top: asyncio.Future[Any] | None) -> int:
        entries = await top if top is not None else None
        if isinstance(entries, list):
            return sequence_of(entries[0][1]) if entries else 0
        info = await self._manager.get_info(stream_id)
        return 0 if info is None else info.last_sequence

    async def _deliver(
        self,
        stream_id: str,
        callback: Callback,
        after: StreamPosition | None,
        top: asyncio.Future[Any] | None,
        handle: Unsubscribe,
    ) -> None:
        pause = min(self._manager._cursor_context.block_timeout, 0.25)
        while not self._requests.closed:
            try:
                if after is None:
                    after = to_position(await self._last_sequence(stream_id, top))
                reader = await self._manager.create_resumable_reader(stream_id, from_sequence=after)
                if reader is None:
                    await asyncio.sleep(pause)
                    continue
                async with reader:
                    while True:
                        try:
                            stored = await reader.__anext__()
                        except StopAsyncIteration:
                            return
                        except MalformedChunkError as error:
                            self._errors.report(error)
                            continue
                        after = stored.position
                        await self._call(callback, stored)
                        if handle.called:
                            return
            except StoreConnectionError as error:
                self._errors.report(error)
                await asyncio.sleep(pause)
            except HelixError as error:
                self._errors.report(error)
                return

    async def _call(self, callback: Callback, stored: StoredChunk) -> None:
        try:
            result = callback(stored.chunk, stored.sequence)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as cause:
            if isinstance(cause, asyncio.CancelledError) and _is_cancelled():
                raise
            # a bug of the subscriber: reported; it still gets the following chunks
            error = HelixError(f"a subscriber of {stored.sequence} failed: {cause!r}")
            error.__cause__ = cause
            self._errors.report(error)

    async def get_metadata(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream, all of the same moment; None if it does not exist."""
        return await self._manager.get_info(stream_id)

    async def end(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream. Arguments and errors of ``RedisStreamManager.end_stream``."""
        await self._manager.end_stream(stream_id, output, fencing_token=fencing_token)

    async def fail(self, stream_id: str, error: str, *, fencing_token: int | None = None) -> None:
        """End a stream with an error. Arguments and errors of ``RedisStreamManager.fail_stream``."""
        await self._manager.fail_stream(stream_id, error, fencing_token=fencing_token)

    async def delete(self, stream_id: str) -> bool:
        """Delete a stream and everything that belongs to it; returns whether it existed."""
        return await self._manager.delete_stream(stream_id)

    @on_own_loop
    async def close(self) -> None:
        """End the subscriptions and close the store. Safe to call twice."""
        try:
            await cancel(*self._subscriptions)
        finally:
            try:
                if self._owns_manager:
                    await self._manager.close()
            finally:
                await super().close()


def _is_cancelled() -> bool:
    """Whether this task was cancelled, and not a future that it awaits. Python 3.10 cannot tell: then True."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


def _entries(encoded: Sequence[bytes], longest: int) -> list[bytes | int]:
    """The entries of chunks, flat: for each entry its number of chunks and its body."""
    entries: list[bytes | int] = []
    lines: list[bytes] = []
    size = 0
    for data in encoded:
        lines.append(data)
        size += len(data) + 1
        if size >= codec.MAX_BATCH_BYTES or len(lines) >= longest:
            entries += (len(lines), b"\n".join(lines))
            lines, size = [], 0
    if lines:
        entries += (len(lines), b"\n".join(lines))
    return entries
