"""One file: written by .ci/make_sync.py from helix_fast.agents. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .loop import call, run
from .stepping import Running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helix_fast.agents.items import RunResult
    from helix_fast.state.schema import AgentState, MergeChanges, PromoteResult, StagedChanges
    from helix_fast.streams.chunks import StreamChunk


class RunContext(Running):
    """The run that an agent is in. Made by the executor.

    Attributes:
        session_id, run_id, agent_type: of the run.
        state: the session as the run found it, its message included; ``load_state`` reads it anew.
        history: the messages before the one of this run.
        resumed: whether the run goes on from another one.
        stop_requested: A ``Flag``, true when it is set: the run is to stop. ``stop_reason`` tells why.
        step: number of the current step, from 1; ``commit_step`` ends it.
    """

    @property
    def session_id(self) -> str:
        """Of the run."""
        return self._async.session_id

    @property
    def run_id(self) -> str:
        """Of the run."""
        return self._async.run_id

    @property
    def agent_type(self) -> str:
        """Of the run."""
        return self._async.agent_type

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from another one."""
        return self._async.resumed

    @property
    def state(self) -> AgentState:
        """The session as the run found it, its message included; ``load_state`` reads it anew."""
        return self._async.state

    @property
    def history(self) -> list[Any]:
        """The messages before the one of this run."""
        return self._async.history

    @property
    def step(self) -> int:
        """Number of the current step, from 1; ``commit_step`` ends it."""
        return self._async.step

    @property
    def stop_reason(self) -> str | None:
        """``stop_reason``, see the class."""
        return self._async.stop_reason

    @property
    def messages(self) -> list[Any]:
        """The conversation as the run found it, its own message included."""
        return self._async.messages

    def load_state(self) -> AgentState:
        """Read the session's state anew, into ``state`` too."""
        return run(self._async.load_state())

    def send(self, chunk: StreamChunk | dict[str, Any]) -> None:
        """Write a chunk to the run's stream without waiting: for tools, which do not yield."""
        call(lambda: self._async.send(chunk))

    def stage(
        self, tool_call_id: str, changes: StagedChanges | MergeChanges | Mapping[str, Any] | list[dict[str, Any]]
    ) -> None:
        """Keep what a tool call wants to change in the custom state until ``commit_step``.

        Args:
            changes: a StagedChanges, a MergeChanges, a dict of values to merge, or a list of RFC 6902 patches.
        """
        run(self._async.stage(tool_call_id, changes))

    def commit_step(self) -> PromoteResult:
        """Apply what the step's tool calls have staged, all of it together, and begin the next step."""
        return run(self._async.commit_step())

    def run_sub_agent(
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
        return run(
            self._async.run_sub_agent(
                agent, message, agent_type=agent_type, tool_call_id=tool_call_id, session_id=session_id
            )
        )
