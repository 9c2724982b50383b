"""AgentAdapter: what an executor needs of a framework. A Protocol of one method."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from .context import RunContext
from .items import RunItem


class AgentAdapter(Protocol):
    """Runs the agents of one framework. One method, an async generator function as a rule.

    An adapter may also have ``partial(text) -> Messages``: it makes messages of the text that the agent has said after
    its last Messages, when a run is stopped.
    """

    def run(self, agent: Any, message: Any, context: RunContext, /) -> AsyncIterator[RunItem]:
        """Run an agent, and yield what it produces.

        When the run is to stop, ``context.stop_requested`` is set and the iteration is cancelled: the adapter gets
        ``asyncio.CancelledError`` where it waits, or at its ``yield``. It may catch that to yield the messages of what
        was produced by then, and must end within the executor's ``stop_grace_s``. An exception fails the run.

        Args:
            agent: what the caller gave to ``execute``.
            message: the same; None: go on from the conversation as it is.
            context: the session, its messages, sub-agents.
        """
