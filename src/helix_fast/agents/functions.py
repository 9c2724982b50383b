"""FunctionAdapter: agents that are async generator functions. No dependency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from helix_fast.streams.chunks import TextDeltaChunk

from .context import RunContext
from .items import Messages, RunItem


class FunctionAdapter:
    """Runs agents that are async generator functions.

    ```python
    async def agent(message, context):
        yield "Hello "
        yield {"type": "thinking", "content": "whom?"}
        yield "world"
        yield Messages([{"role": "assistant", "content": "Hello world"}])
        yield Output({"greeted": "world"})
    ```

    When such a run stops, the text that no ``Messages`` has kept yet becomes the assistant's message.

    Args:
        agent: the agent of runs whose agent is None.
    """

    def __init__(self, agent: Callable[[Any, RunContext], AsyncIterator[RunItem]] | None = None) -> None:
        self.default_agent: Callable[[Any, RunContext], AsyncIterator[RunItem]] | None = agent

    async def run(self, agent: Any, message: Any, context: RunContext) -> AsyncIterator[RunItem]:
        """Yield what ``agent(message, context)`` yields."""
        function: Any = self.default_agent if agent is None else agent
        source = function(message, context)
        text: list[str] = []
        try:
            async for item in source:
                kind = type(item)
                if kind is str:
                    text.append(item)
                elif kind is TextDeltaChunk:
                    text.append(item.delta)
                elif kind is dict and item.get("type") == "text_delta":
                    text.append(item.get("delta", ""))
                elif kind is Messages:
                    text.clear()
                yield item
        except asyncio.CancelledError:
            if not context.stop_requested:
                raise
            await _close(source)
            if text:
                yield Messages([{"role": "assistant", "content": "".join(text)}])
        finally:
            await _close(source)


async def _close(source: Any) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
