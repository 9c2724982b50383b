"""RedisStateStore: whole states, status, counters and custom state. One script, one round trip an operation."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, Final

from helix_fast import arguments
from helix_fast.errors import (
    ConcurrentUpdateError,
    InvalidArgumentError,
    SessionExistsError,
    StaleFencingTokenError,
)
from helix_fast.lua import Argument

from .checkpoints import CheckpointStore
from .fields import Encoded, Log, decode_state
from .merge import Change, as_merge_changes, changes_of
from .messages import ConversationStore
from .schema import (
    AgentState,
    MergeChanges,
    MergeResult,
    as_state,
    encode_text,
)
from .staging import StagingStore, encode_name, read_warnings

# Up to this many bytes are sent in the belief that the stored conversation is the one last seen; with more, the server
# is asked first: a round trip costs less than sending them in vain.
_SENT_UNASKED: Final = 64 << 10
_ATTEMPTS: Final = 4
_PROBE: Final = Log(1, "")  # what no log is: the script answers with what is stored


class RedisStateStore(ConversationStore, CheckpointStore, StagingStore):
    """State of sessions on Redis.

    Args:
        redis, client, host, port, username, password, db, key_prefix, logger, wait_replicas, topology: see RedisStore.
        ttl: seconds after its last write when a session expires, all of it at once; default 7 days, None or 0 keeps it
            until it is deleted. Reading does not renew it.
        max_checkpoints: how many of the newest checkpoints of a session are kept; None for all.

    Every write takes ``fencing_token``; one smaller than the session has seen raises StaleFencingTokenError and changes
    nothing. Every write but the one that creates a session raises SessionNotFoundError where there is none. Stored
    bytes that are no valid state raise MalformedStateError.
    """

    # --- the whole state

    async def create_session(
        self,
        session_id: str,
        *,
        agent_type: str,
        initial_state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        fencing_token: int | None = None,
    ) -> AgentState:
        """Create a session of status ``active`` with this custom state.

        Raises:
            SessionExistsError: there is one.
        """
        for what, value in (("initial_state", initial_state), ("metadata", metadata)):
            if value is not None and not isinstance(value, Mapping):
                raise InvalidArgumentError(f"{what} must be a dict, not {type(value).__name__}")
        state = AgentState(session_id, agent_type)
        state.custom_state, state.metadata = dict(initial_state or {}), dict(metadata or {})
        keys = self._keys(session_id)
        args = _save_args("create", "", Encoded(state), [], Log(), Log())
        reply = await self._write("state_save", session_id, keys, args, fencing_token)
        if reply[0] == b"exists":
            raise SessionExistsError(session_id)
        self._remember(session_id, Log())
        state.version, state.created_at, state.updated_at = int(reply[1]), int(reply[2]), int(reply[3])
        return state

    async def save_state(
        self,
        session_id: str,
        state: AgentState | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Store a whole state in place of the stored one; creates the session where there is none.

        Of messages that extend the stored ones only the new are sent; others become a new log, and the old one is kept
        while a checkpoint refers to it. ``version`` and ``updated_at`` of the state are not looked at.

        Args:
            expected_version: the version that must be stored; 0: there must be no session.

        Returns:
            The new version.

        Raises:
            ConcurrentUpdateError: another version is stored.
            InvalidArgumentError: no valid state, or that of another session.
        """
        keys = self._keys(session_id)
        encoded = Encoded(as_state(state, session_id))
        expected = "" if expected_version is None else str(arguments.integer(expected_version, "expected_version"))
        messages = encoded.messages
        base = self._logs.get(session_id, Log())
        for attempt in range(_ATTEMPTS):
            # at last all of them, which is never refused: someone else may be appending all the time
            whole = attempt == _ATTEMPTS - 1 or not base.begins(messages)
            rest = messages if whole else messages[base.count :]
            if attempt == 0 and not whole and sum(map(len, rest)) > _SENT_UNASKED:
                base, rest = _PROBE, []
            final = (Log() if whole else base).extended(rest)
            args = _save_args("save", expected, encoded, rest, base, final, whole=whole)
            reply = await self._write("state_save", session_id, keys, args, fencing_token)
            if reply[0] == b"conflict":
                raise ConcurrentUpdateError(int(expected), int(reply[1]))
            if reply[0] == b"ok":
                self._remember(session_id, final)
                return int(reply[1])
            base = Log(int(reply[1]), reply[2].decode())
        raise AssertionError("a whole conversation was refused")

    async def load_state(self, session_id: str) -> AgentState | None:
        """The whole state; None where there is no session."""
        keys = self._keys(session_id)
        reply = await self._read("state_load", session_id, keys)
        if reply is None:
            self._logs.pop(session_id, None)
            return None
        state, log = decode_state(keys.hash, *reply)
        self._remember(session_id, log)
        return state

    async def session_exists(self, session_id: str) -> bool:
        """Whether there is such a session."""
        return bool(await self.command(session_id, "EXISTS", self._keys(session_id).hash))

    async def delete_session(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of the session in one step: checkpoints, old logs and staged changes too.

        Returns:
            Whether there was one.
        """
        keys, token = self._keys(session_id), arguments.token(fencing_token)
        reply = await self._script("state_delete", session_id, keys, self._names(keys), [os.urandom(8), token])
        self._logs.pop(session_id, None)
        if reply[0] == b"stale":
            raise StaleFencingTokenError(int(token), int(reply[1]))
        return bool(reply[0] == b"ok")

    # --- the reference's short forms

    async def save(self, state: AgentState | Mapping[str, Any], **options: Any) -> int:
        """``save_state`` of the session that the state names; the same options."""
        session_id = state.session_id if isinstance(state, AgentState) else None
        if isinstance(state, Mapping):
            session_id = state.get("sessionId")
        return await self.save_state(session_id, state, **options)  # type: ignore[arg-type]  # checked there

    async def load(self, session_id: str) -> AgentState | None:
        """See ``load_state``."""
        return await self.load_state(session_id)

    async def delete(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """See ``delete_session``."""
        return await self.delete_session(session_id, fencing_token=fencing_token)

    async def exists(self, session_id: str) -> bool:
        """See ``session_exists``."""
        return await self.session_exists(session_id)

    # --- status and counters

    async def update_status(self, session_id: str, status: str, *, fencing_token: int | None = None) -> None:
        """Set the status."""
        args: list[Argument] = [encode_text(status, "status"), ""]
        await self._write("state_status", session_id, self._keys(session_id), args, fencing_token)

    async def compare_and_set_status(
        self,
        session_id: str,
        expected: Collection[str],
        status: str,
        *,
        expected_version: int | None = None,
        fencing_token: int | None = None,
    ) -> bool:
        """Set the status where it is one of ``expected`` and, if given, the version is ``expected_version``.

        Returns:
            Whether it was set. Of many callers that expect the same and set another, one gets True.
        """
        given: Any = expected
        if isinstance(given, (str, bytes)) or not isinstance(given, Collection) or not given:
            raise InvalidArgumentError(
                "expected must be a collection of statuses that is not empty", hint="['running']"
            )
        version = "" if expected_version is None else str(arguments.integer(expected_version, "expected_version"))
        args: list[Argument] = [
            encode_text(status, "status"),
            version,
            *(encode_text(each, "expected status") for each in expected),
        ]
        reply = await self._write("state_status", session_id, self._keys(session_id), args, fencing_token)
        return bool(reply[0] == b"ok")

    async def increment_step_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the step count; returns the sum."""
        return await self._increment("stepCount", session_id, by, fencing_token)

    async def increment_resume_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the resume count; returns the sum."""
        return await self._increment("resumeCount", session_id, by, fencing_token)

    async def _increment(self, field: str, session_id: str, by: int, fencing_token: int | None) -> int:
        args: list[Argument] = [field, arguments.integer(by, "by", 1)]
        reply = await self._write("state_increment", session_id, self._keys(session_id), args, fencing_token)
        if reply[0] == b"range":
            raise InvalidArgumentError(f"{field} would exceed 2**53 - 1")
        return int(reply[1])

    # --- custom state

    async def merge_custom_state(
        self, session_id: str, changes: MergeChanges | Mapping[str, Any], *, fencing_token: int | None = None
    ) -> MergeResult:
        """Merge changes into the top level of the custom state.

        First ``deletes`` go; then arrays extend the stored array (or replace it, where ``array_replacements`` names
        them), and everything else is set. An array in place of something that is no array replaces it, with a warning.

        Returns:
            The new version and the warnings.
        """
        given = as_merge_changes(changes)
        words: list[Change] = changes_of(given.values, given.array_replacements, given.deletes)
        args = [word for kind, name, data in words for word in (kind, encode_name(name), data)]
        reply = await self._write("state_merge", session_id, self._keys(session_id), args, fencing_token)
        return MergeResult(int(reply[1]), read_warnings(reply[2:]))


def _save_args(
    mode: str, expected: str, encoded: Encoded, messages: list[bytes], base: Log, final: Log, *, whole: bool = False
) -> list[Argument]:
    """The arguments of ``state_save`` after the common ones."""
    return [
        mode,
        expected,
        "1" if whole else "0",
        base.count,
        base.digest,
        final.count,
        final.digest,
        len(encoded.fields),
        len(encoded.custom),
        len(encoded.subagents),
        *encoded.fields,
        *encoded.custom,
        *encoded.subagents,
        *messages,
    ]
