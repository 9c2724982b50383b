"""One file: written by .ci/make_sync.py from helix_fast.agents. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from .loop import call, run
from .running import Executing, Handling
from .streams import RedisStreamManager, ResumableReader

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from helix_fast.agents.adapter import AgentAdapter
    from helix_fast.agents.items import RunResult
    from helix_fast.state.schema import AgentState
    from helix_fast.usage.rollup_schema import UsageRollup

    from .helix import Helix
    from .locks import RedisLockManager
    from .state import RedisStateStore
    from .usage import RedisUsageStore


class RunHandle(Handling):
    """A run of an agent. Made by ``AgentExecutor.execute`` and ``get_handle``.

    A handle holds nothing: it can be dropped, and its calls interrupted, without any effect on the run.

    Attributes:
        session_id, run_id, stream_id: of the run.
        agent: the agent, where this process knows it.
        joined: whether this is a run that another call has begun: the message of ``execute`` was not delivered, unless
            this is the run that it has named.
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
    def stream_id(self) -> str:
        """Of the run."""
        return self._async.stream_id

    @property
    def joined(self) -> bool:
        """``joined``, see the class."""
        return self._async.joined

    @property
    def agent(self) -> Any:
        """The agent, where this process knows it."""
        return self._async.agent

    def result(self) -> RunResult:
        """Wait for the end of the run.

        In another process, this follows the stream to its end, and reads the state. It is the result of this run, also
        when the session is in a later one.

        Raises:
            RunFailedError: it failed.
            ProducerLostError: its worker died, or lost its lock. The session can be resumed.
            StreamNotFoundError: nothing of the run is kept any more.
        """
        return run(self._async.result())

    def stream(self, from_sequence: int = 0) -> ResumableReader:
        """The chunks of the run with their sequences, then live, until it ends.

        Args:
            from_sequence: the last sequence seen; see ``RedisStreamManager.read``.
        """
        return ResumableReader._over(call(lambda: self._async.stream(from_sequence)))

    def get_state(self) -> AgentState | None:
        """The session's state; None if it was deleted."""
        return run(self._async.get_state())

    def get_usage_rollup(self, include_sub_agents: bool = True) -> UsageRollup | None:
        """What the session has used, in this run and in others; None without usage or a usage store."""
        return run(self._async.get_usage_rollup(include_sub_agents))

    def stop(self, reason: str | None = None) -> None:
        """Ask the run to stop, from any process. It gets the status ``interrupted``, unless it has ended by then.

        A run that has ended, or whose worker is gone, stays as it is.
        """
        run(self._async.stop(reason))

    def resume(self, message: Any = None, *, agent: Any = None, wait_ms: float | None = 0) -> RunHandle:
        """Go on from the last checkpoint and what was acknowledged since, in a new run; counts as a resumption.

        Args:
            message: a further message; None: none.
            agent: needed where this process does not know the agent: it has neither begun this run nor another one of
                the same agent type.
            wait_ms: milliseconds to wait for a session that is busy; None: without limit.

        Raises:
            LockNotAcquiredError: the session is busy.
            InvalidArgumentError: the agent is not known here.
        """
        return RunHandle._over(run(self._async.resume(message, agent=agent, wait_ms=wait_ms)))


class AgentExecutor(Executing):
    """Runs agents: each under its session's lock, with a stream of its own, in a task that outlives its caller.

    ```python
    with AgentExecutor(helix, FunctionAdapter()) as executor:
        handle = executor.execute(agent, "Hello", session_id="chat-1")
        result = handle.result()
    ```

    Args:
        state_store: the store of sessions; or a Helix: all five stores.
        stream_manager: the streams; after a Helix, the adapter is the second argument.
        adapter: runs the agents of a framework; default: FunctionAdapter.
        lock_manager: locks the sessions. Without one, nothing keeps a worker that wakes up from a long sleep from
            writing to streams and state until another has taken its session over, and of two workers that take a
            session over at the same time both may have failed the stream of the run before.
        usage_store: records usage, unless ``execute`` gets another one.
        lock_ttl_ms: TTL of the locks in milliseconds; default: the manager's.
        lease_ms: milliseconds after which readers know that a worker is dead.
        stop_grace_s: seconds in which an adapter has to end when its run stops; it is cancelled again after that.
        max_length: chunks that a run's stream keeps; default: all, so that a reader can begin with the first.
        logger: gets background errors while there is no callback for them.
    """

    @overload
    def __init__(
        self,
        state_store: Helix,
        stream_manager: AgentAdapter | None = None,
        /,
        *,
        lock_ttl_ms: float | None = None,
        lease_ms: int = 15_000,
        stop_grace_s: float = 5.0,
        max_length: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        state_store: RedisStateStore,
        stream_manager: RedisStreamManager,
        adapter: AgentAdapter | None = None,
        *,
        lock_manager: RedisLockManager | None = None,
        usage_store: RedisUsageStore | None = None,
        lock_ttl_ms: float | None = None,
        lease_ms: int = 15_000,
        stop_grace_s: float = 5.0,
        max_length: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None: ...
    def __init__(
        self,
        state_store: Any,
        stream_manager: Any = None,
        adapter: AgentAdapter | None = None,
        *,
        lock_manager: RedisLockManager | None = None,
        usage_store: RedisUsageStore | None = None,
        lock_ttl_ms: float | None = None,
        lease_ms: int = 15_000,
        stop_grace_s: float = 5.0,
        max_length: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        super().__init__(
            state_store,
            stream_manager,
            adapter,
            lock_manager=lock_manager,
            usage_store=usage_store,
            lock_ttl_ms=lock_ttl_ms,
            lease_ms=lease_ms,
            stop_grace_s=stop_grace_s,
            max_length=max_length,
            logger=logger,
        )

    @property
    def running(self) -> int:
        """The number of runs under way in this executor, without those of sub-agents."""
        return self._async.running

    def execute(
        self,
        agent: Any,
        message: Any,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        usage_store: RedisUsageStore | None = None,
        if_busy: Literal["raise", "wait", "join"] = "raise",
        wait_ms: float | None = 0,
        agent_type: str | None = None,
        initial_state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Begin a run; returns when its message is stored. The run goes on, whatever becomes of the caller.

        Args:
            agent: what the adapter runs.
            message: text, which becomes a user's message; a message or a list of them, JSON objects; None: none.
            session_id: default: a new session.
            run_id: makes the call idempotent: if the run has ended before, its result is that of the handle, and if its
                worker is gone, it is begun again, without its message being stored twice.
            usage_store: records the run's usage, in place of the executor's.
            if_busy: what to do if the session is in a run for longer than ``wait_ms``: ``"raise"`` and ``"wait"`` raise
                LockNotAcquiredError, ``"join"`` gives the handle of that run, whose ``joined`` is True: it does not get
                the message.
            wait_ms: milliseconds to wait for a session that is busy; None: without limit.
            agent_type: default: the agent's ``agent_type`` or ``name``.
            initial_state, metadata: of a session that does not exist yet.

        Raises:
            LockNotAcquiredError: the session is busy.
            ExecutorClosedError: the executor is being drained.
            InvalidIdError, InvalidArgumentError, StoreConnectionError.
        """
        return RunHandle._over(
            run(
                self._async.execute(
                    agent,
                    message,
                    session_id=session_id,
                    run_id=run_id,
                    usage_store=None if usage_store is None else usage_store._async,
                    if_busy=if_busy,
                    wait_ms=wait_ms,
                    agent_type=agent_type,
                    initial_state=initial_state,
                    metadata=metadata,
                )
            )
        )

    def get_handle(self, session_id: str, *, usage_store: RedisUsageStore | None = None) -> RunHandle | None:
        """The handle of the run that the session is in, or of its last one, begun in any process; None without one.

        Its ``joined`` is True.
        """
        return RunHandle._over_any(
            run(self._async.get_handle(session_id, usage_store=None if usage_store is None else usage_store._async))
        )

    def drain(self, grace_s: float = 30.0) -> None:
        """Refuse new runs, wait for those under way, and interrupt what does not end in time; state and stream say so.

        Args:
            grace_s: seconds to wait before runs are interrupted; 0: at once.
        """
        run(self._async.drain(grace_s))
