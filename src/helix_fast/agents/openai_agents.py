"""OpenAIAgentsAdapter: runs agents of the OpenAI Agents SDK. Needs the extra ``openai-agents``; imported when used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from helix_fast.streams.chunks import CustomChunk, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.usage.schema import TokenUsage

from .context import RunContext
from .conversation import content_of, framed, unframed
from .items import Messages, Output, RunItem

try:
    from agents import Runner
    from pydantic_core import to_jsonable_python
except ImportError as _missing:  # pragma: no cover
    raise ImportError("OpenAIAgentsAdapter needs: pip install 'helix-fast[openai-agents]'") from _missing

_KEY: Final = "openaiAgents"
# With this the SDK begins the output that it gives the model for a tool that has raised.
_TOOL_ERROR: Final = "An error occurred while running the tool"
_THINKING: Final = ("response.reasoning_summary_text", "response.reasoning_text")


class OpenAIAgentsAdapter:
    """Runs an ``agents.Agent`` with ``Runner.run_streamed``.

    The session's messages are the input. What the run adds is stored as chat messages (``role``, ``content``), each
    with the SDK's own item under ``openaiAgents``. Usage is recorded by the ids of the responses. A stop cancels the
    SDK's run, and keeps its items and the text that it has said by then.

    Args:
        context: makes the SDK's context from the RunContext; default: the RunContext itself, so that a tool can call
            ``wrapper.context.run_sub_agent(...)``.
        options: passed on to ``run_streamed`` (``max_turns``, ``run_config``, ``hooks``…).
    """

    def __init__(self, *, context: Callable[[RunContext], Any] | None = None, **options: Any) -> None:
        self._context = context
        self._options = options

    async def run(self, agent: Any, message: Any, context: RunContext) -> AsyncIterator[RunItem]:
        """Yield what the agent does."""
        result = Runner.run_streamed(
            agent,
            _input(context.messages),
            context=context if self._context is None else self._context(context),
            **self._options,
        )
        told = _Told(context)
        try:
            async for event in result.stream_events():
                for chunk in told.chunks(event):
                    yield chunk
                for entry in told.usage(result):
                    yield entry
        except asyncio.CancelledError:
            if not context.stop_requested:
                result.cancel(mode="immediate")
                raise
            result.cancel(mode="immediate")
            async for event in result.stream_events():
                list(told.chunks(event))
            for entry in told.usage(result):
                yield entry
            yield Messages([*_stored(result.new_items), *told.unfinished()])
        except BaseException:
            result.cancel(mode="immediate")
            raise
        else:
            for entry in told.usage(result):
                yield entry
            yield Messages(_stored(result.new_items))
            yield Output(to_jsonable_python(result.final_output, fallback=str))


class _Told:
    """What the readers of a run have been told."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._text: list[str] = []
        self._responses = 0

    def unfinished(self) -> list[Any]:
        """The message that was being said."""
        return [{"role": "assistant", "content": "".join(self._text)}] if self._text else []

    def usage(self, result: Any) -> Iterator[TokenUsage]:
        """Entries for the responses that are new."""
        context, responses = self._context, result.raw_responses
        for response in responses[self._responses :]:
            self._responses += 1
            model = result.current_agent.model
            yield TokenUsage.from_response(
                response,
                session_id=context.session_id,
                run_id=context.run_id,
                step_count=context.step,
                model=model if isinstance(model, str) else getattr(model, "model", None) or type(model).__name__,
            )

    def chunks(self, event: Any) -> Iterator[RunItem]:
        """The chunks for an event."""
        if event.type == "raw_response_event":
            kind, _, step = event.data.type.rpartition(".")
            if event.data.type == "response.output_text.delta":
                self._text.append(event.data.delta)
                yield event.data.delta
            elif kind in _THINKING:
                done = step == "done"
                yield ThinkingChunk(content="" if done else event.data.delta, is_complete=done)
        elif event.type == "run_item_stream_event":
            yield from self._of_item(event.name, event.item)

    def _of_item(self, name: str, item: Any) -> Iterator[RunItem]:
        if name == "message_output_created":
            if not self._text:  # a model that does not stream
                yield _text_of(item)
            self._text.clear()
        elif name == "tool_called":
            call = item.raw_item
            yield ToolStartChunk(
                tool_call_id=_field(call, "call_id") or _field(call, "id") or "",
                tool_name=_field(call, "name") or _field(call, "type") or "",
                arguments=_json(_field(call, "arguments")),
            )
        elif name == "tool_output":
            failed = isinstance(item.output, str) and item.output.startswith(_TOOL_ERROR)
            yield ToolEndChunk(
                tool_call_id=_field(item.raw_item, "call_id") or "",
                result=None if failed else to_jsonable_python(item.output, fallback=str),
                success=not failed,
                error=item.output if failed else None,
            )
        elif name == "handoff_occured":
            data = {"from": item.source_agent.name, "to": item.target_agent.name}
            yield CustomChunk(event_name="handoff", data=data)


def _field(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _text_of(item: Any) -> str:
    return "".join(getattr(part, "text", "") for part in item.raw_item.content)


def _stored(items: Any) -> list[Any]:
    stored = []
    for item in items:
        role = "tool" if item.type.endswith("_output_item") and item.type != "message_output_item" else "assistant"
        content = _text_of(item) if item.type == "message_output_item" else ""
        if role == "tool":
            content = str(getattr(item, "output", ""))
        stored.append(framed(_KEY, to_jsonable_python(item.to_input_item(), fallback=str), role, content))
    return stored


def _input(messages: list[Any]) -> list[Any]:
    found = []
    for message in messages:
        own = unframed(_KEY, message)
        if own is not None:
            found.append(own)
        elif isinstance(message, dict) and message.get("role") in {"user", "assistant", "system", "developer"}:
            found.append({"role": message["role"], "content": content_of(message)})
    return found
