"""Errors of sessions, usage entries and locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import HelixError


class SessionError(HelixError):
    """Base of the errors of one session's state."""

    code = "session_error"


class SessionNotFoundError(SessionError):
    """The operation needs a session that does not exist."""

    code = "session_not_found"
    default_hint = "create it with create_session() or save_state()"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r}")
        self.session_id = session_id


class SessionExistsError(SessionError):
    """create_session() for the id of a session that exists."""

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
    """Stored bytes, or an argument, that are no valid state; the message names the key and the field."""

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


class RunConflictError(SessionError):
    """The session is in another run than the one that was to begin or to end. Nothing was changed.

    Attributes:
        session_id, run_id: the session, and the run of the call.
        current: the run that the session is in.
    """

    code = "run_conflict"

    def __init__(self, session_id: str, run_id: str, current: str) -> None:
        super().__init__(
            f"session {session_id!r} is in run {current!r}, not in {run_id!r}",
            hint="wait for the end of that run, or take it over",
        )
        self.session_id = session_id
        self.run_id = run_id
        self.current = current


class RunFailedError(SessionError):
    """The run of an agent failed.

    Attributes:
        run_id: of the run.
        error: type and text of the cause, as in state and stream; what may be a secret is replaced by ``***``.
        error_type: the type alone.
        cause: the exception itself, in the process in which it was raised; None in any other.
    """

    code = "run_failed"

    def __init__(self, run_id: str, error: str, cause: BaseException | None = None) -> None:
        super().__init__(f"run {run_id!r} failed: {error}")
        self.run_id = run_id
        self.error = error
        self.error_type: str = error.partition(":")[0]
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        make, args, state = super().__reduce__()
        return make, args, {**state, "cause": None}


class ExecutorClosedError(HelixError):
    """The executor is being drained, or was closed: it begins no more runs."""

    code = "executor_closed"
    default_hint = "send the message to another process"


class CheckpointStateError(SessionError):
    """The state of a checkpoint that was listed or created, not loaded, was read."""

    code = "checkpoint_state"

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(f"the state of {checkpoint_id!r} is not loaded", hint="load it with get_checkpoint()")
        self.checkpoint_id = checkpoint_id


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
        self.entries: tuple[object, ...] = tuple(entries)


class LockError(HelixError):
    """Base of the errors of locks."""

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
    """The value under a lock's key is no lock; ``key`` names the key."""

    code = "malformed_lock"
    default_hint = "something else writes to this key; a lock is JSON with owner, fencingToken and acquiredAt"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
