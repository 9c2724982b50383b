"""Refusals: what a script answers in place of doing what was asked, and the error that each of them means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import (
    ConcurrentUpdateError,
    HelixError,
    MalformedStateError,
    MalformedStreamError,
    SequenceConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StaleFencingTokenError,
    StreamClosedError,
    StreamFencedError,
    StreamNotFoundError,
    StreamResetError,
)


def check_stream_reply(
    stream_id: str, reply: Sequence[Any], token: bytes = b"", sequence: int = 0, *, meta: bytes = b""
) -> None:
    """Raise the error that the reply of a script of streams means, if it means one.

    Args:
        token: the fencing token that was sent, as decimal text.
        sequence: the first sequence that was sent.
        meta: key of the meta hash.

    Raises:
        MalformedStreamError: the fencing token that is stored is no number.
        StreamNotFoundError, StreamClosedError, StaleFencingTokenError, StreamResetError, StreamFencedError,
            SequenceConflictError: nothing was changed.
    """
    word = reply[0]
    if word == b"none":
        raise StreamNotFoundError(stream_id)
    if word == b"closed":
        raise StreamClosedError(stream_id, reply[1].decode())
    if word == b"stale" and not reply[1].isdigit():
        raise MalformedStreamError(meta.decode(), f"fence is no number: {reply[1][:40]!r}")
    if word == b"stale":
        raise StaleFencingTokenError(int(token), int(reply[1]))
    if word == b"another":
        raise StreamResetError(reply[1].decode(errors="replace"))
    if word == b"fenced":
        raise StreamFencedError(stream_id)
    if word == b"conflict":
        raise SequenceConflictError(int(reply[1]), sequence)


def check_session_reply(
    session_id: str,
    key: bytes,
    reply: Sequence[Any],
    *,
    token: bytes = b"",
    expected: int = 0,
    none: Callable[[], HelixError] | None = None,
) -> None:
    """Raise the error that the reply of a script of state means, if it means one.

    Args:
        key: of the session's hash.
        token: the fencing token that was sent, as decimal text.
        expected: the version that was sent as the expected one.
        none: makes the error for a part of the session that does not exist.

    Raises:
        SessionNotFoundError, SessionExistsError, StaleFencingTokenError, ConcurrentUpdateError, MalformedStateError, or
            the error of ``none``: nothing was changed.
    """
    word = reply[0]
    if word == b"missing":
        raise SessionNotFoundError(session_id)
    if word == b"stale":
        raise StaleFencingTokenError(int(token), int(reply[1]))
    if word == b"malformed":
        raise MalformedStateError(key.decode(), reply[1].decode(), "is not what was stored there")
    if word == b"exists":
        raise SessionExistsError(session_id)
    if word == b"conflict":
        raise ConcurrentUpdateError(expected, int(reply[1]))
    if word == b"none" and none is not None:
        raise none()
