"""StreamWriter: what an agent writes a stream with. Encodes chunks and checks their size; the appender sends them."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from helix_fast import codec
from helix_fast.errors import (
    ChunkTooLargeError,
    HelixError,
    InvalidArgumentError,
    MalformedChunkError,
    StreamClosedError,
)
from helix_fast.transport.binding import running_loop

from .appender import Appender
from .chunks import StreamChunk, TextDeltaChunk, ThinkingChunk, encode_chunk
from .until_stopped import UntilStopped

T = TypeVar("T")
Self = TypeVar("Self", bound="StreamWriter")


class StreamWriter:
    """Writes chunks to one stream; made by ``RedisStreamManager.create_writer``.

    Every chunk gets the next sequence of the stream. Chunks of one writer keep their order; those of several writers of
    a stream, here or in other processes, are interleaved. As an async context manager it flushes and closes when left.

    A leased writer that is left by an exception, or dropped without ``close``, is a lost producer: nobody renews its
    lease any more, and readers get ProducerLostError when it has run out, unless the stream is ended or failed before,
    or another writer goes on.

    Attributes:
        stream_id, agent_id, agent_type: the arguments of ``create_writer``.
        epoch: the life of the stream that it writes to.
        stop_requested: an ``asyncio.Event``, set by ``request_stop``; ``stop_reason`` tells why.
    """

    def __init__(
        self,
        appender: Appender,
        agent_id: str,
        agent_type: str | None,
        *,
        max_chunk_bytes: int,
        max_buffered_bytes: int,
        finish: Callable[[Appender, str, Any], Awaitable[None]],
        leave: Callable[..., Awaitable[None]],
        drop: Callable[[Appender], None],
        report: Callable[[HelixError], None],
    ) -> None:
        self.stream_id: str = appender.stream_id
        self.agent_id = agent_id
        self.agent_type = agent_type
        self.epoch: str = appender.terms.epoch
        self._appender = appender
        self._encoder = codec.ChunkEncoder(agent_id, agent_type)
        self._max_chunk_bytes = max_chunk_bytes
        # JSON needs at most 6 bytes a character; text below this needs no look at its encoded size
        self._surely_small = max(0, (max_chunk_bytes - 6 * len(agent_id) - 6 * len(agent_type or "") - 256) // 6)
        self._max_buffered_bytes = max_buffered_bytes
        self._finish = finish
        self._leave = leave
        self._drop = drop
        self._report = report
        self._closed = self._left = False
        self._leaves_lease = False
        self._closing: asyncio.Task[None] | None = None
        self._binding = appender.topology.binding
        self._loop = self._binding.check()

    @property
    def stop_requested(self) -> asyncio.Event:
        """Set by ``request_stop`` for the stream; the writer may finish its work."""
        return self._appender.stop_requested

    @property
    def stop_reason(self) -> str | None:
        """The reason given to ``request_stop``."""
        return self._appender.stop_reason

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the stream's chunks in this process that are not acknowledged yet."""
        return self._appender.buffered_bytes

    async def write(self, chunk: StreamChunk | dict[str, Any]) -> int:
        """Write a chunk; returns its sequence once the server has acknowledged it.

        A write that raised a retryable error may have been stored: repeat it with the same chunk before anything else,
        and the writer finds out, so that it is stored once. A cancelled write may be stored or not, once.

        Raises:
            MalformedChunkError, ChunkTooLargeError: nothing was sent, the writer goes on working.
            StreamClosedError: the stream ended, failed or was deleted, or this writer was closed.
            StreamResetError: the stream was reset.
            StaleFencingTokenError: a writer with a larger fencing token took over (StreamFencedError without a token).
            StoreConnectionError: the server could not be reached for the retry time.
            StoreResponseError: the server refuses writes (out of memory, no rights…).
            WriteOutcomeUnknownError: the reply was lost and the entry trimmed before it could be looked up.
        """
        write = self._appender.put(self._encode(chunk), chunk, self._encoder)
        try:
            return await write.future
        except BaseException:  # also where it was cancelled: the batch may be on its way
            write.task = asyncio.current_task()
            raise

    async def write_many(self, chunks: Iterable[StreamChunk | dict[str, Any]]) -> int:
        """Write chunks in order; returns the sequence of the last once all are acknowledged.

        All of them are checked before the first is sent. Up to 64 KiB of them are stored at once, in one entry.

        Raises:
            InvalidArgumentError: there are none.
            Otherwise as ``write``; where it fails in between, the first ones may be stored.
        """
        try:
            original = list(chunks)
        except TypeError as error:
            raise InvalidArgumentError(f"write_many needs an iterable of chunks: {error}") from error
        if not original:
            raise InvalidArgumentError("write_many needs at least one chunk")
        encoded = [self._encode(original[0])]
        encode, now = self._encode, int(time.time() * 1000)
        encoded += [encode(chunk, now) for chunk in original[1:]]
        write = self._appender.put_many(encoded, original, self._encoder)
        try:
            return await write.future
        except BaseException:  # also where it was cancelled: the batch may be on its way
            write.task = asyncio.current_task()
            raise

    def send(self, chunk: StreamChunk | dict[str, Any]) -> None:
        """Write a chunk without waiting: it is buffered, in order with all others, and sent within ``linger_ms``.

        ``flush`` waits until it is stored. If the server cannot be reached for the retry time while no ``flush`` or
        ``write`` waits, ``on("error")`` gets the error, and the chunks are retried in the background. Chunks that can
        no longer be stored are in ``unsent`` of the error that ``flush`` or ``close`` raises and ``on("error")`` gets.

        Raises:
            MalformedChunkError, ChunkTooLargeError, or what ended the stream for this writer; see ``write``.
        """
        data = self._encode(chunk)
        appender = self._appender
        if appender.closed:
            appender.check_open()
        appender.send(data)

    def send_text(self, delta: str) -> None:
        """Write a ``text_delta`` without waiting; the fast way for tokens. Otherwise as ``send``."""
        if self._closed:
            self._check_loop()
            raise StreamClosedError(self.stream_id, "closed")
        now = time.time()
        try:
            if len(delta) > self._surely_small:
                self._check_size(len(self._encoder.encode_text(delta, int(now * 1000))))
            self._appender.send_text(self._encoder, delta, now)
        except (ValueError, TypeError) as error:
            if isinstance(error, HelixError):
                raise
            raise MalformedChunkError(None, delta, str(error)) from error

    def send_thinking(self, text: str, *, is_complete: bool = False) -> None:
        """Write a piece of the model's reasoning without waiting: a ``thinking`` chunk. Otherwise as ``send``.

        Args:
            is_complete: it is the last piece.
        """
        self.send(ThinkingChunk(content=text, is_complete=is_complete))

    def until_stopped(self, source: AsyncIterable[T]) -> UntilStopped[T]:
        """The items of ``source``, until somebody asks the writers of the stream to stop (``request_stop``).

        Then a source that waits, as for a model's next token, is cancelled. It is closed (``aclose()`` or ``close()``),
        and the loop ends; ``stopped`` of the iterator tells that it was for this reason, ``stop_reason`` what for.

        ```python
        async for token in writer.until_stopped(model.stream(prompt)):
            writer.send_text(token)
        ```

        Raises:
            InvalidArgumentError: ``source`` is no async iterable. While iterating: what the source raises.
        """
        return UntilStopped(source, self._appender.stop_requested)

    async def drain(self) -> None:
        """Wait while more than ``max_buffered_bytes`` are not acknowledged yet. For a sender faster than the server.

        Raises:
            The same errors as ``flush``.
        """
        self._check_loop()
        if self._appender.buffered_bytes > self._max_buffered_bytes:
            await self._appender.flush()

    async def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            What keeps it from being stored; see ``write``. After a retryable error the chunks are still there, and the
            next ``flush`` tries again.
        """
        self._check_loop()
        await self._appender.flush()

    async def end(self, output: Any = None) -> None:
        """Flush, end the stream, and close the writer. Readers stop after the last chunk.

        It ends the stream for all its writers, but only the stream that this writer has opened: not a later one of that
        id. Ending it twice is no error.

        Args:
            output: any JSON value, returned by ``get_info``.

        Raises:
            As ``flush``; then the writer is still open, and the call can be repeated.
            InvalidArgumentError: ``output`` cannot be written as JSON.
            StreamClosedError: the stream has failed, or was deleted. StreamResetError: it was reset.
            StaleFencingTokenError, StreamFencedError: another writer took over.
        """
        await self._end("ended", output)

    async def fail(self, error: str | BaseException) -> None:
        """Flush, end the stream with an error, and close the writer. Readers get StreamFailedError. Else as ``end``."""
        await self._end("failed", error)

    async def _end(self, status: str, value: Any) -> None:
        self._check_loop()
        await self._appender.flush()
        await self._finish(self._appender, status, value)
        self._leaves_lease = True  # the end has taken it
        await self.close()

    async def close(self) -> None:
        """Flush and give up the lease; the stream stays open for other writers. Safe to call twice.

        Raises:
            As ``flush``; the writer is closed all the same.
        """
        self._closed = True
        if running_loop() is not self._loop or self._binding.loop is not self._loop:
            await self._close_elsewhere()
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        # a cancelled close() goes on in the background, and the next one waits for it
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._appender.flush()
        finally:
            self._left = True
            await self._leave(self._appender, keep_lease=self._leaves_lease)

    async def _close_elsewhere(self) -> None:
        """Close the writer of a closed event loop: the lease is given up, what was not stored by then is lost."""
        if self._binding.forked:
            return  # it is the parent's
        self._binding.check()
        if not self._left:
            self._left = True
            await self._leave(self._appender, keep_lease=self._leaves_lease)
            await self._appender.flush()  # raises what is lost

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, kind: object, value: BaseException | None, _traceback: object) -> None:
        self._leaves_lease = self._leaves_lease or value is not None
        try:
            await self.close()
        except HelixError as error:
            if value is None:
                raise
            self._report(error)  # the body's own exception matters more

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not self._appender.alive:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        # a garbage collector may run in any thread
        self._loop.call_soon_threadsafe(self._drop, self._appender)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.stream_id!r} by {self.agent_id!r}>"

    def _check_loop(self) -> None:
        self._binding.check_part(self._loop, "writer")

    def _encode(self, chunk: StreamChunk | dict[str, Any], now: int | None = None) -> bytes:
        """A chunk as JSON. With ``now``, Unix milliseconds, the caller has encoded another one in this turn."""
        if now is None:
            if running_loop() is not self._loop or self._binding.loop is not self._loop:
                self._check_loop()
            if self._closed:
                raise StreamClosedError(self.stream_id, "closed")
        if (
            type(chunk) is TextDeltaChunk
            and chunk.agent_id is None
            and chunk.agent_type is None
            and chunk.step is None
            and chunk.extra is msgspec.UNSET
            and type(chunk.delta) is str
        ):
            timestamp = chunk.timestamp
            if timestamp is None:
                timestamp = int(time.time() * 1000) if now is None else now
            try:
                data = self._encoder.encode_text(chunk.delta, timestamp)
            except (ValueError, TypeError) as error:
                raise MalformedChunkError(None, chunk, str(error)) from error
        else:
            if now is None:
                now = 0 if isinstance(chunk, dict) else int(time.time() * 1000)  # a dict goes out as it is
            data = encode_chunk(chunk, self.agent_id, self.agent_type, now)
        if len(data) > self._max_chunk_bytes:
            self._check_size(len(data))
        return data

    def _check_size(self, size: int) -> None:
        if size > self._max_chunk_bytes:
            raise ChunkTooLargeError(size, self._max_chunk_bytes)
