"""Runs of agents: the executor, its handles and adapters, over the stores' Protocols and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .adapter import AgentAdapter
from .context import RunContext
from .executor import AgentExecutor
from .functions import FunctionAdapter
from .handle import RunHandle
from .items import Messages, Output, RunItem, RunResult

if TYPE_CHECKING:
    from .langgraph import LangGraphAdapter as LangGraphAdapter
    from .openai_agents import OpenAIAgentsAdapter as OpenAIAgentsAdapter
    from .pydantic_ai import PydanticAIAdapter as PydanticAIAdapter

# Without the adapters of frameworks: `from helix_fast.agents import *` works where there are none.
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

_FRAMEWORKS = {
    "LangGraphAdapter": "langgraph",
    "OpenAIAgentsAdapter": "openai_agents",
    "PydanticAIAdapter": "pydantic_ai",
}


def __getattr__(name: str) -> Any:
    # A framework is imported when its adapter is asked for.
    if name in _FRAMEWORKS:
        return getattr(import_module(f".{_FRAMEWORKS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
