"""States: whole states, status, counters and custom state. Each operation is one script and one round trip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError, SessionNotFoundError
from helix_fast.lua import Argument

from .conversation import Conversation
from .fields import Encoded, decode_state
from .log import EMPTY, KnownLogs, Log
from .merge import as_merge_changes, changes_of, read_warnings, words_of
from .requests import SessionRequests
from .schema import AgentState, MergeChanges, MergeResult, as_state, encode_text

# Up to this many bytes of messages are sent on the assumption that the stored conversation is the one last seen. With
# more, the server is asked first: a round trip costs less than sending them in vain.
_SENT_UNASKED: Final = 64 << 10
_ATTEMPTS: Final = 4
_PROBE: Final = Log(1, "")  # matches no log: the script answers with the stored one


class States:
    """The part of the state store that keeps all but messages, references, checkpoints and staged changes.

    The contracts are in RedisStateStore.
    """

    def __init__(self, session: SessionRequests, logs: KnownLogs) -> None:
        self._session = session
        self._logs = logs

    async def create(
        self,
        session_id: str,
        agent_type: str,
        initial_state: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        fencing_token: int | None,
    ) -> AgentState:
        """Create a session; returns its state."""
        state = self.new(session_id, agent_type, initial_state, metadata)
        keys = self._session.keys(session_id)
        args = _save_args("create", "", Encoded(state), [], Log(), Log())
        reply = await self._session.write("state_save", session_id, keys, args, fencing_token)
        self._logs.remember(session_id, EMPTY)
        state.version, state.created_at, state.updated_at = int(reply[1]), int(reply[2]), int(reply[3])
        return state

    def new(
        self,
        session_id: str,
        agent_type: str,
        initial_state: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> AgentState:
        """The state of a new session, which is not stored yet."""
        for what, value in (("initial_state", initial_state), ("metadata", metadata)):
            if value is not None and not isinstance(value, Mapping):
                raise InvalidArgumentError(f"{what} must be a dict, not {type(value).__name__}")
        state = AgentState(session_id, agent_type)
        state.custom_state, state.metadata = dict(initial_state or {}), dict(metadata or {})
        return state

    async def save(
        self,
        session_id: str,
        state: AgentState | Mapping[str, Any],
        fencing_token: int | None,
        expected_version: int | None,
    ) -> int:
        """Store a whole state; returns the new version. Sends the messages behind the log last seen."""
        keys = self._session.keys(session_id)
        known = self._logs.get(session_id)
        checked = as_state(state, session_id)
        # What the caller may change is encoded before anything is awaited: one snapshot.
        encoded, conversation = Encoded(checked), Conversation(checked.messages, known.count)
        expected = "" if expected_version is None else str(arguments.integer(expected_version, "expected_version"))
        base = known
        for attempt in range(_ATTEMPTS):
            # the last attempt sends all messages, which is never refused: others may be appending all the time
            whole = attempt == _ATTEMPTS - 1 or not await conversation.begins(base)
            rest = await conversation.messages(0 if whole else base.count)
            if attempt == 0 and not whole and sum(map(len, rest)) > _SENT_UNASKED:
                base, final, rest = _PROBE, _PROBE, []
            else:
                final = await conversation.log(Log() if whole else base, rest)
            args = _save_args("save", expected, encoded, rest, base, final, whole=whole)
            reply = await self._session.write(
                "state_save", session_id, keys, args, fencing_token, expected=expected_version or 0
            )
            if reply[0] == b"ok":
                self._logs.remember(session_id, final)
                return int(reply[1])
            base = Log(int(reply[2]), reply[3].decode())
            if (base.count, base.digest) == (known.count, known.digest):
                base = known
        raise AssertionError("a whole conversation was refused")

    async def load(self, session_id: str) -> AgentState | None:
        """The whole state."""
        keys = self._session.keys(session_id)
        before = self._session.versions.before(session_id)
        reply = await self._session.run("state_load", session_id, keys)
        if reply is None:
            self._logs.forget(session_id)
            return None
        *stored, born = reply
        state, log = await decode_state(keys.hash, *stored)
        self._session.versions.note(session_id, before, state.version, state.version, born)
        self._logs.remember(session_id, log)
        return state

    async def exists(self, session_id: str) -> bool:
        """Whether the session exists."""
        return bool(await self._session.command(session_id, "EXISTS", self._session.keys(session_id).hash))

    async def delete(self, session_id: str, fencing_token: int | None) -> bool:
        """Delete all keys of a session; returns whether it existed."""
        existed = await self._session.delete(session_id, self._session.keys(session_id), fencing_token)
        self._logs.forget(session_id)
        return existed

    async def touch(self, session_id: str, ttl: int | None, fencing_token: int | None) -> bool:
        """Renew a session's TTL, or give it one of its own; returns whether it exists."""
        own = None if ttl is None else arguments.ttl_seconds(ttl)
        keys, args = self._session.keys(session_id), ["" if own is None else str(own)]
        try:
            await self._session.write("state_touch", session_id, keys, args, fencing_token, own_ttl=own)
        except SessionNotFoundError:
            return False
        return True

    async def set_status(
        self,
        session_id: str,
        status: str,
        fencing_token: int | None,
        expected: Collection[str] = (),
        expected_version: int | None = None,
    ) -> bool:
        """Set the status, if it is one of ``expected`` (empty: any); returns whether it was set."""
        args: list[Argument] = [
            encode_text(status, "status"),
            "" if expected_version is None else str(arguments.integer(expected_version, "expected_version")),
            *(encode_text(each, "expected status") for each in expected),
        ]
        keys = self._session.keys(session_id)
        reply = await self._session.write("state_status", session_id, keys, args, fencing_token)
        return bool(reply[0] == b"ok")

    async def increment(self, field: str, session_id: str, by: int, fencing_token: int | None) -> int:
        """Add to a counter; returns the sum."""
        args: list[Argument] = [field, arguments.integer(by, "by", 1)]
        keys = self._session.keys(session_id)
        reply = await self._session.write("state_increment", session_id, keys, args, fencing_token)
        if reply[0] == b"range":
            raise InvalidArgumentError(f"{field} would exceed 2**53 - 1")
        return int(reply[2])

    async def merge(
        self, session_id: str, changes: MergeChanges | Mapping[str, Any], fencing_token: int | None
    ) -> MergeResult:
        """Merge changes into the custom state."""
        checked = as_merge_changes(changes)
        args = words_of(changes_of(checked.values, checked.array_replacements, checked.deletes))
        keys = self._session.keys(session_id)
        reply = await self._session.write("state_merge", session_id, keys, args, fencing_token)
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
