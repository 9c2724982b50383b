"""Run: one run in its task, from the lock to the lock's release. In which order its traces begin and end is here."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from helix_fast.errors import (
    HelixError,
    LockLostError,
    LockNotAcquiredError,
    RunConflictError,
    RunFailedError,
    StaleFencingTokenError,
    StreamClosedError,
    StreamError,
    StreamFencedError,
)
from helix_fast.interfaces import StreamWriter
from helix_fast.locks.lock import Lock
from helix_fast.state.schema import AgentState
from helix_fast.streams.chunks import RunInterruptedChunk, RunResumedChunk

from . import sub_agents
from .context import RunContext
from .failure import describe, lost
from .items import RunResult, messages_of
from .pump import Pump
from .settings import Request, Settings
from .succession import Predecessor, stream_of

# Another holder has the session: this run writes nothing more.
_SUPERSEDED: Final = (StaleFencingTokenError, StreamFencedError, RunConflictError)
_BEGINNINGS: Final = 4


class Run:
    """One run. ``start`` returns when its session names it; it goes on in a task of its own, whatever its caller does.

    Attributes:
        stream_id: of its stream.
        begun: whether it has begun; False where it had ended before, in this process or another.
        ended: set when the run is over: then ``result`` or ``error`` is there.
        children: the runs of its sub-agents.
    """

    def __init__(self, settings: Settings, request: Request) -> None:
        self.settings = settings
        self.request = request
        self.stream_id: str | None = None
        self.begun: bool | None = None
        self.ended: asyncio.Event = asyncio.Event()
        self.result: RunResult | None = None
        self.error: HelixError | None = None
        self.context: RunContext | None = None
        self.children: set[Run] = set()
        self.task: asyncio.Task[None] | None = None
        self._writer: StreamWriter | None = None
        self._pump: Pump | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._lock: Lock | None = None
        self._interrupted: str | None = None
        self._decided = self._lock_lost = False
        self._childless: asyncio.Event | None = None
        self._pressing: asyncio.TimerHandle | None = None

    @property
    def token(self) -> int | None:
        """The fencing token, with every write; None without a lock manager."""
        return None if self._lock is None else self._lock.fencing_token

    # --- seen from outside

    async def start(self, wait_ms: float, keep: Callable[[Run, asyncio.Task[None]], object] | None = None) -> None:
        """Begin; returns when the session names the run, or has done so before (``begun`` is False then).

        Args:
            wait_ms: milliseconds to wait for the session's lock.
            keep: takes the task, to which the event loop holds no strong reference.

        Raises:
            LockNotAcquiredError: the session is busy for ``wait_ms``. Whatever keeps the run from beginning.
        """
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._main(started, wait_ms), name=f"run {self.request.run_id}")
        if keep is not None:
            keep(self, self.task)
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            if self.begun is None:  # nobody knows of this run
                self.task.cancel()
            raise

    @property
    def is_here(self) -> bool:
        """Whether the caller can wait for it: it has ended, or runs on the caller's event loop."""
        return self.ended.is_set() or (self.task is not None and self.task.get_loop() is asyncio.get_running_loop())

    async def outcome(self) -> RunResult:
        """Wait for the end of the run.

        Raises:
            RunFailedError, ProducerLostError.
        """
        await self.ended.wait()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def refuse(self, error: HelixError) -> None:
        """Give up a run that has not begun yet; ``start`` raises the error."""
        self._settle(error=error)
        if self.task is not None:
            self.task.cancel()

    def interrupt(self, reason: str | None, *, lock_lost: bool = False) -> None:
        """Stop the run and its sub-agents. What comes first is the end: this, or that of the adapter."""
        self._lock_lost = self._lock_lost or lock_lost
        if self._decided or self._interrupted is not None:
            return
        self._interrupted = reason or ""
        for child in list(self.children):
            child.interrupt(reason)
        self._stop_adapter()

    def _stop_adapter(self) -> None:
        if self._pump is None or self._pumping is None or self.context is None:
            return  # it has not begun; `_supervise` comes here again
        self.context.stop_reason = self._interrupted or None
        self.context.stop_requested.set()
        self._pump.stopping = True
        self._press()

    def _press(self) -> None:
        """Cancel the adapter, and again after its time is up, for as long as it goes on."""
        if self._pumping is not None and not self._pumping.done():
            self._pumping.cancel()
            self._pressing = asyncio.get_running_loop().call_later(self.settings.stop_grace_s, self._press)

    def send(self, chunk: Any) -> None:
        """Write a chunk without waiting."""
        if self._pump is None:
            raise StreamClosedError(self.stream_id or self.request.run_id, "closed")
        self._pump.send(chunk)

    async def run_sub_agent(
        self, agent: Any, message: Any, agent_type: str | None, tool_call_id: str | None, session_id: str | None
    ) -> RunResult:
        """See ``RunContext.run_sub_agent``."""
        return await sub_agents.run(self, agent, message, agent_type, tool_call_id, session_id)

    @property
    def interrupted(self) -> str | None:
        """Why the run was interrupted; None: it was not."""
        return self._interrupted

    @property
    def step(self) -> int:
        """The number of the current step."""
        return 0 if self.context is None else self.context.step

    def new_child(self, request: Request) -> Run:
        """A run of a sub-agent, which stops with this one."""
        child = Run(self.settings, request)
        self.children.add(child)
        return child

    def drop_child(self, run_id: str) -> None:
        """The run of a sub-agent has ended."""
        self.children = {child for child in self.children if child.request.run_id != run_id}
        if not self.children and self._childless is not None:
            self._childless.set()

    # --- in its task

    async def _main(self, started: asyncio.Future[None], wait_ms: float) -> None:
        try:
            async with self._hold(wait_ms):
                state = await self._begin()
                if not started.done():
                    started.set_result(None)
                if state is not None:
                    try:
                        await self._go_on(state)
                    except BaseException as error:
                        await self._give_up(error)
                        raise
        except LockLostError as error:  # found on leaving, when all was done
            self._settle(error=lost(error))
        except asyncio.CancelledError:
            self._settle(error=lost())
            raise
        except HelixError as error:
            self._settle(error=error)
        except Exception as error:  # noqa: BLE001  of a store that is not ours: the handle raises it
            self._settle(error=RunFailedError(self.request.run_id, describe(error), error))
        finally:
            if not started.done():
                started.set_exception(self.error or lost())
                started.exception()  # retrieved: its caller may be gone
            if self._pressing is not None:
                self._pressing.cancel()
            self.ended.set()  # not before the lock is released: the caller's next run needs it
            self.context = self._pump = self._pumping = self._lock = None

    @contextlib.asynccontextmanager
    async def _hold(self, wait_ms: float) -> AsyncIterator[None]:
        locks = self.settings.locks
        if locks is None:
            yield
            return
        holding = locks.hold(
            self.request.session_id,
            ttl_ms=self.settings.lock_ttl_ms,
            wait_ms=wait_ms,
            on_lost=lambda _lock: self.interrupt("the lock was lost", lock_lost=True),
        )
        async with holding as self._lock:
            yield

    def _settle(self, result: RunResult | None = None, error: HelixError | None = None) -> None:
        if self.result is None and self.error is None:
            self.result, self.error = result, error

    # --- the beginning: the run before, a stream, the session

    async def _begin(self) -> AgentState | None:
        """Begin; returns the session's state, or None where the run has ended before."""
        request, state_store, streams = self.request, self.settings.state, self.settings.streams
        for _attempt in range(_BEGINNINGS):
            before = Predecessor(self.settings, request.session_id, await state_store.get_run(request.session_id))
            if await before.had_ended(request.run_id, self.token):
                self.begun, self.stream_id = False, before.stream_id
                return None
            await before.settle_stream(self.token)
            stream_id = f"{request.session_id}:{request.run_id}"
            if request.own_id:
                stream_id += f":{secrets.token_hex(3)}"
            writer = await streams.create_writer(
                stream_id,
                request.session_id,
                request.agent_type,
                fencing_token=self.token,
                lease_ms=self.settings.lease_ms,
                max_length=self.settings.max_length,
            )
            try:
                begun, state = await state_store.begin_run(
                    request.session_id,
                    request.run_id,
                    agent_type=request.agent_type,
                    stream_id=stream_id,
                    messages=messages_of(request.message),
                    takes_over=before.unfinished,
                    resumes=request.resumes,
                    initial_state=request.initial_state,
                    metadata=request.metadata,
                    parent_session_id=request.parent_session_id,
                    fencing_token=self.token,
                )
            except RunConflictError:
                await self._withdraw(writer)
                continue  # the run before has ended, or another has begun, since it was looked at
            except BaseException:
                await asyncio.shield(self._withdraw(writer))
                raise
            if not begun:
                await self._withdraw(writer)
                self.begun, self.stream_id = False, await stream_of(state_store, request.session_id, request.run_id)
                return None
            self.begun, self.stream_id, self._writer = True, stream_id, writer
            await before.settle_session(state, request.usage, self.token)
            if request.resumes:
                writer.send(RunResumedChunk(checkpoint_id=before.checkpoint_id, mode="resume"))
            return state
        raise LockNotAcquiredError(f"session {request.session_id!r} is in another run", hint="try again later")

    async def _withdraw(self, writer: StreamWriter) -> None:
        """Undo the making of a stream that no session names."""
        try:
            await writer.close()
            await self.settings.streams.delete_stream(writer.stream_id)
        except HelixError as error:
            self.settings.report(error)

    # --- the middle

    async def _go_on(self, state: AgentState) -> None:
        assert self._writer is not None
        own = len(messages_of(self.request.message))
        self.context = RunContext(
            self,
            self.settings.state,
            state,
            run_id=self.request.run_id,
            agent_type=self.request.agent_type,
            resumed=self.request.resumes,
            own=own,
        )
        partial = getattr(self.settings.adapter, "partial", None)
        self._pump = Pump(self._writer, self.request.usage, self.context, partial)
        watching = asyncio.create_task(self._watch(self._writer), name=f"stop {self.request.run_id}")
        try:
            failure = await self._supervise(self._pump, self.context)
        finally:
            watching.cancel()
        if self._lock_lost:
            raise LockLostError(f"the lock of session {self.request.session_id!r} was lost")
        await self._finish(self._writer, self._pump, failure)

    async def _watch(self, writer: StreamWriter) -> None:
        await writer.stop_requested.wait()
        self.interrupt(writer.stop_reason)

    async def _supervise(self, pump: Pump, context: RunContext) -> BaseException | None:
        """Pump until the adapter has ended; the exception with which it failed."""

        async def pumping() -> None:
            await pump.run(self.settings.adapter.run(self.request.agent, self.request.message, context))

        self._pumping = task = asyncio.create_task(pumping(), name=f"agent {self.request.run_id}")
        if self._interrupted is not None:
            self._stop_adapter()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._decided = True
        await self._end_children()
        if self._interrupted is not None:
            return None
        return asyncio.CancelledError("the agent was cancelled") if task.cancelled() else task.exception()

    async def _end_children(self) -> None:
        """Stop sub-agents that the agent has left behind, and let them leave their traces here."""
        for child in list(self.children):
            child.interrupt("the run above has ended")
        if self.children:
            self._childless = asyncio.Event()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._childless.wait(), self.settings.stop_grace_s)

    # --- the end: the session, the stream

    async def _finish(self, writer: StreamWriter, pump: Pump, failure: BaseException | None) -> None:
        request, streams = self.request, self.settings.streams
        if failure is None:
            try:
                if self._interrupted is not None:
                    writer.send(RunInterruptedChunk(reason=self._interrupted or None))
                await writer.flush()
            except StreamError as refusal:
                failure = refusal
        if isinstance(failure, StreamClosedError) and failure.stream_id == writer.stream_id:
            raise failure  # others were told that this worker is gone: so it is, and the run can be begun again
        error = None if failure is None else describe(failure)
        status = "failed" if error is not None else "completed" if self._interrupted is None else "interrupted"
        await self.settings.state.finish_run(
            request.session_id,
            request.run_id,
            messages=pump.messages,
            output=pump.output,
            status=status,
            error=error,
            fencing_token=self.token,
        )
        try:
            if error is not None:
                await streams.fail_stream(writer.stream_id, error, fencing_token=self.token)
            else:
                await streams.end_stream(writer.stream_id, pump.output, fencing_token=self.token)
            await writer.close()
        except HelixError as problem:  # the session has the result: the next one that comes ends the stream
            self.settings.report(problem)
        if error is not None:
            self._settle(error=RunFailedError(request.run_id, error, failure))
        else:
            self._settle(RunResult(status, pump.output, None, request.run_id))

    async def _give_up(self, cause: BaseException) -> None:
        """The worker leaves the run without an end: let readers know, where no successor has told them yet."""
        assert self._writer is not None
        if isinstance(cause, (LockLostError, StreamClosedError, *_SUPERSEDED)):
            loss = lost(cause)
            loss.__cause__ = cause
            self._settle(error=loss)
        with contextlib.suppress(HelixError):
            error = lost(cause).error
            await self.settings.streams.fail_stream(self._writer.stream_id, error, fencing_token=self.token)
        with contextlib.suppress(HelixError):
            await self._writer.close()
