"""RunContext: what an adapter and its agent see of their run, and what they can do in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from helix_fast.errors import InvalidArgumentError
from helix_fast.flag import Flag
from helix_fast.interfaces import StateStore
from helix_fast.state.schema import AgentState, MergeChanges, PromoteResult, StagedChanges
from helix_fast.streams.chunks import StreamChunk

from .items import RunResult


class RunPart(Protocol):
    """What a context needs of its run."""

    @property
    def token(self) -> int | None:
        """The fencing token."""

    def send(self, chunk: StreamChunk | dict[str, Any]) -> None:
        """Write a chunk without waiting."""

    async def run_sub_agent(
        self, agent: Any, message: Any, agent_type: str | None, tool_call_id: str | None, session_id: str | None
    ) -> RunResult:
        """Run a sub-agent."""


class RunContext:
    """The run that an agent is in. Made by the executor.

    Attributes:
        session_id, run_id, agent_type: of the run.
        state: the session as the run found it, its message included; ``load_state`` reads it anew.
        history: the messages before the one of this run.
        resumed: whether the run goes on from another one.
        stop_requested: an ``asyncio.Event``, true when it is set: the run is to stop. ``stop_reason`` tells why.
        step: number of the current step, from 1; ``commit_step`` ends it.
    """

    def __init__(
        self,
        run: RunPart,
        store: StateStore,
        state: AgentState,
        *,
        run_id: str,
        agent_type: str,
        resumed: bool,
        own: int,
    ) -> None:
        self.session_id: str = state.session_id
        self.run_id: str = run_id
        self.agent_type: str = agent_type
        self.resumed: bool = resumed
        self.state: AgentState = state
        self.history: list[Any] = state.messages[: len(state.messages) - own] if own else list(state.messages)
        self.step: int = state.step_count + 1
        self.stop_requested: Flag = Flag()
        self.stop_reason: str | None = None
        self._run = run
        self._store = store

    @property
    def messages(self) -> list[Any]:
        """The conversation as the run found it, its own message included."""
        return self.state.messages

    async def load_state(self) -> AgentState:
        """Read the session's state anew, into ``state`` too."""
        state = await self._store.load_state(self.session_id)
        if state is not None:
            self.state = state
        return self.state

    def send(self, chunk: StreamChunk | dict[str, Any]) -> None:
        """Write a chunk to the run's stream without waiting: for tools, which do not yield."""
        self._run.send(chunk)

    # steps

    async def stage(
        self, tool_call_id: str, changes: StagedChanges | MergeChanges | Mapping[str, Any] | list[dict[str, Any]]
    ) -> None:
        """Keep what a tool call wants to change in the custom state until ``commit_step``.

        Args:
            changes: a StagedChanges, a MergeChanges, a dict of values to merge, or a list of RFC 6902 patches.
        """
        staged = _staged(tool_call_id, changes, self.now())
        await self._store.stage_changes(self.session_id, self._step_id, staged, fencing_token=self._run.token)

    async def commit_step(self) -> PromoteResult:
        """Apply what the step's tool calls have staged, all of it together, and begin the next step."""
        token = self._run.token
        promoted = await self._store.promote_staging(self.session_id, self._step_id, fencing_token=token)
        self.step = await self._store.increment_step_count(self.session_id, fencing_token=token) + 1
        return promoted

    @property
    def _step_id(self) -> str:
        return step_id(self.run_id, self.step)

    @staticmethod
    def now() -> int:
        """Unix milliseconds."""
        return int(time.time() * 1000)

    # sub-agents

    async def run_sub_agent(
        self,
        agent: Any,
        message: Any,
        *,
        agent_type: str | None = None,
        tool_call_id: str | None = None,
        session_id: str | None = None,
    ) -> RunResult:
        """Run an agent in a session of its own, below this one, and wait for its end.

        This run's stream gets ``subagent_start`` and ``subagent_end``, its state a reference, its usage an entry, so
        that rollups with sub-agents add up. A stop of this run stops the sub-agent, and so does the loss of its lock.

        Args:
            agent_type: default: the agent's name.
            tool_call_id: the tool call that it belongs to.
            session_id: of the sub-agent; default: a new one.

        Returns:
            The result; of a sub-agent that failed, with status ``failed`` and its error: that does not fail this run.
        """
        return await self._run.run_sub_agent(agent, message, agent_type, tool_call_id, session_id)


def step_id(run_id: str, step: int) -> str:
    """The id under which the changes of a run's step are staged."""
    return f"{run_id}:{step}"


def _staged(tool_call_id: str, changes: Any, now: int) -> StagedChanges:
    if isinstance(changes, StagedChanges):
        return changes
    if isinstance(changes, MergeChanges):
        return StagedChanges(
            tool_call_id,
            merge_changes=changes.values,
            timestamp=now,
            array_replacements=changes.array_replacements,
            deletes=changes.deletes,
        )
    if isinstance(changes, Mapping):
        return StagedChanges(tool_call_id, merge_changes=dict(changes), timestamp=now)
    if isinstance(changes, list):
        return StagedChanges(tool_call_id, changes, timestamp=now)
    raise InvalidArgumentError(f"changes are a dict of values or a list of patches, not {type(changes).__name__}")
