"""RunHandle: a run as its callers see it, in the process that runs it and in any other."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from helix_fast.errors import (
    ProducerLostError,
    RunFailedError,
    StreamClosedError,
    StreamDeletedError,
    StreamError,
    StreamFailedError,
    StreamNotFoundError,
    StreamResetError,
)
from helix_fast.interfaces import ResumableReader, UsageStore
from helix_fast.state.schema import AgentState
from helix_fast.streams.schema import StreamInfo
from helix_fast.usage.rollup_schema import UsageRollup

from .failure import LOST
from .items import RunResult
from .run import Run
from .settings import Settings
from .succession import checkpoint_of

# for a stream that another process is making
_WAIT_MS = 10_000


class Resume(Protocol):
    """Begins a run that goes on where another one ended."""

    def __call__(self, handle: RunHandle, message: Any, agent: Any, wait_ms: float | None) -> Awaitable[RunHandle]:
        """Begin it."""


class RunHandle:
    """A run of an agent. Made by ``AgentExecutor.execute`` and ``get_handle``.

    A handle holds nothing: it can be dropped, and its calls cancelled, without any effect on the run.

    Attributes:
        session_id, run_id, stream_id: of the run.
        agent: the agent, where this process knows it.
        joined: whether this is a run that another call has begun: the message of ``execute`` was not delivered, unless
            this is the run that it has named.
    """

    def __init__(
        self,
        settings: Settings,
        session_id: str,
        run_id: str,
        stream_id: str | None,
        *,
        usage: UsageStore | None,
        resume: Resume,
        agent: Any = None,
        local: Run | None = None,
        joined: bool = False,
    ) -> None:
        self.session_id: str = session_id
        self.run_id: str = run_id
        self.stream_id: str = stream_id or f"{session_id}:{run_id}"
        self.joined: bool = joined
        self.agent: Any = agent
        self._settings = settings
        self._usage = usage
        self._resume = resume
        self._local = local

    def __repr__(self) -> str:
        return f"<RunHandle session={self.session_id!r} run={self.run_id!r}>"

    async def result(self) -> RunResult:
        """Wait for the end of the run.

        In another process, this follows the stream to its end, and reads the state. It is the result of this run, also
        when the session is in a later one.

        Raises:
            RunFailedError: it failed.
            ProducerLostError: its worker died, or lost its lock. The session can be resumed.
            StreamNotFoundError: nothing of the run is kept any more.
        """
        if self._local is not None and self._local.is_here:  # in a forked child its loop is gone: the stores say so
            return await self._local.outcome()
        while True:
            ended = await self._follow()
            result = await self._stored(ended)
            if result is not None:
                return result

    def stream(self, from_sequence: int = 0) -> ResumableReader:
        """The chunks of the run with their sequences, then live, until it ends: an async iterator, no ``await``.

        Args:
            from_sequence: the last sequence seen; see ``RedisStreamManager.read``.
        """
        return self._settings.streams.read(self.stream_id, from_sequence=from_sequence, wait_ms=_WAIT_MS)

    async def get_state(self) -> AgentState | None:
        """The session's state; None if it was deleted."""
        return await self._settings.state.load_state(self.session_id)

    async def get_usage_rollup(self, include_sub_agents: bool = True) -> UsageRollup | None:
        """What the session has used, in this run and in others; None without usage or a usage store."""
        if self._usage is None:
            return None
        return await self._usage.get_rollup(self.session_id, include_sub_agents=include_sub_agents)

    async def stop(self, reason: str | None = None) -> None:
        """Ask the run to stop, from any process. It gets the status ``interrupted``, unless it has ended by then.

        A run that has ended, or whose worker is gone, stays as it is.
        """
        try:
            await self._settings.streams.request_stop(self.stream_id, reason)
        except (StreamClosedError, StreamNotFoundError):
            return

    async def resume(self, message: Any = None, *, agent: Any = None, wait_ms: float | None = 0) -> RunHandle:
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
        return await self._resume(self, message, agent, wait_ms)

    # --- the result, from what is stored

    async def _follow(self) -> StreamError | None:
        """Read to the end of the stream; the error with which it ended."""
        streams = self._settings.streams
        info = await streams.get_info(self.stream_id)
        if info is None:
            return StreamNotFoundError(self.stream_id)
        try:
            reader = streams.read(self.stream_id, from_sequence=info.last_sequence, on_gap="skip")
            try:
                while await reader.read_batch():
                    pass
            finally:
                await reader.close()
        except StreamResetError:
            return await self._follow()
        except (StreamFailedError, StreamNotFoundError, StreamDeletedError) as error:
            return error
        return None

    async def _stored(self, ended: StreamError | None) -> RunResult | None:
        """The result; None where the run is about to end."""
        state, streams = self._settings.state, self._settings.streams
        run = await state.get_run(self.session_id)
        status, checkpoint_id = None, None
        if run is not None and run.id == self.run_id:
            if run.phase == "running" and (run.stream_id or self.stream_id) != self.stream_id:
                raise ProducerLostError(f"{LOST}: the run was begun again")
            status, checkpoint_id = (None, None) if run.phase == "running" else (run.phase, run.checkpoint_id)
        else:
            checkpoint = await checkpoint_of(state, self.session_id, self.run_id)
            if checkpoint is not None:
                status, checkpoint_id = checkpoint.status, checkpoint.id
        info = await streams.get_info(self.stream_id)
        if status is None:
            return self._of_stream(info, ended)
        if info is not None and info.status == "ended":
            return RunResult(status, info.output, None, self.run_id)
        found = None if checkpoint_id is None else await state.get_checkpoint(self.session_id, checkpoint_id)
        left = found.state if found is not None else await state.load_state(self.session_id)
        if status == "failed":
            error = left.error if left is not None and left.error else info.error if info is not None else None
            raise RunFailedError(self.run_id, error or "failed")
        return RunResult(status, None if left is None else left.output, None, self.run_id)

    def _of_stream(self, info: StreamInfo | None, ended: StreamError | None) -> RunResult | None:
        """The result of a run that no session and no checkpoint knows the end of."""
        if info is not None and info.status == "ended":
            return RunResult("completed", info.output, None, self.run_id)
        if isinstance(ended, ProducerLostError):
            raise ended
        if isinstance(ended, StreamFailedError):
            if ended.error.startswith(LOST):
                raise ProducerLostError(ended.error) from ended
            raise RunFailedError(self.run_id, ended.error)
        if ended is not None:
            raise ended
        return None
