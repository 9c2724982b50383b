"""LangGraph on any Redis or Valkey without modules: checkpointer, store and cache. Needs the extra ``langgraph``."""

from __future__ import annotations

try:
    import langgraph.checkpoint.base  # noqa: F401
except ImportError as _missing:
    raise ImportError(
        "helix_fast.integrations.langgraph needs LangGraph: pip install 'helix-fast[langgraph]'"
    ) from _missing

from .cache import HelixCache
from .saver import AsyncRedisSaver, HelixSaver, RedisSaver
from .store import HelixStore

__all__ = ["AsyncRedisSaver", "HelixCache", "HelixSaver", "HelixStore", "RedisSaver"]
