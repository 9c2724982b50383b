"""MCP on any Redis or Valkey: resumable sessions, a subscription bus for all replicas. Needs the extra ``mcp``."""

from __future__ import annotations

from helix_fast.integrations.extras import needs

with needs("the MCP SDK 2 or newer", extra="mcp"):
    import mcp.server.subscriptions  # noqa: F401

from .bus import HelixSubscriptionBus
from .events import HelixEventStore, session_manager

__all__ = ["HelixEventStore", "HelixSubscriptionBus", "session_manager"]
