"""FunctionAdapter: the default adapter of a blocking executor."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from helix_fast.agents import context as _context
from helix_fast.agents import functions as _functions
from helix_fast.agents.items import RunItem

from .context import RunContext
from .stepping import in_thread


class FunctionAdapter(_functions.FunctionAdapter):
    """Runs agents that are generator functions, each in a thread, and async ones, on the background event loop.

    A generator function gets the blocking RunContext, and may block. When its run stops, the step under way goes on to
    its ``yield``, where the generator is closed; ``context.stop_requested`` tells it before. A step that goes on for
    ``stop_grace_s`` is left to itself.

    Args:
        agent: the agent of runs whose agent is None.
    """

    def __init__(
        self,
        agent: Callable[[Any, RunContext], Iterator[RunItem]]
        | Callable[[Any, _context.RunContext], AsyncIterator[RunItem]]
        | None = None,
    ) -> None:
        self.default_agent: Any = agent

    def run(self, agent: Any, message: Any, context: _context.RunContext) -> AsyncIterator[RunItem]:
        """What ``agent(message, context)`` yields."""
        function = self.default_agent if agent is None else agent
        if inspect.isgeneratorfunction(function):
            return in_thread(function(message, RunContext._over(context)))
        return super().run(agent, message, context)
