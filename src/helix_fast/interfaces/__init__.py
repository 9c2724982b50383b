"""Protocols of the stores: a program that is typed with these works with the stores on Redis and those in memory.

The docstrings of the stores on Redis have ranges, errors and examples; the stores in memory behave the same. Nothing
here imports a backend.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Union

from helix_fast.locks.lock import Lock
from helix_fast.locks.schema import LockInfo
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
from helix_fast.usage.filters import Range
from helix_fast.usage.rollup_schema import UsageRollup
from helix_fast.usage.schema import UsageEntry, UsageSource

from .streams import (
    ResumableReader,
    ResumableStorage,
    Store,
    StreamIds,
    StreamManager,
    StreamReader,
    StreamWriter,
    UntilStopped,
)

__all__ = [
    "LockManager",
    "ResumableReader",
    "ResumableStorage",
    "SessionIds",
    "StateStore",
    "Store",
    "StreamIds",
    "StreamManager",
    "StreamReader",
    "StreamWriter",
    "UntilStopped",
    "UsageStore",
]

AnyEntry = Union[UsageEntry, dict[str, Any]]  # noqa: UP007  evaluated at run time on Python 3.10


class SessionIds(Protocol):
    """A page of session ids; ``cursor`` is that of the next page, None at the end."""

    cursor: str | None

    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


class StateStore(Store, Protocol):
    """Sessions: state, conversation, checkpoints, staged changes."""

    async def create_session(
        self,
        session_id: str,
        *,
        agent_type: str,
        initial_state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        fencing_token: int | None = None,
    ) -> AgentState:
        """Create a session."""

    async def save_state(
        self,
        session_id: str,
        state: AgentState | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Store a whole state; the new version."""

    async def load_state(self, session_id: str) -> AgentState | None:
        """The whole state; None if the session does not exist."""

    async def session_exists(self, session_id: str) -> bool:
        """Whether the session exists."""

    async def delete_session(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of a session; whether it existed."""

    async def save(self, state: AgentState | Mapping[str, Any], **options: Any) -> int:
        """``save_state`` of the session that the state names."""

    async def load(self, session_id: str) -> AgentState | None:
        """The whole state, as ``load_state``."""

    async def exists(self, session_id: str) -> bool:
        """Whether the session exists, as ``session_exists``."""

    async def delete(self, session_id: str, *, fencing_token: int | None = None) -> bool:
        """Delete everything of a session, as ``delete_session``."""

    async def touch(self, session_id: str, *, ttl: int | None = None, fencing_token: int | None = None) -> bool:
        """Renew a session's TTL, or give it one of its own; whether it exists."""

    async def list_sessions(self, *, limit: int | None = None, cursor: str | None = None) -> SessionIds:
        """Ids of the sessions."""

    async def update_status(self, session_id: str, status: str, *, fencing_token: int | None = None) -> None:
        """Set the status."""

    async def compare_and_set_status(
        self,
        session_id: str,
        expected: Collection[str],
        status: str,
        *,
        expected_version: int | None = None,
        fencing_token: int | None = None,
    ) -> bool:
        """Set the status if it is one of the expected ones; whether it was set."""

    async def increment_step_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Count steps up; the new count."""

    async def increment_resume_count(self, session_id: str, by: int = 1, *, fencing_token: int | None = None) -> int:
        """Count resumptions up; the new count."""

    async def append_messages(
        self, session_id: str, messages: Sequence[Any], *, fencing_token: int | None = None
    ) -> int:
        """Append to the conversation; the new number of messages."""

    async def get_messages(
        self,
        session_id: str,
        *,
        offset: int = 0,
        limit: int = 50,
        newest_first: bool = False,
        include_thinking: bool = True,
    ) -> MessagePage:
        """A page of the conversation."""

    async def get_message_count(self, session_id: str) -> int:
        """The number of messages."""

    async def truncate_messages(self, session_id: str, count: int, *, fencing_token: int | None = None) -> None:
        """Keep only the oldest ``count`` messages."""

    async def pop_messages(
        self,
        session_id: str,
        count: int = 1,
        *,
        expected_version: int | None = None,
        fencing_token: int | None = None,
    ) -> list[Any]:
        """Take the newest messages off the conversation; these, the oldest first."""

    async def merge_custom_state(
        self, session_id: str, changes: MergeChanges | Mapping[str, Any], *, fencing_token: int | None = None
    ) -> MergeResult:
        """Merge changes into the custom state."""

    async def add_sub_agent_refs(
        self, session_id: str, refs: Sequence[SubAgentRef | Mapping[str, Any]], *, fencing_token: int | None = None
    ) -> None:
        """Add references to sub-agents."""

    async def update_sub_agent_ref(
        self,
        session_id: str,
        update: SubAgentRefUpdate | SubAgentRef | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Change a reference to a sub-agent."""

    async def get_sub_agent_refs(self, session_id: str) -> list[SubAgentRef]:
        """The references to sub-agents, in the order in which they were added."""

    async def create_checkpoint(
        self, session_id: str, *, metadata: Mapping[str, Any] | None = None, fencing_token: int | None = None
    ) -> Checkpoint:
        """Make a checkpoint."""

    async def get_checkpoint(self, session_id: str, checkpoint_id: str) -> Checkpoint | None:
        """A checkpoint with its state; None if it does not exist."""

    async def get_latest_checkpoint(self, session_id: str) -> Checkpoint | None:
        """The newest checkpoint with its state; None without checkpoints."""

    async def list_checkpoints(self, session_id: str, *, limit: int = 10, cursor: str | None = None) -> CheckpointPage:
        """A page of checkpoints, newest first."""

    async def restore_checkpoint(
        self, session_id: str, checkpoint_id: str, *, fencing_token: int | None = None
    ) -> AgentState:
        """Set the state back to a checkpoint; the state."""

    async def delete_checkpoints(self, session_id: str, *, keep_last: int = 0, fencing_token: int | None = None) -> int:
        """Delete all checkpoints but the newest; the number of deleted ones."""

    async def stage_changes(
        self,
        session_id: str,
        step_id: str,
        changes: StagedChanges | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Keep the changes of a tool call until its step is promoted."""

    async def get_staged_changes(self, session_id: str, step_id: str) -> list[StagedChanges]:
        """The staged changes of a step."""

    async def promote_staging(
        self, session_id: str, step_id: str, *, fencing_token: int | None = None
    ) -> PromoteResult:
        """Apply the staged changes of a step, once."""

    async def discard_staging(self, session_id: str, step_id: str, *, fencing_token: int | None = None) -> int:
        """Delete the staged changes of a step; their number."""

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
        """Begin a run, once: create or load the session, append messages, set its ``run``."""

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
        """End a run, once: append messages, set output, status and its ``run``, make a checkpoint."""

    async def get_run(self, session_id: str) -> SessionRun | None:
        """The session's current or last run."""


class UsageStore(Store, Protocol):
    """Usage of agents: entries, each recorded once, and their sums."""

    async def record_entry(self, entry: AnyEntry) -> bool:
        """Record an entry; False if its id is recorded already."""

    async def record_tokens(
        self,
        session_id: str,
        model: str,
        *,
        prompt: int,
        completion: int,
        reasoning: int = 0,
        cached: int = 0,
        total: int | None = None,
        cost: float | None = None,
        id: str | None = None,  # noqa: A002  the entry's field
        run_id: str | None = None,
        step_count: int = 0,
        timestamp: int | None = None,
        source: UsageSource | None = None,
    ) -> bool:
        """Record a call of a model; False where its id is recorded already."""

    async def record_entries(self, entries: Iterable[AnyEntry]) -> int:
        """Record entries of one session; the number of new ones."""

    async def get_entries(
        self,
        session_id: str,
        *,
        kinds: Collection[str] | None = None,
        step_range: Range | None = None,
        time_range: Range | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[UsageEntry]:
        """Entries of a session, in the order in which they were recorded."""

    async def get_rollup(self, session_id: str, *, include_sub_agents: bool = False) -> UsageRollup | None:
        """The sums of a session's usage; None if it has none."""

    async def exists(self, session_id: str) -> bool:
        """Whether the session has usage."""

    async def delete(self, session_id: str) -> bool:
        """Delete a session's usage; whether it had any."""

    async def get_entry_count(self, session_id: str) -> int:
        """The number of a session's entries."""

    async def find_session_ids(self, *, limit: int | None = None, cursor: str | None = None) -> SessionIds:
        """Sessions that have usage."""


class LockManager(Store, Protocol):
    """Locks over sessions, with fencing tokens that only ever grow."""

    async def acquire(
        self, session_id: str, *, ttl_ms: float | None = None, owner: str | None = None, wait_ms: float = 0
    ) -> Lock | None:
        """Acquire the lock of a session; None if another holds it."""

    def hold(
        self,
        session_id: str,
        *,
        ttl_ms: float | None = None,
        owner: str | None = None,
        wait_ms: float = 0,
        renew: bool = True,
        on_lost: Callable[[Lock], object] | None = None,
        cancel_on_lost: bool = False,
    ) -> AbstractAsyncContextManager[Lock]:
        """Hold a lock for the length of an ``async with`` block."""

    async def is_locked(self, session_id: str) -> bool:
        """Whether the session is locked now."""

    async def get_holder(self, session_id: str) -> LockInfo | None:
        """The holder of the lock; None if the session is not locked."""
