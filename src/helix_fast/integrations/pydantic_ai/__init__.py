"""pydantic-ai on any Redis or Valkey: conversations, and usage. Needs the extra ``pydantic-ai``."""

from __future__ import annotations

from helix_fast.integrations.extras import needs

with needs("pydantic-ai 2.66 or newer", extra="pydantic-ai"):
    import pydantic_ai.conversation_store  # noqa: F401

from .conversations import HelixConversationStore
from .usage import UsageRecorder

__all__ = ["HelixConversationStore", "UsageRecorder"]
