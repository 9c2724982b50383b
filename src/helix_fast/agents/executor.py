"""AgentExecutor: begins runs of agents, finds them again, and waits for them when the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal, TypeVar, overload

from helix_fast.errors import ExecutorClosedError, HelixError, InvalidArgumentError, LockNotAcquiredError
from helix_fast.interfaces import LockManager, StateStore, StreamManager, UsageStore
from helix_fast.keys import check_id
from helix_fast.reporting import BackgroundErrors, ErrorCallback

from .adapter import AgentAdapter
from .functions import FunctionAdapter
from .handle import RunHandle
from .items import agent_type_of
from .run import Run
from .settings import Request, Settings, Stores

Self = TypeVar("Self", bound="AgentExecutor")
_BUSY: Final = ("raise", "wait", "join")
_PAUSE: Final = 0.02
# Between the end of a run's stream and the release of its lock is a round trip.
_RELEASE_MS: Final = 500
_SHUTDOWN: Final = "the process shuts down"


class AgentExecutor:
    """Runs agents: each under its session's lock, with a stream of its own, in a task that outlives its caller.

    ```python
    async with AgentExecutor(helix, FunctionAdapter()) as executor:
        handle = await executor.execute(agent, "Hello", session_id="chat-1")
        result = await handle.result()
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
        state_store: Stores,
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
        state_store: StateStore,
        stream_manager: StreamManager,
        adapter: AgentAdapter | None = None,
        *,
        lock_manager: LockManager | None = None,
        usage_store: UsageStore | None = None,
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
        lock_manager: LockManager | None = None,
        usage_store: UsageStore | None = None,
        lock_ttl_ms: float | None = None,
        lease_ms: int = 15_000,
        stop_grace_s: float = 5.0,
        max_length: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        if not hasattr(state_store, "load_state"):  # a Helix
            stores: Stores = state_store
            adapter = adapter or stream_manager
            state_store, stream_manager = stores.state, stores.streams
            lock_manager, usage_store = lock_manager or stores.locks, usage_store or stores.usage
        if not hasattr(stream_manager, "create_writer"):
            raise InvalidArgumentError(
                f"the second argument is a stream manager, not {type(stream_manager).__name__}",
                hint="AgentExecutor(state_store, stream_manager, adapter) or AgentExecutor(helix, adapter)",
            )
        check_adapter(adapter)
        self._errors = BackgroundErrors(logger)
        self._settings = Settings(
            state=state_store,
            streams=stream_manager,
            locks=lock_manager,
            usage=usage_store,
            adapter=adapter if adapter is not None else FunctionAdapter(),
            lock_ttl_ms=lock_ttl_ms,
            lease_ms=lease_ms,
            stop_grace_s=stop_grace_s,
            max_length=max_length,
            report=self._errors.report,
        )
        self._runs: dict[asyncio.Task[None], Run] = {}  # a strong reference to every task
        self._agents: dict[str, Any] = {}
        self._closed = False

    def on(self, event: Literal["error"], callback: ErrorCallback) -> None:
        """Register ``callback(error)`` for errors of background work; ``event`` is ``"error"``."""
        self._errors.on(event, callback)

    @property
    def running(self) -> int:
        """The number of runs under way in this executor, without those of sub-agents."""
        return len(self._runs)

    async def execute(
        self,
        agent: Any,
        message: Any,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        usage_store: UsageStore | None = None,
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
        if if_busy not in _BUSY:
            raise InvalidArgumentError(f"if_busy is one of {', '.join(_BUSY)}, not {if_busy!r}")
        kind = agent_type or agent_type_of(agent)
        request = Request(
            session_id=secrets.token_hex(8) if session_id is None else check_id(session_id, "session_id"),
            run_id=secrets.token_hex(8) if run_id is None else check_id(run_id, "run_id"),
            agent=agent,
            agent_type=kind,
            message=message,
            usage=self._settings.usage if usage_store is None else usage_store,
            initial_state=None if initial_state is None else dict(initial_state),
            metadata=None if metadata is None else dict(metadata),
            own_id=run_id is not None,
        )
        self._agents[kind] = agent
        while True:
            try:
                return await self._start(request, math.inf if wait_ms is None else wait_ms)
            except LockNotAcquiredError:
                if if_busy != "join":
                    raise
            joined = await self._current(request.session_id, request.usage)
            if joined is not None:
                return joined
            await asyncio.sleep(_PAUSE)  # that run is about to begin, or to end

    async def _start(self, request: Request, wait_ms: float) -> RunHandle:
        if self._closed:
            raise ExecutorClosedError("the executor begins no more runs")
        give_up = time.monotonic() + wait_ms / 1000
        patient = wait_ms >= _RELEASE_MS
        while True:
            run = Run(self._settings, request)
            try:
                await run.start(wait_ms, self._keep)
                break
            except LockNotAcquiredError:
                if self._settings.locks is None:  # there is no queue to wait in
                    if time.monotonic() >= give_up:
                        raise
                    await asyncio.sleep(_PAUSE)
                    continue
                stored = None if patient else await self._settings.state.get_run(request.session_id)
                if stored is None or stored.phase == "running":
                    raise
                wait_ms, patient = _RELEASE_MS, True  # its run has ended: the lock is about to be released
        return self._handle(run, joined=not run.begun)

    def _keep(self, run: Run, task: asyncio.Task[None]) -> None:
        self._runs[task] = run
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._runs.pop(task, None)

    def _handle(self, run: Run, *, joined: bool) -> RunHandle:
        request = run.request
        return RunHandle(
            self._settings,
            request.session_id,
            request.run_id,
            run.stream_id,
            usage=request.usage,
            resume=self._resume,
            agent=request.agent,
            local=run if run.begun else None,
            joined=joined,
        )

    async def _current(self, session_id: str, usage: UsageStore | None) -> RunHandle | None:
        """A handle of the run that a session is in; None where it is in none."""
        stored = await self._settings.state.get_run(session_id)
        if stored is None or stored.phase != "running":
            return None
        return await self.get_handle(session_id, usage_store=usage)

    async def get_handle(self, session_id: str, *, usage_store: UsageStore | None = None) -> RunHandle | None:
        """The handle of the run that the session is in, or of its last one, begun in any process; None without one.

        Its ``joined`` is True.
        """
        stored = await self._settings.state.get_run(check_id(session_id, "session_id"))
        if stored is None:
            return None
        for run in self._runs.values():
            if run.request.session_id == session_id and run.request.run_id == stored.id and run.begun:
                return self._handle(run, joined=True)
        return RunHandle(
            self._settings,
            session_id,
            stored.id,
            stored.stream_id,
            usage=self._settings.usage if usage_store is None else usage_store,
            resume=self._resume,
            joined=True,
        )

    async def _resume(self, handle: RunHandle, message: Any, agent: Any, wait_ms: float | None) -> RunHandle:
        known = agent if agent is not None else handle.agent
        state = await self._settings.state.load_state(handle.session_id)
        kind = agent_type_of(known) if state is None else state.agent_type
        if known is None:
            known = self._agents.get(kind)
        if known is None and getattr(self._settings.adapter, "default_agent", None) is None:
            raise InvalidArgumentError(f"no agent {kind!r} is known here", hint="pass agent= to resume()")
        request = Request(
            session_id=handle.session_id,
            run_id=secrets.token_hex(8),
            agent=known,
            agent_type=kind,
            message=message,
            usage=handle._usage,
            resumes=True,
        )
        return await self._start(request, math.inf if wait_ms is None else wait_ms)

    # --- the end of the process

    async def drain(self, grace_s: float = 30.0) -> None:
        """Refuse new runs, wait for those under way, and interrupt what does not end in time; state and stream say so.

        Args:
            grace_s: seconds to wait before runs are interrupted; 0: at once.
        """
        self._closed = True
        for run in list(self._runs.values()):
            if run.begun is None:
                run.refuse(ExecutorClosedError("the executor begins no more runs"))
        if self._runs and grace_s > 0:
            await asyncio.wait(list(self._runs), timeout=grace_s)
        for run in list(self._runs.values()):
            run.interrupt(_SHUTDOWN)
        if self._runs:
            await asyncio.wait(list(self._runs), timeout=4 * self._settings.stop_grace_s + 1)
        for task, run in list(self._runs.items()):
            self._errors.report(HelixError(f"run {run.request.run_id!r} did not end, and is abandoned"))
            task.cancel()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """For ASGI: ``Starlette(lifespan=executor.lifespan)`` drains the executor when the server stops."""
        async with self:
            yield

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.drain()


def check_adapter(adapter: object) -> None:
    """Refuse what is no adapter; None is the default one."""
    if adapter is not None and not hasattr(adapter, "run"):
        raise InvalidArgumentError(f"an adapter has a method run: {type(adapter).__name__} has none")
