"""Entries for the tests of usage, and their sums."""

from __future__ import annotations

from typing import Any

from helix_fast.interfaces import UsageStore


def tokens(session: str = "s", **fields: Any) -> dict[str, Any]:
    """A token entry in wire form: 100 + 50 tokens of gpt-4o, unless fields say otherwise."""
    return {
        "kind": "tokens",
        "sessionId": session,
        "stepCount": 1,
        "timestamp": 1_700_000_000_000,
        "source": {"type": "agent", "name": "my-agent"},
        "model": "gpt-4o",
        "tokens": {"prompt": 100, "completion": 50, "total": 150},
        **fields,
    }


def sub_agent(session: str, child: str, **fields: Any) -> dict[str, Any]:
    """An entry that names a sub-agent's session."""
    return {
        "kind": "subagent",
        "sessionId": session,
        "stepCount": 1,
        "timestamp": 1_700_000_000_000,
        "subSessionId": child,
        "agentType": "researcher",
        "durationMs": 5,
        "success": True,
        **fields,
    }


async def total(store: UsageStore, session: str = "s", **options: Any) -> int | None:
    """The tokens that a session has used, None where it has no usage."""
    rollup = await store.get_rollup(session, **options)
    return None if rollup is None else rollup.tokens.total
