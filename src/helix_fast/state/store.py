"""RedisStateStore. One file: the public face of the state store, each method with its whole contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError
from helix_fast.index import IdPage, Index
from helix_fast.keys import session_index
from helix_fast.options import ConnectionOptions
from helix_fast.store import RedisStore, on_own_loop

from .checkpoints import Checkpoints
from .log import KnownLogs
from .messages import Messages
from .requests import MAX_RETRY_SECONDS, SessionRequests
from .runs import Runs
from .schema import (
    AgentState,
    BegunRun,
    Checkpoint,
    CheckpointPage,
    MergeChanges,
    MergeResult,
    MessagePage,
    PromoteResult,
    SessionRun,
    StagedChanges,
    SubAgentRef,
    SubAgentRefUpdate,
)
from .staging import Staging
from .states import States
from .sub_agents import SubAgents

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RedisStateStore(RedisStore):
    """State of sessions on Redis.

    Args:
        redis, client, host, port, username, password, db, key_prefix, logger, wait_replicas, topology: see RedisStore.
        ttl: seconds from its last write until a session expires, all of it at once; default 7 days. None or 0: it is
            kept until it is deleted. Reading does not renew it.
        max_checkpoints: newest checkpoints of a session that are kept; None: all.

    Every write takes ``fencing_token``; one smaller than the largest that the session has seen raises
    StaleFencingTokenError and changes nothing. Every write except the one that creates a session raises
    SessionNotFoundError if the session does not exist. Stored bytes that are no valid state raise MalformedStateError.

    If a session turns out to have a lower version than this store has seen, the server has lost acknowledged writes:
    ``on("error")`` gets AcknowledgedDataLostError, once.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster | None = None,
        *,
        key_prefix: str = "helix:",
        ttl: int | None = 604_800,
        max_checkpoints: int | None = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self.ttl: int = arguments.ttl_seconds(ttl)
        if max_checkpoints is not None:
            arguments.integer(max_checkpoints, "max_checkpoints", 1)
        self.max_checkpoints: int = max_checkpoints or 0
        super().__init__(redis, key_prefix=key_prefix, **connection)
        self._requests.retry_timeout = min(self._requests.retry_timeout, MAX_RETRY_SECONDS)
        self._index = Index(
            self._requests, partial(session_index, self.key_prefix), self.ttl, "list_sessions", self._errors.report
        )
        session = SessionRequests(self._requests, self.key_prefix, self.ttl, self._index, self._errors.report)
        self._versions, logs = session.versions, KnownLogs()
        self._states = States(session, logs)
        self._messages = Messages(session, logs)
        self._sub_agents = SubAgents(session)
        self._checkpoints = Checkpoints(session, logs, self.max_checkpoints)
        self._staging = Staging(session)
        self._runs = Runs(session, logs, self._states, self._checkpoints)
        self._requests.topology.watch(self._connected)

    def _connected(self) -> None:
        """A connection was made: the server behind it may have come back with less."""
        if not self._requests.closed:
            self._versions.check()

    @on_own_loop
    async def close(self) -> None:
        """Close the store, and its connections unless a Helix shares them. Safe to call twice, on any event loop."""
        try:
            await self._versions.close()
        finally:
            await super().close()

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
            SessionExistsError: the session exists.
        """
        return await self._states.create(session_id, agent_type, initial_state, metadata, fencing_token)

    async def save_state(
        self,
        session_id: str,
        state: AgentState | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Store a whole state in place of the stored one; create the session if it does not exist.

        If the messages extend the stored ones, only the new ones are sent. Otherwise they become a new log, and the old
        log is kept while a checkpoint refers to it. ``version``, ``updated_at`` and ``run`` of the state are ignored.

        Args:
            expected_version: the version that must be stored; 0: the session must not exist.

        Returns:
            The new version.

        Raises:
            ConcurrentUpdateError: another version is stored.
            InvalidArgumentError: an invalid state, or that of another session.
        """
        return await self._states.save(session_id, state, fencing_token, expected_version)

    async def load_state(self, session_id: str) -> AgentState | None:
        """The whole state; None if the session does not exist."""
        return await self._states.load(session_id)

    async def session_exists(self, session_id: str) -> bool:
        """Whether the session exists."""
        return await self._states.exists(session_id)

    async def delete_session(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of the session in one step: checkpoints, old logs and staged changes too.

        The largest fencing token that the session has seen is known for a day longer, so that a stale holder cannot
        bring the session back.

        Returns:
            Whether it existed.
        """
        return await self._states.delete(session_id, fencing_token)

    async def touch(self, session_id: str, *, ttl: int | None = None, fencing_token: int | None = None) -> bool:
        """Let the session live on as after a write. Its version stays the same.

        Args:
            ttl: seconds from its last write until this session expires, in place of the store's TTL; later writes keep
                it, by any store. 0: until it is deleted. None: as before.

        Returns:
            Whether it exists.
        """
        return await self._states.touch(session_id, ttl, fencing_token)

    async def list_sessions(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
        """Ids of the sessions, read from an index: the server's keys are not scanned.

        Args:
            limit: ids at most, from 1; None: all.
            cursor: ``.cursor`` of the page before.

        Returns:
            The ids, in no particular order, with ``.cursor`` for the next page. A session that is written between two
            pages may be on both; none that exists all the time is missing.

        Raises:
            InvalidArgumentError: a limit below 1, an invalid cursor.
        """
        return await self._index.page(limit, cursor, self._states.exists)

    # --- the short forms of the reference page

    async def save(self, state: AgentState | Mapping[str, Any], **options: Any) -> int:
        """``save_state`` of the session that the state names; the same options."""
        session_id = state.session_id if isinstance(state, AgentState) else None
        if isinstance(state, Mapping):
            session_id = state.get("sessionId")
        return await self.save_state(session_id, state, **options)  # type: ignore[arg-type]  # checked there

    async def load(self, session_id: str) -> AgentState | None:
        """The whole state, as ``load_state``."""
        return await self.load_state(session_id)

    async def delete(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of the session, as ``delete_session``."""
        return await self.delete_session(session_id, fencing_token=fencing_token)

    async def exists(self, session_id: str) -> bool:
        """Whether the session exists, as ``session_exists``."""
        return await self.session_exists(session_id)

    # --- status and counters

    async def update_status(self, session_id: str, status: str, *, fencing_token: int | None = None) -> None:
        """Set the status."""
        await self._states.set_status(session_id, status, fencing_token)

    async def compare_and_set_status(
        self,
        session_id: str,
        expected: Collection[str],
        status: str,
        *,
        expected_version: int | None = None,
        fencing_token: int | None = None,
    ) -> bool:
        """Set the status if it is one of ``expected`` and, if given, the version is ``expected_version``.

        Returns:
            Whether it was set. Of many callers that expect the same and set another, one gets True.
        """
        collection: Any = expected
        if isinstance(collection, (str, bytes)) or not isinstance(collection, Collection) or not collection:
            raise InvalidArgumentError(
                "expected must be a collection of statuses that is not empty", hint="['running']"
            )
        return await self._states.set_status(session_id, status, fencing_token, expected, expected_version)

    async def increment_step_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the step count; returns the sum."""
        return await self._states.increment("stepCount", session_id, by, fencing_token)

    async def increment_resume_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the resume count; returns the sum."""
        return await self._states.increment("resumeCount", session_id, by, fencing_token)

    # --- custom state

    async def merge_custom_state(
        self, session_id: str, changes: MergeChanges | Mapping[str, Any], *, fencing_token: int | None = None
    ) -> MergeResult:
        """Merge changes into the top level of the custom state.

        Args:
            changes: a MergeChanges; a dict of values; or a dict that has no names but those of a MergeChanges in wire
                form, ``values``, ``arrayReplacements`` and ``deletes``.

        ``deletes`` come first. Then arrays extend the stored array, or replace it if ``array_replacements`` names them,
        and all other values are set. An array that meets a stored value which is no array replaces it, with a warning.

        Returns:
            The new version and the warnings.
        """
        return await self._states.merge(session_id, changes, fencing_token)

    # --- messages: any JSON objects

    async def append_messages(
        self, session_id: str, messages: Sequence[Any], *, fencing_token: int | None = None
    ) -> int:
        """Append messages to the conversation. The cost does not depend on the length of the conversation.

        Returns:
            The new number of messages.
        """
        return await self._messages.append(session_id, messages, fencing_token)

    async def get_messages(
        self,
        session_id: str,
        *,
        offset: int = 0,
        limit: int = 50,
        newest_first: bool = False,
        include_thinking: bool = True,
    ) -> MessagePage:
        """A page of the conversation.

        Args:
            offset: messages to skip: the oldest, or with ``newest_first`` the newest.
            limit: messages at most, 1-10 000.
            newest_first: whether the page begins with the newest message.
            include_thinking: False leaves out the model's reasoning: ``thinking`` and ``reasoning`` of a message, and
                parts of its content of the types ``thinking``, ``redacted_thinking`` and ``reasoning``.

        Raises:
            SessionNotFoundError: the session does not exist.
        """
        return await self._messages.page(
            session_id, offset=offset, limit=limit, newest_first=newest_first, include_thinking=include_thinking
        )

    async def get_message_count(self, session_id: str) -> int:
        """The number of messages; SessionNotFoundError if the session does not exist."""
        return await self._messages.count(session_id)

    async def truncate_messages(self, session_id: str, count: int, *, fencing_token: int | None = None) -> None:
        """Keep the ``count`` oldest messages; a conversation of at most ``count`` stays. Checkpoints keep theirs."""
        await self._messages.truncate(session_id, count, fencing_token)

    async def pop_messages(
        self,
        session_id: str,
        count: int = 1,
        *,
        expected_version: int | None = None,
        fencing_token: int | None = None,
    ) -> list[Any]:
        """Take the newest messages off the conversation, in one step. Checkpoints keep theirs.

        Args:
            count: messages at most, 1-10 000.
            expected_version: the version that must be stored.

        Returns:
            The messages, the oldest first; fewer than ``count`` if there are not so many. The version stays if there is
            none.

        Raises:
            ConcurrentUpdateError: another version is stored.
        """
        return await self._messages.pop(session_id, count, expected_version, fencing_token)

    # --- sub-agents

    async def add_sub_agent_refs(
        self,
        session_id: str,
        refs: Sequence[SubAgentRef | Mapping[str, Any]],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Add references to sub-agents; an existing one is replaced, in its place."""
        await self._sub_agents.add(session_id, refs, fencing_token)

    async def update_sub_agent_ref(
        self,
        session_id: str,
        update: SubAgentRefUpdate | SubAgentRef | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Change the given fields of the reference to ``update.sub_session_id``.

        Raises:
            SubAgentRefNotFoundError: there is no such reference.
            ConcurrentUpdateError: others kept changing the same reference.
        """
        await self._sub_agents.update(session_id, update, fencing_token)

    async def get_sub_agent_refs(self, session_id: str) -> list[SubAgentRef]:
        """The references, in the order in which they were added; SessionNotFoundError without the session."""
        return await self._sub_agents.all(session_id)

    # --- checkpoints

    async def create_checkpoint(
        self, session_id: str, *, metadata: Mapping[str, Any] | None = None, fencing_token: int | None = None
    ) -> Checkpoint:
        """Make a checkpoint of the current state. The cost does not depend on the length of the conversation.

        The version of the state does not change. With ``max_checkpoints``, the oldest checkpoints are deleted in the
        same step.

        Returns:
            The checkpoint, without its state.
        """
        return await self._checkpoints.create(session_id, metadata, fencing_token)

    async def get_checkpoint(self, session_id: str, checkpoint_id: str) -> Checkpoint | None:
        """A checkpoint with its whole state; None if it does not exist."""
        return await self._checkpoints.get(session_id, checkpoint_id)

    async def get_latest_checkpoint(self, session_id: str) -> Checkpoint | None:
        """The newest checkpoint with its whole state; None without checkpoints."""
        return await self._checkpoints.latest(session_id)

    async def list_checkpoints(self, session_id: str, *, limit: int = 10, cursor: str | None = None) -> CheckpointPage:
        """A page of checkpoints, newest first, without their states.

        Args:
            limit: checkpoints at most, 1-10 000.
            cursor: that of the page before; it stays valid while checkpoints are made and deleted.

        Raises:
            InvalidArgumentError: no cursor, or one of another session.
        """
        return await self._checkpoints.page(session_id, limit, cursor)

    async def restore_checkpoint(
        self, session_id: str, checkpoint_id: str, *, fencing_token: int | None = None
    ) -> AgentState:
        """Set the state back to a checkpoint, in one step. Later checkpoints and staged changes stay.

        Returns:
            The state as it was, with a new ``version`` and ``updated_at``, and the session's ``run``, which stays.

        Raises:
            CheckpointNotFoundError: the session has no such checkpoint.
        """
        return await self._checkpoints.restore(session_id, checkpoint_id, fencing_token)

    async def delete_checkpoints(self, session_id: str, *, keep_last: int = 0, fencing_token: int | None = None) -> int:
        """Delete all checkpoints but the ``keep_last`` newest, and the messages that only they needed.

        Returns:
            The number of deleted checkpoints.
        """
        return await self._checkpoints.delete(session_id, keep_last, fencing_token)

    # --- staging

    async def stage_changes(
        self,
        session_id: str,
        step_id: str,
        changes: StagedChanges | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Keep the changes of a tool call apart from the state, whose version stays the same.

        Raises:
            InvalidArgumentError, PatchError: invalid changes; nothing was sent. Whether patches apply shows when they
                are promoted.
        """
        await self._staging.stage(session_id, step_id, changes, fencing_token)

    async def get_staged_changes(self, session_id: str, step_id: str) -> list[StagedChanges]:
        """The staged changes of a step, in the order in which they were staged."""
        return await self._staging.of_step(session_id, step_id)

    async def promote_staging(
        self, session_id: str, step_id: str, *, fencing_token: int | None = None
    ) -> PromoteResult:
        """Apply the staged changes of a step to the custom state, in the order of their timestamps: all or none.

        Merge changes take one script. Patches are computed here from the stored custom state, and applied if it has not
        changed meanwhile; otherwise they are computed again.

        Returns:
            The number of changes applied, the version, and warnings: tool calls that set the same name to different
            values, arrays that replaced a value which is no array, and a step without staged changes (``applied`` is 0,
            as in a second call).

        Raises:
            PatchError: a patch does not apply; the staged changes stay.
            ConcurrentUpdateError: others kept changing the custom state; the staged changes stay.
        """
        return await self._staging.promote(session_id, step_id, fencing_token)

    async def discard_staging(self, session_id: str, step_id: str, *, fencing_token: int | None = None) -> int:
        """Delete the staged changes of a step.

        Returns:
            Their number; 0 also if the session does not exist.
        """
        return await self._staging.discard(session_id, step_id, fencing_token)

    # --- runs

    async def begin_run(
        self,
        session_id: str,
        run_id: str,
        *,
        agent_type: str,
        stream_id: str | None = None,
        messages: Sequence[Any] = (),
        takes_over: SessionRun | None = None,
        resumes: bool = False,
        initial_state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        parent_session_id: str | None = None,
        fencing_token: int | None = None,
    ) -> BegunRun:
        """Begin a run, in one step: create the session if it does not exist, append messages, set status and ``run``.

        Idempotent by the run's id: a run that has ended is not begun again; of another attempt at a run that is under
        way, the messages are there already. Output and error of the run before are removed from the state; its
        checkpoint keeps them.

        Args:
            stream_id: the stream that the run writes.
            messages: appended to the conversation.
            takes_over: the run that the session is in and whose worker is gone, as ``get_run`` gives it; or this run,
                for another attempt with another stream.
            resumes: count it as a resumption.
            agent_type, initial_state, metadata, parent_session_id: of a session that does not exist yet.

        Raises:
            RunConflictError: the session is in a run that is neither this one nor ``takes_over``.
        """
        new = self._states.new(session_id, agent_type, initial_state, metadata)
        new.status, new.parent_session_id = "running", parent_session_id
        return await self._runs.begin(
            session_id,
            run_id,
            new=new,
            stream_id=stream_id,
            messages=messages,
            taken_over=takes_over,
            resumes=resumes,
            fencing_token=fencing_token,
        )

    async def finish_run(
        self,
        session_id: str,
        run_id: str,
        *,
        messages: Sequence[Any],
        output: Any,
        status: str,
        error: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        fencing_token: int | None = None,
    ) -> Checkpoint:
        """End a run, in one step: append its messages, set output, error, status and ``run``, make a checkpoint.

        Idempotent by the run's id: a repeated call returns the same checkpoint and adds nothing, as long as that
        checkpoint is kept. A run need not have been begun with ``begin_run``.

        Args:
            messages: appended to the conversation.
            output: any JSON value; None: none.
            status: how it ended: ``completed``, ``failed``, ``interrupted`` or any other text but ``running``.
            error: why it failed.
            metadata: of the checkpoint.

        Returns:
            The checkpoint of the run's end, without its state; its ``run_id`` is the run's.

        Raises:
            RunConflictError: the session is in another run.
            CheckpointNotFoundError: the run has ended before, and its checkpoint was deleted.
        """
        return await self._runs.finish(
            session_id,
            run_id,
            messages=messages,
            output=output,
            status=status,
            error=error,
            metadata=metadata,
            fencing_token=fencing_token,
        )

    async def get_run(self, session_id: str) -> SessionRun | None:
        """The run that the session is in, or its last one; None without one. The conversation is not read."""
        return await self._runs.get(session_id)
