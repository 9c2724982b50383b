"""CallRecorder: what the handlers of frameworks do with a model's response. They differ in where they hear of it."""

from __future__ import annotations

import asyncio
from typing import Any

from helix_fast.errors import HelixError
from helix_fast.usage.prices import Price
from helix_fast.usage.responses import read_response
from helix_fast.usage.schema import TokenUsage, UsageSource
from helix_fast.usage.store import RedisUsageStore


class CallRecorder:
    """Records the usage of model calls, each response once. No error of it ends a run: it goes to ``on("error")``.

    Args:
        usage: the store.
        price: for the cost; see ``TokenUsage.from_response``.
    """

    def __init__(self, usage: RedisUsageStore, price: Price | None) -> None:
        self._usage = usage
        self._price = price

    async def record(
        self,
        response: object,
        *,
        session_id: str,
        run_id: str | None = None,
        step_count: int = 0,
        model: str | None = None,
        id: str | None = None,  # noqa: A002  the entry's field
        agent: str | None = None,
        cost: float | None = None,
    ) -> None:
        """Record a response; on the event loop of the store, so not awaited on another one.

        Args:
            model, id: of a response that has none.
            agent: its name.
            cost: that the framework knows; only without a price.
        """
        try:
            entry = TokenUsage.from_response(
                response,
                session_id=session_id,
                run_id=run_id,
                step_count=step_count,
                model=read_response(response).model or model,
                price=self._price,
            )
            if entry.id is None:
                entry.id = id
            if agent is not None:
                entry.source = UsageSource(type="agent", name=agent)
            if self._price is None:
                entry.cost = cost
        except HelixError as error:
            self._usage._errors.report(error)
            return
        home = self._usage._requests.topology.binding.loop
        if home is None or home.is_closed() or home is asyncio.get_running_loop():
            await self._send(entry)
        else:  # it may be blocked by the very call that waits here
            asyncio.run_coroutine_threadsafe(self._send(entry), home)

    async def _send(self, entry: TokenUsage) -> None:
        try:
            await self._usage.record_entry(entry)
        except HelixError as error:
            self._usage._errors.report(error)

    def record_soon(self, response: Any, **about: Any) -> None:
        """The same from a thread without an event loop, without waiting."""
        home = self._usage._requests.topology.binding.loop
        if home is not None and home.is_running():
            asyncio.run_coroutine_threadsafe(self.record(response, **about), home)
        else:
            asyncio.run(self.record(response, **about))
