"""Runs of agents: the executor, its handles and adapters, over the stores' Protocols and nothing else."""

from __future__ import annotations

from .adapter import AgentAdapter
from .context import RunContext
from .executor import AgentExecutor
from .functions import FunctionAdapter
from .handle import RunHandle
from .items import Messages, Output, RunItem, RunResult

__all__ = [
    "AgentAdapter",
    "AgentExecutor",
    "FunctionAdapter",
    "Messages",
    "Output",
    "RunContext",
    "RunHandle",
    "RunItem",
    "RunResult",
]
