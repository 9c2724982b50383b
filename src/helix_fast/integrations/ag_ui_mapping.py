"""Our chunks as AG-UI events, for the runs of an executor. The same chunks give the same events each time."""

from __future__ import annotations

from typing import Any

import msgspec

from helix_fast.streams.chunks import (
    CustomChunk,
    OutputChunk,
    RunInterruptedChunk,
    StatePatchChunk,
    StreamChunk,
    TextDeltaChunk,
    ThinkingChunk,
    ToolEndChunk,
    ToolStartChunk,
)

from .vercel_mapping import plain_data


class AGUIMapping:
    """Maps the chunks of one run.

    Args:
        thread, run: ids of the thread and of the run, as the client knows them.
    """

    def __init__(self, thread: str, run: str) -> None:
        self._ids = {"threadId": thread, "runId": run}
        self._run = run
        self._begun = self._cancelled = False
        self._part = ""
        self._parts = 0
        self._output: Any = None

    def map(self, chunk: StreamChunk) -> list[dict[str, Any]]:
        """The events of one chunk, possibly none."""
        found: list[dict[str, Any]] = []
        if not self._begun:
            self._begun = True
            found.append({"type": "RUN_STARTED", **self._ids})
        if isinstance(chunk, TextDeltaChunk):
            self._delta(found, "TEXT_MESSAGE", chunk.delta)
        elif isinstance(chunk, ThinkingChunk):
            self._delta(found, "REASONING_MESSAGE", chunk.content)
            if chunk.is_complete:
                self._close(found)
        else:
            self._close(found)
            found += self._other(chunk)
        return found

    def text_head(self) -> bytes | None:
        """What the JSON of the next content has before its text; None outside of a text message."""
        if self._part != "TEXT_MESSAGE":
            return None
        event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message, "delta": ""}
        return msgspec.json.encode(event)[: -len(b'"}')]

    def end(self) -> list[dict[str, Any]]:
        """What closes the run."""
        found: list[dict[str, Any]] = [] if self._begun else [{"type": "RUN_STARTED", **self._ids}]
        self._close(found)
        finished: dict[str, Any] = {"type": "RUN_FINISHED", **self._ids}
        if self._output is not None:
            finished["result"] = self._output
        if self._cancelled:
            finished["outcome"] = {"type": "cancelled"}
        return [*found, finished]

    @property
    def _message(self) -> str:
        return f"{self._run}-{self._parts}"

    def _delta(self, found: list[dict[str, Any]], kind: str, delta: str) -> None:
        if self._part != kind:
            self._close(found)
            self._part = kind
            self._parts += 1
            if kind == "TEXT_MESSAGE":
                found.append({"type": "TEXT_MESSAGE_START", "messageId": self._message, "role": "assistant"})
            else:
                found.append({"type": "REASONING_START", "messageId": self._message})
                found.append({"type": "REASONING_MESSAGE_START", "messageId": self._message, "role": "reasoning"})
        if delta:  # an empty one is refused by clients
            found.append({"type": f"{kind}_CONTENT", "messageId": self._message, "delta": delta})

    def _close(self, found: list[dict[str, Any]]) -> None:
        if self._part:
            found.append({"type": f"{self._part}_END", "messageId": self._message})
            if self._part == "REASONING_MESSAGE":
                found.append({"type": "REASONING_END", "messageId": self._message})
            self._part = ""

    def _other(self, chunk: StreamChunk) -> list[dict[str, Any]]:
        if isinstance(chunk, ToolStartChunk):
            call = {"toolCallId": chunk.tool_call_id}
            arguments = msgspec.json.encode({} if chunk.arguments is None else chunk.arguments).decode()
            return [
                {"type": "TOOL_CALL_START", **call, "toolCallName": chunk.tool_name},
                {"type": "TOOL_CALL_ARGS", **call, "delta": arguments},
                {"type": "TOOL_CALL_END", **call},
            ]
        if isinstance(chunk, ToolEndChunk):
            value = chunk.error if chunk.error is not None else chunk.result
            content = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            head = {"type": "TOOL_CALL_RESULT", "messageId": f"{chunk.tool_call_id}-result"}
            return [{**head, "toolCallId": chunk.tool_call_id, "content": content, "role": "tool"}]
        if isinstance(chunk, StatePatchChunk):
            return [{"type": "STATE_DELTA", "delta": chunk.patches}]
        if isinstance(chunk, CustomChunk):
            return [{"type": "CUSTOM", "name": chunk.event_name, "value": chunk.data}]
        if isinstance(chunk, OutputChunk):
            self._output = chunk.output
            return []
        self._cancelled = self._cancelled or isinstance(chunk, RunInterruptedChunk)
        return [{"type": "CUSTOM", "name": f"helix.{chunk.type}", "value": plain_data(chunk)}]
