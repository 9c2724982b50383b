"""One file: written by .ci/make_sync.py from helix_fast.state. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helix_fast.state import store as _store

from .base import BlockingStore
from .loop import run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Unpack

    from helix_fast.index import IdPage
    from helix_fast.options import ConnectionOptions
    from helix_fast.state.schema import (
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


class RedisStateStore(BlockingStore["_store.RedisStateStore"]):
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
        self._async = _store.RedisStateStore(
            redis, key_prefix=key_prefix, ttl=ttl, max_checkpoints=max_checkpoints, **connection
        )

    @property
    def ttl(self) -> int:
        """``ttl``, see the class."""
        return self._async.ttl

    @property
    def max_checkpoints(self) -> int:
        """Newest checkpoints of a session that are kept; None: all."""
        return self._async.max_checkpoints

    def close(self) -> None:
        """Close the store, and its connections unless a Helix shares them. Safe to call twice, in any thread."""
        run(self._async.close())

    def create_session(
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
        return run(
            self._async.create_session(
                session_id,
                agent_type=agent_type,
                initial_state=initial_state,
                metadata=metadata,
                fencing_token=fencing_token,
            )
        )

    def save_state(
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
        return run(
            self._async.save_state(session_id, state, fencing_token=fencing_token, expected_version=expected_version)
        )

    def load_state(self, session_id: str) -> AgentState | None:
        """The whole state; None if the session does not exist."""
        return run(self._async.load_state(session_id))

    def session_exists(self, session_id: str) -> bool:
        """Whether the session exists."""
        return run(self._async.session_exists(session_id))

    def delete_session(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of the session in one step: checkpoints, old logs and staged changes too.

        The largest fencing token that the session has seen is known for a day longer, so that a stale holder cannot
        bring the session back.

        Returns:
            Whether it existed.
        """
        return run(self._async.delete_session(session_id, fencing_token=fencing_token))

    def touch(self, session_id: str, *, ttl: int | None = None, fencing_token: int | None = None) -> bool:
        """Let the session live on as after a write. Its version stays the same.

        Args:
            ttl: seconds from its last write until this session expires, in place of the store's TTL; later writes keep
                it, by any store. 0: until it is deleted. None: as before.

        Returns:
            Whether it exists.
        """
        return run(self._async.touch(session_id, ttl=ttl, fencing_token=fencing_token))

    def list_sessions(self, *, limit: int | None = None, cursor: str | None = None) -> IdPage:
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
        return run(self._async.list_sessions(limit=limit, cursor=cursor))

    def save(self, state: AgentState | Mapping[str, Any], **options: Any) -> int:
        """``save_state`` of the session that the state names; the same options."""
        return run(self._async.save(state, **options))

    def load(self, session_id: str) -> AgentState | None:
        """The whole state, as ``load_state``."""
        return run(self._async.load(session_id))

    def delete(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of the session, as ``delete_session``."""
        return run(self._async.delete(session_id, fencing_token=fencing_token))

    def exists(self, session_id: str) -> bool:
        """Whether the session exists, as ``session_exists``."""
        return run(self._async.exists(session_id))

    def update_status(self, session_id: str, status: str, *, fencing_token: int | None = None) -> None:
        """Set the status."""
        run(self._async.update_status(session_id, status, fencing_token=fencing_token))

    def compare_and_set_status(
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
        return run(
            self._async.compare_and_set_status(
                session_id, expected, status, expected_version=expected_version, fencing_token=fencing_token
            )
        )

    def increment_step_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the step count; returns the sum."""
        return run(self._async.increment_step_count(session_id, by, fencing_token=fencing_token))

    def increment_resume_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Add ``by``, at least 1, to the resume count; returns the sum."""
        return run(self._async.increment_resume_count(session_id, by, fencing_token=fencing_token))

    def merge_custom_state(
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
        return run(self._async.merge_custom_state(session_id, changes, fencing_token=fencing_token))

    def append_messages(self, session_id: str, messages: Sequence[Any], *, fencing_token: int | None = None) -> int:
        """Append messages to the conversation. The cost does not depend on the length of the conversation.

        Returns:
            The new number of messages.
        """
        return run(self._async.append_messages(session_id, messages, fencing_token=fencing_token))

    def get_messages(
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
        return run(
            self._async.get_messages(
                session_id, offset=offset, limit=limit, newest_first=newest_first, include_thinking=include_thinking
            )
        )

    def get_message_count(self, session_id: str) -> int:
        """The number of messages; SessionNotFoundError if the session does not exist."""
        return run(self._async.get_message_count(session_id))

    def truncate_messages(self, session_id: str, count: int, *, fencing_token: int | None = None) -> None:
        """Keep the ``count`` oldest messages; a conversation of at most ``count`` stays. Checkpoints keep theirs."""
        run(self._async.truncate_messages(session_id, count, fencing_token=fencing_token))

    def pop_messages(
        self, session_id: str, count: int = 1, *, expected_version: int | None = None, fencing_token: int | None = None
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
        return run(
            self._async.pop_messages(session_id, count, expected_version=expected_version, fencing_token=fencing_token)
        )

    def add_sub_agent_refs(
        self, session_id: str, refs: Sequence[SubAgentRef | Mapping[str, Any]], *, fencing_token: int | None = None
    ) -> None:
        """Add references to sub-agents; an existing one is replaced, in its place."""
        run(self._async.add_sub_agent_refs(session_id, refs, fencing_token=fencing_token))

    def update_sub_agent_ref(
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
        run(self._async.update_sub_agent_ref(session_id, update, fencing_token=fencing_token))

    def get_sub_agent_refs(self, session_id: str) -> list[SubAgentRef]:
        """The references, in the order in which they were added; SessionNotFoundError without the session."""
        return run(self._async.get_sub_agent_refs(session_id))

    def create_checkpoint(
        self, session_id: str, *, metadata: Mapping[str, Any] | None = None, fencing_token: int | None = None
    ) -> Checkpoint:
        """Make a checkpoint of the current state. The cost does not depend on the length of the conversation.

        The version of the state does not change. With ``max_checkpoints``, the oldest checkpoints are deleted in the
        same step.

        Returns:
            The checkpoint, without its state.
        """
        return run(self._async.create_checkpoint(session_id, metadata=metadata, fencing_token=fencing_token))

    def get_checkpoint(self, session_id: str, checkpoint_id: str) -> Checkpoint | None:
        """A checkpoint with its whole state; None if it does not exist."""
        return run(self._async.get_checkpoint(session_id, checkpoint_id))

    def get_latest_checkpoint(self, session_id: str) -> Checkpoint | None:
        """The newest checkpoint with its whole state; None without checkpoints."""
        return run(self._async.get_latest_checkpoint(session_id))

    def list_checkpoints(self, session_id: str, *, limit: int = 10, cursor: str | None = None) -> CheckpointPage:
        """A page of checkpoints, newest first, without their states.

        Args:
            limit: checkpoints at most, 1-10 000.
            cursor: that of the page before; it stays valid while checkpoints are made and deleted.

        Raises:
            InvalidArgumentError: no cursor, or one of another session.
        """
        return run(self._async.list_checkpoints(session_id, limit=limit, cursor=cursor))

    def restore_checkpoint(
        self, session_id: str, checkpoint_id: str, *, fencing_token: int | None = None
    ) -> AgentState:
        """Set the state back to a checkpoint, in one step. Later checkpoints and staged changes stay.

        Returns:
            The state as it was, with a new ``version`` and ``updated_at``, and the session's ``run``, which stays.

        Raises:
            CheckpointNotFoundError: the session has no such checkpoint.
        """
        return run(self._async.restore_checkpoint(session_id, checkpoint_id, fencing_token=fencing_token))

    def delete_checkpoints(self, session_id: str, *, keep_last: int = 0, fencing_token: int | None = None) -> int:
        """Delete all checkpoints but the ``keep_last`` newest, and the messages that only they needed.

        Returns:
            The number of deleted checkpoints.
        """
        return run(self._async.delete_checkpoints(session_id, keep_last=keep_last, fencing_token=fencing_token))

    def stage_changes(
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
        run(self._async.stage_changes(session_id, step_id, changes, fencing_token=fencing_token))

    def get_staged_changes(self, session_id: str, step_id: str) -> list[StagedChanges]:
        """The staged changes of a step, in the order in which they were staged."""
        return run(self._async.get_staged_changes(session_id, step_id))

    def promote_staging(self, session_id: str, step_id: str, *, fencing_token: int | None = None) -> PromoteResult:
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
        return run(self._async.promote_staging(session_id, step_id, fencing_token=fencing_token))

    def discard_staging(self, session_id: str, step_id: str, *, fencing_token: int | None = None) -> int:
        """Delete the staged changes of a step.

        Returns:
            Their number; 0 also if the session does not exist.
        """
        return run(self._async.discard_staging(session_id, step_id, fencing_token=fencing_token))

    def begin_run(
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
        return run(
            self._async.begin_run(
                session_id,
                run_id,
                agent_type=agent_type,
                stream_id=stream_id,
                messages=messages,
                takes_over=takes_over,
                resumes=resumes,
                initial_state=initial_state,
                metadata=metadata,
                parent_session_id=parent_session_id,
                fencing_token=fencing_token,
            )
        )

    def finish_run(
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
        return run(
            self._async.finish_run(
                session_id,
                run_id,
                messages=messages,
                output=output,
                status=status,
                error=error,
                metadata=metadata,
                fencing_token=fencing_token,
            )
        )

    def get_run(self, session_id: str) -> SessionRun | None:
        """The run that the session is in, or its last one; None without one. The conversation is not read."""
        return run(self._async.get_run(session_id))
