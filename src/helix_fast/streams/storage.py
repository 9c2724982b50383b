"""RedisResumableStorage: the log of a stream by sequence, for callers that number chunks themselves."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Final

from helix_fast import arguments, codec
from helix_fast.codec.plain.append import MAX_BATCH_BYTES
from helix_fast.errors import (
    ChunkTooLargeError,
    HelixError,
    InvalidArgumentError,
    MalformedChunkError,
    SequenceConflictError,
    StaleFencingTokenError,
    StoreClosedError,
    StoreConnectionError,
    StreamClosedError,
    StreamNotFoundError,
)
from helix_fast.keys import StreamKeys, check_id
from helix_fast.lua import script
from helix_fast.transport.lane import settle

from .chunks import StreamChunk, encode_chunk
from .cursor import Feed
from .entries import sequence_of
from .manager import RedisStreamManager
from .schema import StoredChunk, StreamInfo
from .write_buffer import batch_limit

_OPEN: Final = script("streams", "stream_open")
_PUT: Final = script("streams", "stream_put")
Callback = Callable[[StreamChunk, int], object]


class Unsubscribe:
    """Ends a subscription when called. The result may be awaited: then no callback runs any more."""

    _task: asyncio.Task[None]

    def __init__(self) -> None:
        self.called = False

    def __call__(self) -> asyncio.Future[Any]:
        """End the subscription."""
        self.called = True  # chunks that are there already are delivered without a turn of the loop for a cancellation
        loop = self._task.get_loop()
        if asyncio.current_task(loop) is self._task:
            done = loop.create_future()  # the callback itself: it is the last that runs, and must not wait for itself
            done.set_result(None)
            return done
        self._task.cancel()
        return asyncio.gather(self._task, return_exceptions=True)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until the stream has ended and its last chunk was delivered."""
        yield from asyncio.wait([self._task]).__await__()


class RedisResumableStorage(RedisStreamManager):
    """Chunks stored and read by sequence, on the same keys and entries as RedisStreamManager.

    Arguments as RedisStreamManager's.
    """

    def __init__(self, redis: Any = None, **options: Any) -> None:
        super().__init__(redis, **options)
        self._subscriptions: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()

    async def create(self, stream_id: str, *, fencing_token: int | None = None) -> StreamInfo:
        """Create a stream; one that exists is left as it is.

        Raises:
            StreamClosedError: it has ended or failed.
            StaleFencingTokenError, InvalidIdError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        token = arguments.token(fencing_token)
        reply = await self.run(
            _OPEN,
            stream_id,
            (keys.stream, keys.meta, keys.lease),
            (b"", token, 0, self.ttl, await self.publish_word(), keys.channel),
        )
        if reply[0] == b"closed":
            raise StreamClosedError(stream_id, reply[1].decode())
        if reply[0] == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))
        info = await self.get_info(stream_id)
        if info is None:
            raise StreamNotFoundError(stream_id)
        return info

    async def append(
        self, stream_id: str, chunk: StreamChunk | dict[str, Any], sequence: int, *, fencing_token: int | None = None
    ) -> None:
        """Append a chunk as ``sequence``. The same bytes at the last sequence again are no error and change nothing.

        A struct without ``timestamp`` gets none here, so that a repeated call has the same bytes.

        Raises:
            SequenceConflictError: ``sequence`` is not the stream's next one.
            StreamNotFoundError, StreamClosedError, StaleFencingTokenError.
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
        """Append chunks from ``first_sequence`` on, all or none; nothing for no chunks. Else as ``append``."""
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
        longest = batch_limit(self.max_stream_length)
        reply = await self.run(
            _PUT,
            stream_id,
            (keys.stream, keys.meta, keys.lease),
            (
                first_sequence,
                token,
                self.ttl,
                self.max_stream_length,
                longest,
                await self.publish_word(),
                keys.channel,
                *_entries(encoded, longest),
            ),
        )
        kind = reply[0]
        if kind == b"conflict":
            raise SequenceConflictError(int(reply[1]), first_sequence)
        if kind == b"none":
            raise StreamNotFoundError(stream_id)
        if kind == b"closed":
            raise StreamClosedError(stream_id, reply[1].decode())
        if kind == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))

    def _encode(self, chunk: StreamChunk | dict[str, Any], sequence: int) -> bytes:
        try:
            data = encode_chunk(chunk)
        except MalformedChunkError as error:
            error.sequence = sequence
            raise
        if len(data) > self._max_chunk_bytes:
            raise ChunkTooLargeError(len(data), self._max_chunk_bytes)
        return data

    async def read_from(self, stream_id: str, from_sequence: int = 0, limit: int | None = None) -> list[StoredChunk]:
        """The stored chunks after ``from_sequence``, at most ``limit``; none where there is no such stream.

        Raises:
            SequenceGapError: some of them are no longer kept.
            StreamResetError: the stream was reset after ``from_sequence``.
            MalformedChunkError: bytes that are no chunk.
            InvalidIdError, InvalidArgumentError, StoreConnectionError.
        """
        keys = StreamKeys(self.key_prefix, stream_id)
        arguments.integer(from_sequence, "from_sequence")
        left = arguments.MAX_EXACT if limit is None else arguments.integer(limit, "limit")
        feed = Feed(self._source, stream_id, keys, after=from_sequence, epoch=None, skip_gaps=False)
        found: list[StoredChunk] = []
        while left > len(found):
            page = await feed.stored()
            if page is None:
                break
            first, chunks, faulty = page
            chunks = chunks[: left - len(found)]
            if faulty:
                for chunk in chunks:
                    if isinstance(chunk, MalformedChunkError):
                        raise chunk
            found += codec.number_chunks(StoredChunk, chunks, first, feed.epoch)
        return found

    def subscribe(self, stream_id: str, callback: Callback, *, from_sequence: int | None = None) -> Unsubscribe:
        """Call ``callback(chunk, sequence)`` for each chunk, in order, one at a time; it may be a coroutine function.

        A callback that raises is reported through ``on("error")``, and the next chunk comes all the same. So is what
        ends the subscription before the stream's end. A stream that does not exist yet is waited for.

        Args:
            from_sequence: the last sequence seen; None for only what is written from now on.

        Returns:
            a callable that ends the subscription; what it returns may be awaited.

        Raises:
            InvalidIdError, InvalidArgumentError.
        """
        check_id(stream_id, "stream_id")
        if from_sequence is not None:
            arguments.integer(from_sequence, "from_sequence")
        if not callable(callback):
            raise InvalidArgumentError("callback must be callable")
        if self.closed:
            raise StoreClosedError("the store is closed")
        loop = asyncio.get_running_loop()
        top: asyncio.Future[Any] | None = None
        if from_sequence is None:
            # Asked now: a chunk that the caller writes next is written after the answer.
            top = loop.create_future()
            keys = StreamKeys(self.key_prefix, stream_id)
            frame = codec.frame_command((b"XREVRANGE", keys.stream, b"+", b"-", b"COUNT", b"1"))
            self._topology.send(stream_id, frame, partial(settle, top))
        handle = Unsubscribe()
        deliver = self._deliver(stream_id, callback, from_sequence, top, handle)
        handle._task = loop.create_task(deliver, name=f"subscription {stream_id}")
        self._subscriptions.add(handle._task)
        return handle

    async def _last_sequence(self, stream_id: str, top: asyncio.Future[Any] | None) -> int:
        entries = await top if top is not None else None
        if isinstance(entries, list):
            return sequence_of(entries[0][1]) if entries else 0
        info = await self.get_info(stream_id)
        return 0 if info is None else info.last_sequence

    async def _deliver(
        self,
        stream_id: str,
        callback: Callback,
        from_sequence: int | None,
        top: asyncio.Future[Any] | None,
        handle: Unsubscribe,
    ) -> None:
        while not self.closed:
            try:
                if from_sequence is None:
                    from_sequence = await self._last_sequence(stream_id, top)
                reader = await self.create_resumable_reader(stream_id, from_sequence=from_sequence)
                if reader is None:
                    await asyncio.sleep(min(self._source.block_timeout, 0.25))
                    continue
                async with reader:
                    while True:
                        try:
                            stored = await reader.__anext__()
                        except StopAsyncIteration:
                            return
                        except MalformedChunkError as error:
                            self.report(error)
                            continue
                        from_sequence = stored.sequence
                        await self._call(callback, stored)
                        if handle.called:
                            return
            except StoreConnectionError as error:
                self.report(error)
                await asyncio.sleep(min(self._source.block_timeout, 0.25))
            except HelixError as error:
                self.report(error)
                return

    async def _call(self, callback: Callback, stored: StoredChunk) -> None:
        try:
            result = callback(stored.chunk, stored.sequence)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as cause:
            if isinstance(cause, asyncio.CancelledError) and _is_cancelled():
                raise
            # the subscriber's own bug: told, and no reason to keep the following chunks from it
            error = HelixError(f"a subscriber of {stored.sequence} failed: {cause!r}")
            error.__cause__ = cause
            self.report(error)

    async def get_metadata(self, stream_id: str) -> StreamInfo | None:
        """What is known of a stream; see ``RedisStreamManager.get_info``."""
        return await self.get_info(stream_id)

    async def end(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream; see ``RedisStreamManager.end_stream``."""
        await self.end_stream(stream_id, output, fencing_token=fencing_token)

    async def fail(self, stream_id: str, error: str, *, fencing_token: int | None = None) -> None:
        """Fail a stream; see ``RedisStreamManager.fail_stream``."""
        await self.fail_stream(stream_id, error, fencing_token=fencing_token)

    async def delete(self, stream_id: str) -> bool:
        """Delete a stream; see ``RedisStreamManager.delete_stream``."""
        return await self.delete_stream(stream_id)

    async def close(self) -> None:
        """Close the store and end its subscriptions."""
        tasks = list(self._subscriptions)
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await super().close()


def _is_cancelled() -> bool:
    """Whether this task is to end, and not something that it waits for."""
    cancelling = getattr(
        asyncio.current_task(), "cancelling", None
    )  # Python 3.11; before, one cannot be told from the other
    return cancelling is None or cancelling() > 0


def _entries(encoded: Sequence[bytes], longest: int) -> list[bytes | int]:
    """Chunks as pairs of (chunks in the entry, body of the entry)."""
    entries: list[bytes | int] = []
    lines: list[bytes] = []
    size = 0
    for data in encoded:
        lines.append(data)
        size += len(data) + 1
        if size >= MAX_BATCH_BYTES or len(lines) >= longest:
            entries += (len(lines), b"\n".join(lines))
            lines, size = [], 0
    if lines:
        entries += (len(lines), b"\n".join(lines))
    return entries
