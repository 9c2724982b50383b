"""Predecessor: the run before, and what a new run has to finish of it. Each step can be repeated by any worker."""

from __future__ import annotations

import contextlib
import time

from helix_fast.errors import (
    LockNotAcquiredError,
    StreamClosedError,
    StreamNotFoundError,
    SubAgentRefNotFoundError,
)
from helix_fast.interfaces import StateStore, UsageStore
from helix_fast.state.schema import AgentState, Checkpoint, SessionRun, SubAgentRefUpdate
from helix_fast.usage.schema import SubAgentUsage

from .context import step_id
from .failure import TAKEN_OVER
from .settings import Settings

_PAGE = 100


class Predecessor:
    """The run that a session names when another one begins.

    Attributes:
        unfinished: that run, if its worker is gone before its end; None otherwise.
    """

    def __init__(self, settings: Settings, session_id: str, run: SessionRun | None) -> None:
        self._settings = settings
        self._session_id = session_id
        self._run = run
        self.unfinished: SessionRun | None = run if run is not None and run.phase == "running" else None

    @property
    def stream_id(self) -> str | None:
        """The stream of that run."""
        return None if self._run is None else self._run.stream_id

    @property
    def checkpoint_id(self) -> str | None:
        """The checkpoint of its end."""
        return None if self._run is None else self._run.checkpoint_id

    async def had_ended(self, run_id: str, token: int | None) -> bool:
        """Whether that run is ``run_id``, and has ended."""
        ended = self._run is not None and self._run.id == run_id and self._run.phase != "running"
        if ended:
            await self._end_stream(token)
        return ended

    async def settle_stream(self, token: int | None) -> None:
        """Make an end of the stream, so that no reader waits for it and no worker that wakes up writes it.

        Raises:
            LockNotAcquiredError: without locks: that run's worker is alive.
        """
        if self.unfinished is None:
            await self._end_stream(token)
            return
        streams, stream_id = self._settings.streams, self.unfinished.stream_id
        if stream_id is None:
            return
        if self._settings.locks is None:
            info = await streams.get_info(stream_id)
            if info is not None and info.status == "active" and (info.lease_expires_at or 0) > time.time() * 1000:
                raise LockNotAcquiredError(f"session {self._session_id!r} is in another run", hint="try again later")
        with contextlib.suppress(StreamNotFoundError, StreamClosedError):
            await streams.fail_stream(stream_id, TAKEN_OVER, fencing_token=token)

    async def _end_stream(self, token: int | None) -> None:
        """End the stream of a run whose worker died between the end of the run and that of its stream."""
        if self._run is None or self._run.stream_id is None:
            return
        streams, run = self._settings.streams, self._run
        info = await streams.get_info(self._run.stream_id)
        if info is None or info.status in {"ended", "failed"}:
            return
        state = await self._settings.state.load_state(self._session_id)
        if state is None or state.run != run:
            return
        with contextlib.suppress(StreamNotFoundError, StreamClosedError):
            if run.phase == "failed":
                await streams.fail_stream(info.stream_id, state.error or "failed", fencing_token=token)
            else:
                await streams.end_stream(info.stream_id, state.output, fencing_token=token)

    async def settle_session(self, state: AgentState, usage: UsageStore | None, token: int | None) -> None:
        """Drop what an unfinished step has staged; give up sub-agents without an end, but count what they have used."""
        if self.unfinished is None:
            return
        store, session_id = self._settings.state, self._session_id
        await store.discard_staging(session_id, step_id(self.unfinished.id, state.step_count + 1), fencing_token=token)
        for ref in state.sub_agent_refs:
            if ref.status != "running":
                continue
            if usage is not None:
                await usage.record_entry(
                    SubAgentUsage(
                        id=usage_id(ref.sub_session_id),
                        session_id=session_id,
                        run_id=self.unfinished.id,
                        step_count=state.step_count,
                        sub_session_id=ref.sub_session_id,
                        agent_type=ref.agent_type,
                        success=False,
                        error=TAKEN_OVER,
                    )
                )
            update = SubAgentRefUpdate(ref.sub_session_id, status="failed", error=TAKEN_OVER)
            with contextlib.suppress(SubAgentRefNotFoundError):
                await store.update_sub_agent_ref(session_id, update, fencing_token=token)


def usage_id(sub_session_id: str) -> str:
    """The id of the usage entry of a sub-agent: the same for each worker that may record it."""
    return f"subagent:{sub_session_id}"


async def stream_of(store: StateStore, session_id: str, run_id: str) -> str | None:
    """The stream of a run that has ended; None where its checkpoint is no longer kept."""
    header = await checkpoint_of(store, session_id, run_id)
    checkpoint = None if header is None else await store.get_checkpoint(session_id, header.id)
    run = None if checkpoint is None else checkpoint.state.run
    return None if run is None else run.stream_id


async def checkpoint_of(store: StateStore, session_id: str, run_id: str) -> Checkpoint | None:
    """The checkpoint of a run's end, without its state; None where the run has not ended, or it is no longer kept."""
    cursor: str | None = None
    while True:
        page = await store.list_checkpoints(session_id, limit=_PAGE, cursor=cursor)
        for checkpoint in page.items:
            if checkpoint.run_id == run_id:
                return checkpoint
        cursor = page.cursor
        if cursor is None:
            return None
