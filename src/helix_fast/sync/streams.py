"""One file: written by .ci/make_sync.py from helix_fast.streams. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from helix_fast.streams import manager as _manager
from helix_fast.streams import storage as _storage

from .base import BlockingStore, listed
from .loop import call, run
from .reading import ReadingChunks, ReadingStored
from .subscription import Subscription
from .writing import Writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Unpack

    from helix_fast.index import IdPage
    from helix_fast.options import ConnectionOptions, ResumableOptions
    from helix_fast.streams.chunks import StreamChunk
    from helix_fast.streams.schema import StoredChunk, StreamInfo, StreamPosition
    from helix_fast.streams.storage import Callback


class StreamWriter(Writing):
    """Writes chunks to one stream; made by ``RedisStreamManager.create_writer``.

    Every chunk gets the next sequence of the stream. Chunks of one writer keep their order; those of several writers of
    a stream, here or in other processes, are interleaved. As a context manager it flushes and closes when left.

    A leased writer that is left by an exception, or dropped without ``close``, is a lost producer: nobody renews its
    lease any more, and readers get ProducerLostError when it has run out, unless the stream is ended or failed before,
    or another writer goes on.

    Attributes:
        stream_id, agent_id, agent_type: the arguments of ``create_writer``.
        epoch: the life of the stream that it writes to.
        stop_requested: A ``Flag``, set by ``request_stop``; ``stop_reason`` tells why.
    """

    @property
    def stream_id(self) -> str:
        """The arguments of ``create_writer``."""
        return self._async.stream_id

    @property
    def agent_id(self) -> str:
        """The arguments of ``create_writer``."""
        return self._async.agent_id

    @property
    def agent_type(self) -> str | None:
        """The arguments of ``create_writer``."""
        return self._async.agent_type

    @property
    def epoch(self) -> str:
        """The life of the stream that it writes to."""
        return self._async.epoch

    @property
    def stop_reason(self) -> str | None:
        """The reason given to ``request_stop``."""
        return self._async.stop_reason

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the stream's chunks in this process that are not acknowledged yet."""
        return self._async.buffered_bytes

    def write(self, chunk: StreamChunk | dict[str, Any]) -> int:
        """Write a chunk; returns its sequence once the server has acknowledged it.

        A write that raised a retryable error may have been stored: repeat it with the same chunk before anything else,
        and the writer finds out, so that it is stored once. A write that KeyboardInterrupt ended may be stored or not,
        once.

        Raises:
            MalformedChunkError, ChunkTooLargeError: nothing was sent, the writer goes on working.
            StreamClosedError: the stream ended, failed or was deleted, or this writer was closed.
            StreamResetError: the stream was reset.
            StaleFencingTokenError: a writer with a larger fencing token took over (StreamFencedError without a token).
            StoreConnectionError: the server could not be reached for the retry time.
            StoreResponseError: the server refuses writes (out of memory, no rights…).
            WriteOutcomeUnknownError: the reply was lost and the entry trimmed before it could be looked up.
        """
        return run(self._async.write(chunk))

    def write_many(self, chunks: Iterable[StreamChunk | dict[str, Any]]) -> int:
        """Write chunks in order; returns the sequence of the last once all are acknowledged.

        All of them are checked before the first is sent. Up to 64 KiB of them are stored at once, in one entry.

        Raises:
            InvalidArgumentError: there are none.
            Otherwise as ``write``; where it fails in between, the first ones may be stored.
        """
        return run(self._async.write_many(listed(chunks)))

    def send(self, chunk: StreamChunk | dict[str, Any]) -> None:
        """Write a chunk without waiting: it is buffered, in order with all others, and sent within ``linger_ms``.

        ``flush`` waits until it is stored. If the server cannot be reached for the retry time while no ``flush`` or
        ``write`` waits, ``on("error")`` gets the error, and the chunks are retried in the background. Chunks that can
        no longer be stored are in ``unsent`` of the error that ``flush`` or ``close`` raises and ``on("error")`` gets.

        Raises:
            MalformedChunkError, ChunkTooLargeError, or what ended the stream for this writer; see ``write``.
        """
        call(lambda: self._async.send(chunk))

    def send_thinking(self, text: str, *, is_complete: bool = False) -> None:
        """Write a piece of the model's reasoning without waiting: a ``thinking`` chunk. Otherwise as ``send``.

        Args:
            is_complete: it is the last piece.
        """
        call(lambda: self._async.send_thinking(text, is_complete=is_complete))

    def drain(self) -> None:
        """Wait while more than ``max_buffered_bytes`` are not acknowledged yet. For a sender faster than the server.

        Raises:
            The same errors as ``flush``.
        """
        run(self._async.drain())

    def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            What keeps it from being stored; see ``write``. After a retryable error the chunks are still there, and the
            next ``flush`` tries again.
        """
        run(self._async.flush())

    def end(self, output: Any = None) -> None:
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
        run(self._async.end(output))

    def fail(self, error: str | BaseException) -> None:
        """Flush, end the stream with an error, and close the writer. Readers get StreamFailedError. Else as ``end``."""
        run(self._async.fail(error))

    def close(self) -> None:
        """Flush and give up the lease; the stream stays open for other writers. Safe to call twice.

        Raises:
            As ``flush``; the writer is closed all the same.
        """
        run(self._async.close())


class StreamReader(ReadingChunks):
    """Yields the chunks of a stream, from the first that is kept, then live, until the stream ends.

    Raises, while iterating:
        StreamFailedError: the stream failed; after its last chunk.
        ProducerLostError: the producer's lease ran out without an end.
        StreamResetError: the stream was reset under the reader.
        StreamDeletedError: it was deleted or expired, or the server came back without it.
        SequenceGapError: chunks in between were lost by the server, or trimmed before they were read.
        MalformedChunkError: bytes that are no chunk; the next step goes on behind them.
        MalformedStreamError: what is stored is no stream of ours.
        StoreConnectionError: the server could not be reached for the retry time; the next step tries again.
        ReaderBusyError: another thread waits for the next chunk.
    """

    @property
    def stream_id(self) -> str:
        """The stream that is read."""
        return self._async.stream_id

    @property
    def epoch(self) -> str:
        """The life of the stream that is read."""
        return self._async.epoch


class ResumableReader(ReadingStored):
    """Yields ``StoredChunk(chunk, sequence, epoch)`` from a position on, then live, until the stream ends.

    ``str(stored.position)`` is what a client sends back as ``Last-Event-ID``. Raises as
    StreamReader; with ``on_gap="skip"`` no SequenceGapError.
    """

    @property
    def stream_id(self) -> str:
        """The stream that is read."""
        return self._async.stream_id

    @property
    def epoch(self) -> str:
        """The life of the stream that is read."""
        return self._async.epoch


class RedisStreamManager(BlockingStore["_manager.RedisStreamManager"]):
    """Streams on Redis Streams: token by token in, resumable at any sequence out.

    Args:
        redis, client, host, port, username, password, db, key_prefix, logger, wait_replicas, topology: see RedisStore.
        max_stream_length: chunks that a stream keeps at least; it keeps up to 10 % and a batch more. None or 0: all.
        block_timeout: milliseconds of silence after which a reader reads the log without waiting for a push.
        ttl: seconds from the last write, or from the last renewal by an open writer, until a stream expires. None or
            0: it is kept until it is deleted.
        lease_ms: default of ``create_writer``; None: no lease, so that readers do not notice a producer that died.
        linger_ms: milliseconds for which ``send`` gathers chunks; 0 sends them in the same turn of the background event
            loop.
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
        self._async = _manager.RedisStreamManager(
            redis,
            key_prefix=key_prefix,
            max_stream_length=max_stream_length,
            block_timeout=block_timeout,
            ttl=ttl,
            lease_ms=lease_ms,
            linger_ms=linger_ms,
            max_chunk_bytes=max_chunk_bytes,
            max_buffered_bytes=max_buffered_bytes,
            loss_memory_s=loss_memory_s,
            seal_after=seal_after,
            **connection,
        )

    @property
    def max_stream_length(self) -> int:
        """Chunks that a stream keeps at least; it keeps up to 10 % and a batch more. None or 0: all."""
        return self._async.max_stream_length

    @property
    def ttl(self) -> int:
        """``ttl``, see the class."""
        return self._async.ttl

    def create_writer(
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
        return StreamWriter._over(
            run(
                self._async.create_writer(
                    stream_id,
                    agent_id,
                    agent_type,
                    fencing_token=fencing_token,
                    lease_ms=lease_ms,
                    max_length=max_length,
                )
            )
        )

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
        for chunk, sequence, _epoch in helix.streams.read("run-1", wait_ms=10_000):
            print(sequence, chunk)
        ```

        Args:
            wait_ms: milliseconds to wait for a stream that does not exist yet; None or 0: not at all.
            from_sequence, epoch, on_gap: see ``create_resumable_reader``.

        Raises:
            InvalidIdError, InvalidArgumentError. While iterating: StreamNotFoundError if the stream does not exist,
                SequenceGapError and StreamResetError as ``create_resumable_reader``, and the errors of StreamReader.
        """
        return ResumableReader._over(
            call(
                lambda: self._async.read(
                    stream_id, from_sequence=from_sequence, epoch=epoch, wait_ms=wait_ms, on_gap=on_gap
                )
            )
        )

    def create_reader(self, stream_id: str, *, wait_ms: float | None = None) -> StreamReader | None:
        """A reader that begins with the first chunk still kept; None if the stream does not exist.

        None cannot say what is missing in a ``with``: where a missing stream is an error, use ``read``.

        Args:
            wait_ms: milliseconds to wait for a stream that does not exist yet; None or 0: not at all.

        Raises:
            InvalidIdError, InvalidArgumentError, StoreConnectionError; while iterating see StreamReader.
        """
        return StreamReader._over_any(run(self._async.create_reader(stream_id, wait_ms=wait_ms)))

    def create_resumable_reader(
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
        return ResumableReader._over_any(
            run(
                self._async.create_resumable_reader(
                    stream_id, from_sequence=from_sequence, epoch=epoch, on_gap=on_gap, wait_ms=wait_ms
                )
            )
        )

    def exists(self, stream_id: str) -> bool:
        """Whether there is such a stream, ended ones included. Raises InvalidIdError, StoreConnectionError."""
        return run(self._async.exists(stream_id))

    def list_streams(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
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
        return run(self._async.list_streams(limit=limit, cursor=cursor))

    def end_stream(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream: readers stop after its last chunk, writers are refused. Ending it twice is no error.

        Args:
            output: any JSON value, returned by ``get_info``.
            fencing_token: refused if the stream has seen a larger one.

        Raises:
            StreamNotFoundError, StreamClosedError (it has failed), StaleFencingTokenError, InvalidArgumentError.
        """
        run(self._async.end_stream(stream_id, output, fencing_token=fencing_token))

    def fail_stream(self, stream_id: str, error: str | BaseException, *, fencing_token: int | None = None) -> None:
        """End a stream with an error: readers get StreamFailedError after its last chunk. Else as ``end_stream``."""
        run(self._async.fail_stream(stream_id, error, fencing_token=fencing_token))

    def pause_stream(self, stream_id: str) -> None:
        """Mark a stream paused: its silence is intended. Readers go on waiting, whatever becomes of the lease.

        Writes are accepted as before.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        run(self._async.pause_stream(stream_id))

    def resume_stream(self, stream_id: str) -> None:
        """Mark a paused stream active. Raises as ``pause_stream``."""
        run(self._async.resume_stream(stream_id))

    def request_stop(self, stream_id: str, reason: str | None = None) -> None:
        """Ask the writers of a stream to stop, in all processes: sets their ``stop_requested``. It cannot be undone.

        Raises:
            StreamNotFoundError, StreamClosedError.
        """
        run(self._async.request_stop(stream_id, reason))

    def seal_stream(self, stream_id: str) -> bool:
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
        return run(self._async.seal_stream(stream_id))

    def reset_stream(self, stream_id: str, *, fencing_token: int | None = None) -> str:
        """Delete a stream's chunks and begin a new epoch, which is returned. Sequences go on growing.

        Open readers and writers get StreamResetError.

        Raises:
            StreamNotFoundError, StaleFencingTokenError.
        """
        return run(self._async.reset_stream(stream_id, fencing_token=fencing_token))

    def delete_stream(self, stream_id: str) -> bool:
        """Delete a stream and everything that belongs to it; returns whether it existed.

        Open readers and writers get StreamDeletedError. A writer does not create it again.
        """
        return run(self._async.delete_stream(stream_id))

    def get_info(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream, all of the same moment; None if it does not exist.

        Raises:
            MalformedStreamError: what is stored is no stream of ours. InvalidIdError, StoreConnectionError.
        """
        return run(self._async.get_info(stream_id))

    def close(self) -> None:
        """Close the store, its readers and its writers. Chunks that were sent and not flushed may be lost."""
        run(self._async.close())


class RedisResumableStorage(BlockingStore["_storage.RedisResumableStorage"]):
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
        self._async = _storage.RedisResumableStorage(
            redis, key_prefix=key_prefix, manager=None if manager is None else manager._async, **options
        )

    def create(self, stream_id: str, *, fencing_token: int | None = None) -> StreamInfo:
        """Create a stream; an existing one is left unchanged.

        Raises:
            StreamClosedError: it has ended or failed.
            MalformedStreamError: what is stored is no stream of ours.
            StaleFencingTokenError, InvalidIdError, StoreConnectionError.
        """
        return run(self._async.create(stream_id, fencing_token=fencing_token))

    def append(
        self, stream_id: str, chunk: StreamChunk | dict[str, Any], sequence: int, *, fencing_token: int | None = None
    ) -> None:
        """Append a chunk as ``sequence``. A repeated call with the same bytes as the last chunk changes nothing.

        A struct without ``timestamp`` stays without one, so that a repeated call has the same bytes.

        Raises:
            SequenceConflictError: ``sequence`` is not the stream's next one.
            StreamNotFoundError, StreamClosedError, StaleFencingTokenError, MalformedStreamError.
            MalformedChunkError, ChunkTooLargeError, InvalidArgumentError: nothing was sent.
        """
        run(self._async.append(stream_id, chunk, sequence, fencing_token=fencing_token))

    def append_many(
        self,
        stream_id: str,
        chunks: Sequence[StreamChunk | dict[str, Any]],
        first_sequence: int,
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Append chunks from ``first_sequence`` on, all or none. No chunks: nothing is sent. Errors of ``append``."""
        run(self._async.append_many(stream_id, chunks, first_sequence, fencing_token=fencing_token))

    def read_from(
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
        return run(self._async.read_from(stream_id, from_sequence, limit))

    def subscribe(
        self, stream_id: str, callback: Callback, *, from_sequence: int | str | StreamPosition | None = None
    ) -> Subscription:
        """Call ``callback(chunk, sequence)`` for each chunk, in order, one at a time, in a thread of the subscription.

        An error of the callback goes to ``on("error")``, and the next chunk follows. An error that ends the
        subscription before the end of the stream goes there too. If the stream does not exist yet, the subscription
        waits for it.

        Args:
            from_sequence: the last sequence seen, or a position; None: only chunks that are written from now on.

        Returns:
            A Subscription: calling it ends the subscription and waits until no callback runs;
            ``wait()`` waits for the end of the stream.

        Raises:
            InvalidIdError, InvalidArgumentError.
        """
        return Subscription(self._async, stream_id, callback, from_sequence)

    def get_metadata(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream, all of the same moment; None if it does not exist."""
        return run(self._async.get_metadata(stream_id))

    def end(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream. Arguments and errors of ``RedisStreamManager.end_stream``."""
        run(self._async.end(stream_id, output, fencing_token=fencing_token))

    def fail(self, stream_id: str, error: str, *, fencing_token: int | None = None) -> None:
        """End a stream with an error. Arguments and errors of ``RedisStreamManager.fail_stream``."""
        run(self._async.fail(stream_id, error, fencing_token=fencing_token))

    def delete(self, stream_id: str) -> bool:
        """Delete a stream and everything that belongs to it; returns whether it existed."""
        return run(self._async.delete(stream_id))

    def close(self) -> None:
        """End the subscriptions and close the store. Safe to call twice."""
        run(self._async.close())
