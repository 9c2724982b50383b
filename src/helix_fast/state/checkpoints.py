"""The part of the state store that keeps checkpoints: copies of all but the conversation, of which only the length."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from typing import Any

from helix_fast import arguments
from helix_fast.errors import CheckpointNotFoundError, InvalidArgumentError, MalformedStateError
from helix_fast.keys import SessionKeys
from helix_fast.lua import Argument

from .fields import decode_state
from .schema import (
    AgentState,
    Checkpoint,
    CheckpointPage,
    decode_json,
    encode_json,
    encode_text,
    from_wire,
)
from .session import MAX_PAGE, SessionStore


class CheckpointStore(SessionStore):
    """Checkpoints of sessions."""

    async def create_checkpoint(
        self, session_id: str, *, metadata: Mapping[str, Any] | None = None, fencing_token: int | None = None
    ) -> Checkpoint:
        """Make a checkpoint of the state as it is; costs the same whatever the conversation's length.

        The state's version stays as it is. With ``max_checkpoints`` the oldest go in the same step.

        Returns:
            The checkpoint, without its state.
        """
        keys = self._keys(session_id)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidArgumentError(f"metadata must be a dict, not {type(metadata).__name__}")
        data = encode_json(metadata or {}, "metadata")
        args: list[Argument] = [session_id, os.urandom(3).hex(), data, self.max_checkpoints]
        reply = await self._write("checkpoint_create", session_id, keys, args, fencing_token)
        return _decode_header(reply[1], keys)

    async def get_checkpoint(self, session_id: str, checkpoint_id: str) -> Checkpoint | None:
        """A checkpoint with its whole state; None where there is none of that id."""
        return await self._get(session_id, encode_text(checkpoint_id, "checkpoint_id"))

    async def get_latest_checkpoint(self, session_id: str) -> Checkpoint | None:
        """The newest checkpoint with its whole state; None where there is none."""
        return await self._get(session_id, b"")

    async def _get(self, session_id: str, checkpoint_id: bytes) -> Checkpoint | None:
        keys = self._keys(session_id)
        reply = await self._read("checkpoint_get", session_id, keys, [checkpoint_id])
        return None if reply is None else _decode(keys, *reply)

    async def list_checkpoints(self, session_id: str, *, limit: int = 10, cursor: str | None = None) -> CheckpointPage:
        """A page of checkpoints, newest first, without their states.

        Args:
            limit: checkpoints at most, 1-10 000.
            cursor: of the page before; it stays valid while checkpoints come and go.

        Raises:
            InvalidArgumentError: no cursor, or one of another session.
        """
        keys = self._keys(session_id)
        arguments.integer(limit, "limit", 1, MAX_PAGE)
        before = "" if cursor is None else _read_cursor(cursor, session_id)
        total, headers = await self._read("checkpoint_list", session_id, keys, [limit, before])
        items = [_decode_header(header, keys) for header in headers[:limit]]
        more = len(headers) > limit
        return CheckpointPage(items, _make_cursor(items[-1].ordinal, session_id) if more else None, more, total)

    async def restore_checkpoint(
        self, session_id: str, checkpoint_id: str, *, fencing_token: int | None = None
    ) -> AgentState:
        """Make the state what it was at a checkpoint, in one step; later checkpoints stay, staged changes too.

        Returns:
            The state, as it was but for ``version`` and ``updated_at``.

        Raises:
            CheckpointNotFoundError: the session has no such checkpoint.
        """
        keys = self._keys(session_id)
        args = [encode_text(checkpoint_id, "checkpoint_id")]
        reply = await self._write("checkpoint_restore", session_id, keys, args, fencing_token)
        if reply[0] == b"none":
            raise CheckpointNotFoundError(session_id, checkpoint_id)
        version, updated, count, digest, *stored = reply[1:]
        self._remember_reply(session_id, count, digest)
        if stored:
            checkpoint: Checkpoint | None = _decode(keys, *stored)
        else:  # the reply was lost, and its repetition is short
            checkpoint = await self.get_checkpoint(session_id, checkpoint_id)
        if checkpoint is None:
            raise CheckpointNotFoundError(session_id, checkpoint_id)
        state = checkpoint.state
        state.version, state.updated_at = int(version), int(updated)
        return state

    async def delete_checkpoints(self, session_id: str, *, keep_last: int = 0, fencing_token: int | None = None) -> int:
        """Delete all checkpoints but the ``keep_last`` newest, and the messages that only they needed.

        Returns:
            How many were deleted.
        """
        args = [arguments.integer(keep_last, "keep_last")]
        reply = await self._write("checkpoint_delete", session_id, self._keys(session_id), args, fencing_token)
        return int(reply[1])


def _decode_header(data: bytes, keys: SessionKeys) -> Checkpoint:
    key = keys.checkpoint_data.decode()
    wire = decode_json(data, key, "checkpoint")
    return from_wire(Checkpoint, wire, key)


def _decode(keys: SessionKeys, header: bytes, record: bytes, messages: Sequence[bytes]) -> Checkpoint:
    checkpoint = _decode_header(header, keys)
    key = keys.checkpoint_data.decode()
    stored = decode_json(record, key, f"{checkpoint.id}:state")
    try:
        # an empty table of Lua becomes {} in JSON
        parts = [[word.encode() for word in stored[name]] for name in ("session", "custom", "subagents")]
        if any(len(part) % 2 for part in parts):
            raise TypeError("a name without a value")
        checkpoint.loaded_state, _ = decode_state(
            keys.hash, parts[0], parts[1], parts[2], messages, checkpoint.message_count
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedStateError(key, f"{checkpoint.id}:state", f"no record: {error!r}") from error
    return checkpoint


def _make_cursor(ordinal: int, session_id: str) -> str:
    return base64.urlsafe_b64encode(f"{ordinal}:{session_id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: Any, session_id: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidArgumentError(f"{cursor!r} is no cursor") from error
    ordinal, colon, owner = text.partition(":")
    if not colon or not (ordinal.isascii() and ordinal.isdigit()) or len(ordinal) > 16:
        raise InvalidArgumentError(f"{cursor!r} is no cursor")
    if owner != session_id:
        raise InvalidArgumentError("the cursor is that of another session")
    return ordinal
