"""Usage of LangChain's models: a callback handler that records each response once. Needs the extra ``langchain``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from helix_fast.usage.prices import Price
from helix_fast.usage.store import RedisUsageStore

from .extras import needs
from .recording import CallRecorder

with needs("LangChain", extra="langchain"):
    from langchain_core.callbacks import AsyncCallbackHandler
    from langchain_core.outputs import LLMResult

__all__ = ["UsageCallbackHandler"]


class UsageCallbackHandler(AsyncCallbackHandler):
    """A handler for ``config={"callbacks": [handler]}``, of ``invoke``, ``ainvoke``, streams, chains and graphs.

    The entry's id is the response's, else that of LangChain's run of the model.

    Args:
        usage: where to record.
        session_id, run_id: of all calls that this handler hears of.
        price: for the cost; see ``TokenUsage.from_response``.
    """

    def __init__(
        self, usage: RedisUsageStore, *, session_id: str, run_id: str | None = None, price: Price | None = None
    ) -> None:
        self._recorder = CallRecorder(usage, price)
        self._session_id = session_id
        self._run_id = run_id
        self._models: dict[UUID, str | None] = {}

    async def on_llm_start(self, *args: Any, run_id: UUID, metadata: dict[str, Any] | None = None, **rest: Any) -> None:
        """Remember which model is called: not every response names it."""
        self._models[run_id] = (metadata or {}).get("ls_model_name")

    on_chat_model_start = on_llm_start

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **rest: Any) -> None:
        """Record it."""
        await self._recorder.record(
            response,
            session_id=self._session_id,
            run_id=self._run_id,
            model=self._models.pop(run_id, None),
            id=str(run_id),
        )

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """Forget its model."""
        self._models.pop(run_id, None)
