"""Our chunks as UI message chunks of Vercel, for runs of an executor. The same chunks always give the same ones."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helix_fast.streams.chunks import (
    Chunk,
    RunInterruptedChunk,
    StreamChunk,
    TextDeltaChunk,
    ThinkingChunk,
    ToolEndChunk,
    ToolStartChunk,
)

MAPPING: Final = 1
"""Version of the mapping. A client that counts chunks has it in the id of its run."""
_LACKS_REASONS: Final = 5


class VercelMapping:
    """Maps the chunks of one run.

    Args:
        sdk_version: major version of the SDK of the pages.
        message_id: of the message that they make.
    """

    def __init__(self, sdk_version: int, message_id: str) -> None:
        self._version = sdk_version
        self._start = {"type": "start", "messageId": message_id}
        self._begun = False
        self._part = ""  # "text" or "reasoning", while such a part is open
        self._parts = 0
        self._tools: set[str] = set()

    def map(self, chunk: StreamChunk) -> list[dict[str, Any]]:
        """The UI chunks of one of ours, possibly none."""
        found = self._begin()
        if isinstance(chunk, TextDeltaChunk):
            self._delta(found, "text", chunk.delta)
        elif isinstance(chunk, ThinkingChunk):
            self._delta(found, "reasoning", chunk.content)
            if chunk.is_complete:
                self._close(found)
        else:
            self._close(found)
            found.append(self._other(chunk))
        return found

    def text_head(self) -> bytes | None:
        """What the JSON of the next text delta has before its text; None outside of a part of text."""
        if self._part != "text":
            return None
        return msgspec.json.encode({"type": "text-delta", "id": str(self._parts), "delta": ""})[: -len(b'"}')]

    def end(self) -> list[dict[str, Any]]:
        """What closes the message, before ``finish``."""
        found = self._begin()
        self._close(found)
        return [*found, {"type": "finish-step"}]

    def _begin(self) -> list[dict[str, Any]]:
        if self._begun:
            return []
        self._begun = True
        return [self._start, {"type": "start-step"}]

    def _delta(self, found: list[dict[str, Any]], kind: str, delta: str) -> None:
        if self._part != kind:
            self._close(found)
            self._part = kind
            self._parts += 1
            found.append({"type": f"{kind}-start", "id": str(self._parts)})
        found.append({"type": f"{kind}-delta", "id": str(self._parts), "delta": delta})

    def _close(self, found: list[dict[str, Any]]) -> None:
        if self._part:
            found.append({"type": f"{self._part}-end", "id": str(self._parts)})
            self._part = ""

    def _other(self, chunk: StreamChunk) -> dict[str, Any]:
        if isinstance(chunk, ToolStartChunk):
            self._tools.add(chunk.tool_call_id)
            head = {"type": "tool-input-available", "toolCallId": chunk.tool_call_id, "toolName": chunk.tool_name}
            return {**head, "input": {} if chunk.arguments is None else chunk.arguments}
        if isinstance(chunk, ToolEndChunk) and chunk.tool_call_id in self._tools:
            if chunk.success is False or chunk.error is not None:
                text = chunk.error or "The tool failed."
                return {"type": "tool-output-error", "toolCallId": chunk.tool_call_id, "errorText": text}
            return {"type": "tool-output-available", "toolCallId": chunk.tool_call_id, "output": chunk.result}
        if isinstance(chunk, RunInterruptedChunk):
            reason = chunk.reason if self._version > _LACKS_REASONS else None
            return {"type": "abort", "reason": reason} if reason else {"type": "abort"}
        data = plain_data(chunk)
        part = {"type": f"data-helix-{chunk.type.replace('_', '-')}", "data": data}
        sub_session = data.get("subSessionId")
        if sub_session is not None:  # its end takes the place of its start
            return {"type": "data-helix-subagent", "id": sub_session, "data": data}
        return {**part, "transient": True}


def plain_data(chunk: StreamChunk) -> dict[str, Any]:
    """The fields of a chunk, by their names on the wire."""
    if not isinstance(chunk, Chunk):
        return chunk.data
    data: dict[str, Any] = msgspec.to_builtins(chunk)
    extra = data.pop("~helix_fast.extra", None)
    return {**(extra or {}), **data}
