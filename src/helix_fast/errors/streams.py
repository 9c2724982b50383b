"""Errors of streams, and the stale fencing token."""

from __future__ import annotations

from collections.abc import Sequence

from .base import HelixError


class StreamError(HelixError):
    """Base of the errors of one stream."""

    code = "stream_error"


class SequenceConflictError(StreamError):
    """A chunk with another sequence than the stream's next one; nothing was written."""

    code = "sequence_conflict"

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"expected sequence {expected}, got {actual}",
            hint="read the stream's last sequence and continue from there; another writer may be at work",
        )
        self.expected = expected
        self.actual = actual


class MalformedChunkError(StreamError, ValueError):
    """Bytes or an object that are no valid chunk.

    Attributes:
        sequence: its place in the stream, or None if it was never written.
        data: the offending bytes or object.
    """

    code = "malformed_chunk"

    def __init__(self, sequence: int | None, data: object, reason: str = "not a valid chunk") -> None:
        where = "" if sequence is None else f" at sequence {sequence}"
        super().__init__(f"malformed chunk{where}: {reason}", hint="a chunk is a JSON object with a string 'type'")
        self.sequence = sequence
        self.data = data


class MalformedStreamError(StreamError, ValueError):
    """What is stored under a stream's key is no stream of ours; ``key`` names the key."""

    code = "malformed_stream"
    default_hint = "something else writes to this key; docs/wire-format.md says what a stream is"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key


class ChunkTooLargeError(StreamError, ValueError):
    """An encoded chunk is larger than ``max_chunk_bytes``; nothing was sent."""

    code = "chunk_too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"chunk of {size} bytes exceeds {limit}", hint="split the chunk or raise max_chunk_bytes")
        self.size = size
        self.limit = limit


class StreamClosedError(StreamError):
    """The stream has ended, failed or is gone, or the writer was closed.

    Attributes:
        status: ``ended``, ``failed``, ``deleted`` or ``closed`` (only this writer is).
        unsent: encoded chunks that ``send`` accepted and that were never stored, oldest first.
    """

    code = "stream_closed"

    def __init__(self, stream_id: str, status: str, unsent: Sequence[bytes] = ()) -> None:
        message = f"stream {stream_id!r} is {status}"
        hint = "reset_stream() starts the stream over"
        if status == "closed":
            message, hint = f"this writer is closed, of stream {stream_id!r}", "open another one with create_writer()"
        elif status == "deleted":
            hint = "create_writer() begins another stream of that id"
        super().__init__(message, hint=hint)
        self.stream_id = stream_id
        self.status = status
        self.unsent: tuple[bytes, ...] = tuple(unsent)


class StreamDeletedError(StreamClosedError):
    """The stream was deleted or expired, or its server lost it."""

    code = "stream_deleted"

    def __init__(self, stream_id: str, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(stream_id, "deleted", unsent)


class StreamNotFoundError(StreamError):
    """The operation needs a stream that does not exist."""

    code = "stream_not_found"

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"no stream {stream_id!r}", hint="create it with create_writer() or create()")
        self.stream_id = stream_id


class SequenceGapError(StreamError):
    """The requested chunks were trimmed, or the server lost them; or it lost those up to the requested position.

    Attributes:
        requested: the requested position: the last sequence seen.
        first_available: the first sequence that can still be read. Where it is not above ``requested``, the chunks from
            it to ``requested`` were lost, and others may have been written in their place.
        last_available: the last sequence of the log where the position is not a place in it, else None.
    """

    code = "sequence_gap"

    def __init__(self, requested: int, first_available: int, last_available: int | None = None) -> None:
        lost = first_available <= requested
        super().__init__(
            f"chunks {first_available}..{requested} were lost by the server"
            if lost
            else f"chunks {requested + 1}..{first_available - 1} are not available",
            hint="take a fresh snapshot and resume there, or pass on_gap='skip'",
        )
        self.requested = requested
        self.first_available = first_available
        self.last_available = last_available


class StreamResetError(StreamError):
    """The stream was reset to a new epoch; the position or writer belongs to an older one."""

    code = "stream_reset"

    def __init__(self, current_epoch: str, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(
            f"the stream was reset; its epoch is now {current_epoch!r}", hint="start again from the new epoch"
        )
        self.current_epoch = current_epoch
        self.unsent: tuple[bytes, ...] = tuple(unsent)


class StreamFailedError(StreamError):
    """The stream ended with ``fail_stream``; raised by readers after its last chunk.

    Attributes:
        error: the reason that the producer gave.
    """

    code = "stream_failed"

    def __init__(self, error: str) -> None:
        super().__init__(f"stream failed: {error}")
        self.error = error


class ProducerLostError(StreamFailedError):
    """The producer's lease ran out without an end: it died or was cut off. The stream is marked failed."""

    code = "producer_lost"


class StreamFencedError(StreamError):
    """A newer writer took the stream over without this writer holding a token to compare."""

    code = "stream_fenced"

    def __init__(self, stream_id: str, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(f"stream {stream_id!r} was taken over", hint="open a new writer")
        self.unsent: tuple[bytes, ...] = tuple(unsent)


class ReaderBusyError(StreamError):
    """Two tasks wait for the next chunk of one reader; the first one goes on waiting."""

    code = "reader_busy"
    default_hint = "make a reader for each task"

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"another task is reading stream {stream_id!r} with this reader")
        self.stream_id = stream_id


class AcknowledgedDataLostError(StreamError):
    """A failover or restart lost acknowledged writes: chunks of a stream, or versions of a session.

    Attributes:
        stream_id: '' for a session.
        session_id: '' for a stream.
        first, last: the lost sequences or versions, both inclusive.
    """

    code = "acknowledged_data_lost"
    default_hint = "the server lost acknowledged writes; see wait_replicas and the server's persistence settings"

    def __init__(self, stream_id: str, first: int, last: int, *, session_id: str = "") -> None:
        what = f"session {session_id!r} lost acknowledged versions"
        if not session_id:
            what = f"stream {stream_id!r} lost acknowledged chunks"
        super().__init__(f"{what} {first}..{last}")
        self.stream_id = stream_id
        self.session_id = session_id
        self.first = first
        self.last = last


class WriteOutcomeUnknownError(StreamError):
    """The reply to a batch was lost, and the log was trimmed past it before the check: it may have been stored."""

    code = "write_outcome_unknown"

    def __init__(self, stream_id: str, first: int, last: int) -> None:
        super().__init__(f"stream {stream_id!r}: the outcome of chunks {first}..{last} cannot be known")
        self.stream_id = stream_id
        self.first = first
        self.last = last


class StaleFencingTokenError(HelixError):
    """The fencing token is smaller than the largest one seen: another holder has taken over. Nothing was changed."""

    code = "stale_fencing_token"
    default_hint = "this holder has lost its lock; stop writing and acquire it anew"

    def __init__(self, token: int, current: int, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(f"fencing token {token} is stale, {current} has been seen")
        self.token = token
        self.current = current
        self.unsent: tuple[bytes, ...] = tuple(unsent)
