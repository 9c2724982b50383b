"""Usage of LiteLLM's calls: a callback that records each response once. Needs the extra ``litellm``.

``litellm.callbacks = [HelixUsageLogger(helix.usage, session_id="chat-1")]``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helix_fast.usage.prices import Price
from helix_fast.usage.store import RedisUsageStore

from .extras import needs
from .recording import CallRecorder

with needs("LiteLLM", extra="litellm"):
    from litellm.integrations.custom_logger import CustomLogger

__all__ = ["HelixUsageLogger"]


class HelixUsageLogger(CustomLogger):
    """A callback for ``litellm.callbacks``, for completion, acompletion, streams and the router.

    The entry's id is the response's. What LiteLLM serves from its cache has used nothing, and is not recorded.

    Args:
        usage: where to record.
        session_id: the session of all calls, or a function of the callback's ``kwargs``. None: what the call says in
            ``litellm_session_id`` or ``metadata["session_id"]``, else the id of its trace.
        price: for the cost, in place of LiteLLM's ``response_cost``; see ``TokenUsage.from_response``.
    """

    def __init__(
        self,
        usage: RedisUsageStore,
        *,
        session_id: str | Callable[[Mapping[str, Any]], str] | None = None,
        price: Price | None = None,
    ) -> None:
        super().__init__()
        self._recorder = CallRecorder(usage, price)
        self._session_id = session_id

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """After an asynchronous call."""
        about = self._about(kwargs)
        if about is not None:
            await self._recorder.record(kwargs, **about)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """After a synchronous call, in a thread of LiteLLM."""
        about = self._about(kwargs)
        if about is not None:
            self._recorder.record_soon(kwargs, **about)

    def _about(self, kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        call = kwargs.get("standard_logging_object")
        if call is None or call.get("cache_hit"):
            return None
        session_id = self._session_id(kwargs) if callable(self._session_id) else self._session_id
        if session_id is None:
            given = (kwargs.get("litellm_params") or {}).get("metadata") or {}
            session_id = given.get("session_id") or call.get("session_id") or call.get("trace_id")
        return {"session_id": session_id, "id": call.get("id"), "cost": call.get("response_cost")}
