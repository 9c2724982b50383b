"""Conversation: chat messages that carry a framework's own form, so that others can read them too. No I/O here."""

from __future__ import annotations

from typing import Any


def framed(key: str, own: Any, role: str, content: str) -> dict[str, Any]:
    """A chat message with the framework's own form under ``key``."""
    return {"role": role, "content": content, key: own}


def unframed(key: str, message: Any) -> Any:
    """The framework's own form of a message; None where it has none."""
    return message.get(key) if isinstance(message, dict) else None


def content_of(message: Any) -> str:
    """The text of a message: a str, a chat message with text or with parts, or a list of them."""
    if isinstance(message, str):
        return message
    if isinstance(message, (list, tuple)):
        return "\n".join(filter(None, map(content_of, message)))
    if isinstance(message, dict):
        content = message.get("content", message.get("text", ""))
        return content if isinstance(content, str) else content_of(content)
    return "" if message is None else str(message)
