"""Checkpoints: copies of a session's state, which refer to the conversation by its length and do not copy it."""

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
from helix_fast.slices import Slices

from .fields import decode_run, decode_state
from .log import KnownLogs, Log
from .requests import MAX_PAGE, SessionRequests
from .schema import AgentState, Checkpoint, CheckpointPage, decode_json, encode_json, encode_text, from_wire


class Checkpoints:
    """The part of the state store that keeps checkpoints. The contracts are in RedisStateStore.

    Args:
        maximum: newest checkpoints of a session that are kept; 0: all.
    """

    def __init__(self, session: SessionRequests, logs: KnownLogs, maximum: int) -> None:
        self._session = session
        self._logs = logs
        self._maximum = maximum

    def making(self, session_id: str, metadata: Mapping[str, Any] | None) -> list[Argument]:
        """The first arguments of every script that makes a checkpoint."""
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidArgumentError(f"metadata must be a dict, not {type(metadata).__name__}")
        return [session_id, os.urandom(3).hex(), encode_json(metadata or {}, "metadata"), self._maximum]

    async def create(
        self, session_id: str, metadata: Mapping[str, Any] | None, fencing_token: int | None
    ) -> Checkpoint:
        """Make a checkpoint; returns it without its state."""
        keys = self._session.keys(session_id)
        args = self.making(session_id, metadata)
        reply = await self._session.write("checkpoint_create", session_id, keys, args, fencing_token)
        return decode_header(reply[2], keys)

    async def get(self, session_id: str, checkpoint_id: str) -> Checkpoint | None:
        """A checkpoint with its state."""
        return await self._get(session_id, encode_text(checkpoint_id, "checkpoint_id"))

    async def latest(self, session_id: str) -> Checkpoint | None:
        """The newest checkpoint with its state."""
        return await self._get(session_id, b"")

    async def _get(self, session_id: str, checkpoint_id: bytes) -> Checkpoint | None:
        keys = self._session.keys(session_id)
        reply = await self._session.run("checkpoint_get", session_id, keys, [checkpoint_id])
        return None if reply is None else (await _decode(keys, *reply))[0]

    async def page(self, session_id: str, limit: int, cursor: str | None) -> CheckpointPage:
        """Some of the checkpoints, the newest first, without their states."""
        keys = self._session.keys(session_id)
        arguments.integer(limit, "limit", 1, MAX_PAGE)
        before = "" if cursor is None else _read_cursor(cursor, session_id)
        reply = await self._session.read("checkpoint_list", session_id, keys, [limit, before])
        if reply is None:
            return CheckpointPage([], None, False, 0)
        total, headers = reply[1:]
        items: list[Checkpoint] = []
        slices = Slices()
        for header in headers[:limit]:
            items.append(decode_header(header, keys))
            if slices.over:
                await slices.next()
        more = len(headers) > limit
        return CheckpointPage(items, _make_cursor(items[-1].ordinal, session_id) if more else None, more, total)

    async def restore(self, session_id: str, checkpoint_id: str, fencing_token: int | None) -> AgentState:
        """Set the state back to a checkpoint; returns it."""
        keys = self._session.keys(session_id)
        args = [encode_text(checkpoint_id, "checkpoint_id")]
        reply = await self._session.write(
            "checkpoint_restore", session_id, keys, args, fencing_token,
            none=lambda: CheckpointNotFoundError(session_id, checkpoint_id),
        )  # fmt: skip
        version, updated, count, digest, run, *stored = reply[1:]
        self._logs.remember_reply(session_id, count, digest)
        checkpoint: Checkpoint | None
        if stored:
            checkpoint, log = await _decode(keys, *stored)
            if log.count == int(count):
                self._logs.remember(session_id, Log(log.count, digest.decode(), log.text))
        else:  # a retry after a lost reply: the script answers without the state
            checkpoint = await self.get(session_id, checkpoint_id)
        if checkpoint is None:
            raise CheckpointNotFoundError(session_id, checkpoint_id)
        state = checkpoint.state
        state.version, state.updated_at, state.run = int(version), int(updated), decode_run(run, keys.hash.decode())
        return state

    async def delete(self, session_id: str, keep_last: int, fencing_token: int | None) -> int:
        """Delete all but the newest; returns how many were deleted."""
        args = [arguments.integer(keep_last, "keep_last")]
        keys = self._session.keys(session_id)
        reply = await self._session.write("checkpoint_delete", session_id, keys, args, fencing_token)
        return int(reply[2])


def decode_header(data: bytes, keys: SessionKeys) -> Checkpoint:
    """A checkpoint, without its state, from its stored header."""
    key = keys.checkpoint_data.decode()
    wire = decode_json(data, key, "checkpoint")
    return from_wire(Checkpoint, wire, key)


async def _decode(keys: SessionKeys, header: bytes, record: bytes, messages: Sequence[bytes]) -> tuple[Checkpoint, Log]:
    checkpoint = decode_header(header, keys)
    key = keys.checkpoint_data.decode()
    stored = decode_json(record, key, f"{checkpoint.id}:state")
    try:
        # cjson writes an empty table of Lua as {}, which has no members either
        parts = [[word.encode() for word in stored[name]] for name in ("session", "custom", "subagents")]
        if any(len(part) % 2 for part in parts):
            raise TypeError("a name without a value")
        checkpoint.loaded_state, log = await decode_state(
            keys.hash, parts[0], parts[1], parts[2], messages, checkpoint.message_count
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedStateError(key, f"{checkpoint.id}:state", f"no record: {error!r}") from error
    return checkpoint, log


def _make_cursor(ordinal: int, session_id: str) -> str:
    return base64.urlsafe_b64encode(f"{ordinal}:{session_id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: Any, session_id: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidArgumentError(f"{arguments.shown(cursor)} is no cursor") from error
    ordinal, colon, owner = text.partition(":")
    if not colon or not (ordinal.isascii() and ordinal.isdigit()) or len(ordinal) > 16:
        raise InvalidArgumentError(f"{arguments.shown(cursor)} is no cursor")
    if owner != session_id:
        raise InvalidArgumentError("the cursor is that of another session")
    return ordinal
