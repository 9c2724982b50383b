"""Every error helix-fast raises: one tree under :class:`HelixError`, the same classes from every backend.

An error is raised where its cause is known and says what to do about it: ``code`` is stable and meant for
programs, ``retryable`` tells whether the same call may succeed later, ``hint`` is for the person who reads it.
Nothing else may enter this module; it imports nothing of helix_fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HelixError(Exception):
    """Base of every error of this library.

    Attributes:
        code: stable identifier, for programs.
        retryable: whether the same call may succeed when it is repeated as it is.
        hint: what a person can do about it; may be empty.
    """

    code: ClassVar[str] = "helix_error"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint: str = self.default_hint if hint is None else hint


# --- arguments ---------------------------------------------------------------------------------------------------


class InvalidArgumentError(HelixError, ValueError):
    """An argument is of the wrong type or out of range; nothing was sent."""

    code = "invalid_argument"


class InvalidIdError(InvalidArgumentError):
    """A session, stream or step id that cannot be one: empty, over 512 bytes, with braces or control characters."""

    code = "invalid_id"
    default_hint = "ids are 1-512 bytes of printable UTF-8 without '{' and '}'"


class InvalidUrlError(InvalidArgumentError):
    """A URL that no store can be reached by."""

    code = "invalid_url"
    default_hint = "use redis://, rediss://, unix://, redis+cluster://, redis+sentinel://, memory:// or embedded://"


# --- the store behind us -----------------------------------------------------------------------------------------


class StoreError(HelixError):
    """The server, or the way to it, did not do what was asked; the driver's error is ``__cause__``."""

    code = "store_error"


class StoreConnectionError(StoreError):
    """The server cannot be reached, or the connection broke before the reply arrived."""

    code = "store_connection"
    retryable = True
    default_hint = "check that the server runs and that host, port and credentials are right"


class StoreTimeoutError(StoreConnectionError):
    """The server did not answer in time."""

    code = "store_timeout"
    default_hint = "the server is overloaded, paused or cut off; the operation may have happened"


class StoreAuthenticationError(StoreConnectionError):
    """The server refused the user name or password."""

    code = "store_authentication"
    retryable = False
    default_hint = "check user name and password (they are never shown here)"


class NotReplicatedError(StoreConnectionError):
    """The primary has the write, but too few replicas confirmed it in time: a failover might lose it.

    Attributes:
        wanted, confirmed: numbers of replicas.
    """

    code = "not_replicated"
    default_hint = "check the replicas; repeating the operation is safe and waits again"

    def __init__(self, wanted: int, confirmed: int) -> None:
        super().__init__(f"{confirmed} of {wanted} replicas confirmed the write")
        self.wanted = wanted
        self.confirmed = confirmed


class StoreResponseError(StoreError):
    """The server answered with an error that is none of ours; its first word is in ``server_code``."""

    code = "store_response"

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.server_code: str = message.split(" ", 1)[0]


class StoreClosedError(HelixError):
    """The store (or the Helix that it belongs to) has been closed."""

    code = "store_closed"
    default_hint = "make a new store; a closed one cannot be opened again"


class BufferFullError(HelixError):
    """More is waiting to be sent than the connection may hold."""

    code = "buffer_full"
    retryable = True
    default_hint = "wait for earlier operations, or raise the buffer limit"


class EmbeddedServerError(HelixError):
    """The private server of ``embedded://`` did not start or does not answer."""

    code = "embedded_server"


class EmbeddedServerUnavailableError(EmbeddedServerError):
    """There is no server program for ``embedded://`` on this machine."""

    code = "embedded_server_unavailable"
    default_hint = "pip install 'helix-fast[embedded]'"


# --- streams -----------------------------------------------------------------------------------------------------


class StreamError(HelixError):
    """Base of what can go wrong with one stream."""

    code = "stream_error"


class SequenceConflictError(StreamError):
    """A chunk came with another sequence than the stream's next one; nothing was written."""

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
        sequence: its place in the stream, or None where it was never written.
        data: the offending bytes or object.
    """

    code = "malformed_chunk"

    def __init__(self, sequence: int | None, data: object, reason: str = "not a valid chunk") -> None:
        where = "" if sequence is None else f" at sequence {sequence}"
        super().__init__(f"malformed chunk{where}: {reason}", hint="a chunk is a JSON object with a string 'type'")
        self.sequence = sequence
        self.data = data


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
        unsent: encoded chunks given to ``send`` that were never stored, oldest first.
    """

    code = "stream_closed"

    def __init__(self, stream_id: str, status: str, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(f"stream {stream_id!r} is {status}", hint="reset_stream() starts a new life of the stream")
        self.stream_id = stream_id
        self.status = status
        self.unsent = tuple(unsent)


class StreamDeletedError(StreamClosedError):
    """The stream was deleted or expired, or its server came back without it."""

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
    """Chunks asked for are no longer kept (trimmed), or were lost by the server.

    Attributes:
        requested: the position asked for: the last sequence seen.
        first_available: the first sequence that can still be read.
    """

    code = "sequence_gap"

    def __init__(self, requested: int, first_available: int) -> None:
        super().__init__(
            f"chunks {requested + 1}..{first_available - 1} are not available",
            hint="take a fresh snapshot and resume there, or pass on_gap='skip'",
        )
        self.requested = requested
        self.first_available = first_available


class StreamResetError(StreamError):
    """The stream was reset: it lives a new epoch and the position or writer belongs to an older one."""

    code = "stream_reset"

    def __init__(self, current_epoch: str, unsent: Sequence[bytes] = ()) -> None:
        super().__init__(
            f"the stream was reset; its epoch is now {current_epoch!r}", hint="start again from the new epoch"
        )
        self.current_epoch = current_epoch
        self.unsent = tuple(unsent)


class StreamFailedError(StreamError):
    """The stream ended with ``fail_stream``; raised by readers after its last chunk.

    Attributes:
        error: what the producer gave as the reason.
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
        self.unsent = tuple(unsent)


class AcknowledgedDataLostError(StreamError):
    """The server came back with less than it had acknowledged (a failover or restart lost it).

    Attributes:
        first, last: the lost sequences, both inclusive.
    """

    code = "acknowledged_data_lost"
    default_hint = "the server lost acknowledged writes; see wait_replicas and the server's persistence settings"

    def __init__(self, stream_id: str, first: int, last: int) -> None:
        super().__init__(f"stream {stream_id!r} lost acknowledged chunks {first}..{last}")
        self.stream_id = stream_id
        self.first = first
        self.last = last


class WriteOutcomeUnknownError(StreamError):
    """A batch's reply was lost and its entry was trimmed before it could be looked up: it may have been stored."""

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
        self.unsent = tuple(unsent)


# --- state -------------------------------------------------------------------------------------------------------


class SessionError(HelixError):
    """Base of what can go wrong with one session's state."""

    code = "session_error"


class SessionNotFoundError(SessionError):
    """The operation needs a session that does not exist."""

    code = "session_not_found"
    default_hint = "create it with create_session() or save_state()"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r}")
        self.session_id = session_id


class SessionExistsError(SessionError):
    """create_session() was given the id of a session that exists."""

    code = "session_exists"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} exists", hint="load it, or delete it first")
        self.session_id = session_id


class CheckpointNotFoundError(SessionError):
    """The session has no checkpoint of that id."""

    code = "checkpoint_not_found"

    def __init__(self, session_id: str, checkpoint_id: str) -> None:
        super().__init__(f"session {session_id!r} has no checkpoint {checkpoint_id!r}")
        self.session_id = session_id
        self.checkpoint_id = checkpoint_id


class ConcurrentUpdateError(SessionError):
    """The session's version is not the expected one: someone else wrote. Nothing was changed."""

    code = "concurrent_update"
    retryable = True

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected version {expected}, found {actual}", hint="load the state again and repeat")
        self.expected = expected
        self.actual = actual


class MalformedStateError(SessionError, ValueError):
    """Stored bytes, or a given value, that are no valid state; names the key and the field."""

    code = "malformed_state"

    def __init__(self, key: str, field: str, reason: str) -> None:
        super().__init__(f"{key}: {field}: {reason}")
        self.key = key
        self.field = field


class PatchError(SessionError, ValueError):
    """A JSON Patch (RFC 6902) that is malformed or does not apply; nothing was changed."""

    code = "patch"


class SubAgentRefNotFoundError(SessionError):
    """The session has no reference to that sub-agent."""

    code = "sub_agent_ref_not_found"

    def __init__(self, session_id: str, sub_session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} has no sub-agent {sub_session_id!r}", hint="add it with add_sub_agent_refs()"
        )
        self.session_id = session_id
        self.sub_session_id = sub_session_id


class CheckpointStateError(SessionError):
    """The state was asked of a checkpoint that was listed or created, not loaded."""

    code = "checkpoint_state"

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(f"the state of {checkpoint_id!r} is not loaded", hint="load it with get_checkpoint()")
        self.checkpoint_id = checkpoint_id


# --- usage -------------------------------------------------------------------------------------------------------


class MalformedEntryError(HelixError, ValueError):
    """A usage entry that is not valid; nothing was written."""

    code = "malformed_entry"


class UsageNotRecordedError(HelixError):
    """A usage recorder could not write some entries; the reason is ``__cause__``.

    Attributes:
        entries: these entries, with their ids: recorded again, they count once.
    """

    code = "usage_not_recorded"
    default_hint = "record .entries again when the cause is gone; their ids keep them from counting twice"

    def __init__(self, message: str, entries: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.entries = tuple(entries)


# --- locks -------------------------------------------------------------------------------------------------------


class LockError(HelixError):
    """Base of what can go wrong with a lock."""

    code = "lock_error"


class LockNotAcquiredError(LockError):
    """hold() did not get the lock within ``wait_ms``."""

    code = "lock_not_acquired"
    retryable = True


class LockLostError(LockError):
    """The lock was lost while the body of hold() was running."""

    code = "lock_lost"
    default_hint = "another holder may have it; writes with this fencing token are refused"


class MalformedLockError(LockError, ValueError):
    """What is stored under a lock's key is no lock; ``key`` names it."""

    code = "malformed_lock"
    default_hint = "something else writes to this key; a lock is JSON with owner, fencingToken and acquiredAt"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
