"""UsageRecorder: a capability of pydantic-ai that records each response of a model once."""

from __future__ import annotations

from typing import Any

from pydantic_ai.capabilities import AbstractCapability

from helix_fast.integrations.recording import CallRecorder
from helix_fast.usage.prices import Price
from helix_fast.usage.store import RedisUsageStore


class UsageRecorder(AbstractCapability[Any]):
    """A capability for ``Agent(…, capabilities=[UsageRecorder(helix.usage)])``, or of one run.

    The entry's id is the provider's, else the run's id and the number of the request in it. Failed attempts that a
    provider has answered are recorded too: they were paid for.

    Args:
        usage: where to record.
        session_id: None: the id of the conversation.
        price: for the cost, in place of the one that pydantic-ai knows; see ``TokenUsage.from_response``.
    """

    def __init__(self, usage: RedisUsageStore, *, session_id: str | None = None, price: Price | None = None) -> None:
        self._recorder = CallRecorder(usage, price)
        self._session_id = session_id

    async def after_model_request(self, ctx: Any, *, request_context: Any, response: Any) -> Any:
        """Record the response."""
        known = response.usage.cost
        await self._recorder.record(
            response,
            session_id=self._session_id or ctx.conversation_id,
            run_id=ctx.run_id,
            step_count=ctx.run_step,
            model=getattr(ctx.model, "model_name", None),
            id=f"{ctx.run_id}:{ctx.usage.requests}",
            agent=None if ctx.agent is None else ctx.agent.name,
            cost=None if known is None else float(known),
        )
        return response
