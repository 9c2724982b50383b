"""FunctionAdapter: agents that are async generator functions. No dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

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

    def run(self, agent: Any, message: Any, context: RunContext) -> AsyncIterator[RunItem]:
        """What ``agent(message, context)`` yields."""
        function: Any = self.default_agent if agent is None else agent
        source: AsyncIterator[RunItem] = function(message, context)
        return source

    @staticmethod
    def partial(text: str) -> Messages:
        """The message of text that an agent had said when its run was stopped."""
        return Messages([{"role": "assistant", "content": text}])
