"""Sub-agents: a run below a run, and the traces that it leaves in the one above."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Protocol

from helix_fast.errors import HelixError, RunFailedError
from helix_fast.state.schema import SubAgentRef, SubAgentRefUpdate
from helix_fast.streams.chunks import StreamChunk, SubAgentEndChunk, SubAgentStartChunk
from helix_fast.usage.schema import SubAgentUsage, UsageSource

from .failure import describe
from .items import RunResult, agent_type_of
from .settings import Request, Settings
from .succession import usage_id


class Child(Protocol):
    """The run of a sub-agent."""

    begun: bool | None

    async def start(self, wait_ms: float) -> None:
        """Begin."""

    async def outcome(self) -> RunResult:
        """Wait for the end."""

    def interrupt(self, reason: str | None) -> None:
        """Stop."""


class Parent(Protocol):
    """The run above."""

    request: Request
    settings: Settings

    @property
    def token(self) -> int | None:
        """The fencing token."""

    @property
    def step(self) -> int:
        """The number of the current step."""

    @property
    def interrupted(self) -> str | None:
        """Why the run was interrupted; None: it was not."""

    def send(self, chunk: StreamChunk) -> None:
        """Write a chunk without waiting."""

    def new_child(self, request: Request) -> Child:
        """Make the run of a sub-agent."""

    def drop_child(self, run_id: str) -> None:
        """Forget the run of a sub-agent."""


async def run(
    parent: Parent, agent: Any, message: Any, agent_type: str | None, tool_call_id: str | None, session_id: str | None
) -> RunResult:
    """Run an agent below ``parent``; see ``RunContext.run_sub_agent``."""
    above, settings = parent.request, parent.settings
    kind = agent_type or agent_type_of(agent)
    sub_session = session_id or f"{above.session_id}:{kind}-{secrets.token_hex(4)}"
    ref = SubAgentRef(sub_session, kind, tool_call_id)
    await settings.state.add_sub_agent_refs(above.session_id, [ref], fencing_token=parent.token)
    parent.send(SubAgentStartChunk(sub_session_id=sub_session, sub_agent_type=kind, tool_call_id=tool_call_id))
    request = Request(
        session_id=sub_session,
        run_id=secrets.token_hex(8),
        agent=agent,
        agent_type=kind,
        message=message,
        usage=above.usage,
        parent_session_id=above.session_id,
    )
    child = parent.new_child(request)
    began = time.monotonic()
    try:
        result, cancelled = await _outcome(parent, child, request.run_id)
        await _leave_traces(parent, ref, result, int((time.monotonic() - began) * 1000))
    finally:
        parent.drop_child(request.run_id)
    if cancelled:
        raise asyncio.CancelledError
    return result


async def _outcome(parent: Parent, child: Child, run_id: str) -> tuple[RunResult, bool]:
    """The result of a sub-agent, and whether its caller was cancelled meanwhile."""
    result, cancelled = RunResult("failed", None, "it did not begin", run_id), False
    try:
        try:
            await child.start(0)
            if parent.interrupted is not None:
                child.interrupt(parent.interrupted)
            result = await child.outcome()
        except asyncio.CancelledError:
            cancelled = True
            child.interrupt(parent.interrupted or "the tool call was cancelled")
            result = await child.outcome() if child.begun else result
    except RunFailedError as error:
        result = result._replace(error=error.error)
    except HelixError as error:
        result = result._replace(error=describe(error))
    return result, cancelled


async def _leave_traces(parent: Parent, ref: SubAgentRef, result: RunResult, duration_ms: int) -> None:
    """Usage first: if the worker dies on the way, the reference still runs, and a successor records the same."""
    above, settings = parent.request, parent.settings
    success = result.status == "completed"
    error = None if success else result.error or result.status
    if above.usage is not None:
        await above.usage.record_entry(
            SubAgentUsage(
                id=usage_id(ref.sub_session_id),
                session_id=above.session_id,
                run_id=above.run_id,
                step_count=parent.step,
                source=UsageSource(type="agent", name=above.agent_type),
                sub_session_id=ref.sub_session_id,
                agent_type=ref.agent_type,
                duration_ms=duration_ms,
                success=success,
                error=error,
            )
        )
    await settings.state.update_sub_agent_ref(
        above.session_id,
        SubAgentRefUpdate(ref.sub_session_id, status=result.status, result=result.output, error=error),
        fencing_token=parent.token,
    )
    parent.send(
        SubAgentEndChunk(
            sub_session_id=ref.sub_session_id,
            sub_agent_type=ref.agent_type,
            tool_call_id=ref.tool_call_id,
            result=result.output,
            success=success,
            error=error,
        )
    )
