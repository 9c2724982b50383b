"""PydanticAIAdapter: runs agents of Pydantic AI. Needs the extra ``pydantic-ai``; imported when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from helix_fast.streams.chunks import CustomChunk, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.usage.schema import TokenUsage

from .context import RunContext
from .conversation import content_of, framed, unframed
from .items import Messages, Output, RunItem

try:
    from pydantic_ai import messages as parts
    from pydantic_ai.exceptions import RunCancelled
    from pydantic_ai.run import AgentRunResultEvent
    from pydantic_core import to_jsonable_python
except ImportError as _missing:  # pragma: no cover
    raise ImportError("PydanticAIAdapter needs: pip install 'helix-fast[pydantic-ai]'") from _missing

_KEY: Final = "pydanticAi"


class PydanticAIAdapter:
    """Runs a ``pydantic_ai.Agent`` with ``run_stream_events``.

    The session's messages are the history. What the run adds is stored as chat messages (``role``, ``content``), each
    with the framework's own form under ``pydanticAi``. Usage is recorded by the provider's response ids, as soon as a
    response is complete. A stop cancels the run of the framework, and keeps the messages that it has made by then.

    Args:
        deps: makes the agent's dependencies from the RunContext; default: the RunContext itself, so that a tool can
            call ``ctx.deps.run_sub_agent(...)``.
        options: passed on to ``run_stream_events`` (``model``, ``usage_limits``…).
    """

    def __init__(self, *, deps: Callable[[RunContext], Any] | None = None, **options: Any) -> None:
        self._deps = deps
        self._options = options

    async def run(self, agent: Any, message: Any, context: RunContext) -> AsyncIterator[RunItem]:
        """Yield what the agent does."""
        recorded = _Recorded(context)
        async with agent.run_stream_events(
            None if message is None else content_of(message),
            message_history=_history(context.history),
            deps=context if self._deps is None else self._deps(context),
            **self._options,
        ) as events:
            try:
                async for event in events:
                    if isinstance(event, AgentRunResultEvent):
                        made = event.result.new_messages()
                        for entry in recorded.usage(made):
                            yield entry
                        yield Messages(_stored(made, with_prompt=message is None))
                        yield Output(to_jsonable_python(event.result.output, fallback=str))
                        continue
                    if isinstance(event, parts.ToolCallEvent):  # a response is complete
                        for entry in recorded.usage(events.new_messages()):
                            yield entry
                    for chunk in _chunks(event):
                        yield chunk
            except asyncio.CancelledError:
                if not context.stop_requested:
                    raise
                made = await _cancelled(events)
                for entry in recorded.usage(made):
                    yield entry
                yield Messages(_stored(made, with_prompt=message is None))


async def _cancelled(events: Any) -> list[Any]:
    """Cancel the run of the framework; the messages that it has made."""
    events.cancel()
    try:
        async for _ in events:
            pass
    except RunCancelled:
        pass
    try:
        return list(events.new_messages())
    except Exception:  # noqa: BLE001  it had not begun
        return []


class _Recorded:
    """Which responses of a run are recorded."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._seen = 0

    def usage(self, made: list[Any]) -> list[TokenUsage]:
        """Entries for the responses that are new."""
        responses = [each for each in made if isinstance(each, parts.ModelResponse)]
        fresh, self._seen = responses[self._seen :], max(self._seen, len(responses))
        context = self._context
        return [
            TokenUsage.from_response(
                response,
                session_id=context.session_id,
                run_id=context.run_id,
                step_count=context.step,
                model=response.model_name or "unknown",
            )
            for response in fresh
            if response.usage.has_values()
        ]


def _chunks(event: Any) -> Iterator[RunItem]:
    if isinstance(event, parts.PartStartEvent):
        if isinstance(event.part, parts.TextPart) and event.part.content:
            yield event.part.content
        elif isinstance(event.part, parts.ThinkingPart) and event.part.content:
            yield ThinkingChunk(content=event.part.content)
    elif isinstance(event, parts.PartDeltaEvent):
        if isinstance(event.delta, parts.TextPartDelta) and event.delta.content_delta:
            yield event.delta.content_delta
        elif isinstance(event.delta, parts.ThinkingPartDelta) and event.delta.content_delta:
            yield ThinkingChunk(content=event.delta.content_delta)
    elif isinstance(event, parts.PartEndEvent):
        if isinstance(event.part, parts.ThinkingPart):
            yield ThinkingChunk(content="", is_complete=True)
    elif isinstance(event, parts.FunctionToolCallEvent):
        call = event.part
        yield ToolStartChunk(
            tool_call_id=call.tool_call_id, tool_name=call.tool_name, arguments=to_jsonable_python(_arguments(call))
        )
    elif isinstance(event, parts.FunctionToolResultEvent):
        result = event.part
        failed = result.outcome != "success"
        yield ToolEndChunk(
            tool_call_id=result.tool_call_id,
            result=None if failed else to_jsonable_python(result.content, fallback=str),
            success=not failed,
            error=str(result.content) if failed else None,
        )
    elif event.event_kind == "custom":
        yield CustomChunk(event_name=event.name, data=to_jsonable_python(event.payload, fallback=str))


def _arguments(call: Any) -> Any:
    try:
        return call.args_as_dict()
    except ValueError:  # the model's JSON is broken
        return call.args


# --- messages: chat messages that carry the framework's own


def _stored(made: list[Any], *, with_prompt: bool) -> list[Any]:
    """Messages of a run as they are stored. The prompt is in the conversation already, unless ``with_prompt``."""
    stored = []
    for index, message in enumerate(made):
        if index == 0 and not with_prompt and isinstance(message, parts.ModelRequest):
            rest = [part for part in message.parts if not isinstance(part, parts.UserPromptPart)]
            if not rest:
                continue
            message.parts = rest
        (wire,) = parts.ModelMessagesTypeAdapter.dump_python([message], mode="json")
        role, content = _told(message)
        stored.append(framed(_KEY, wire, role, content))
    return stored


def _told(message: Any) -> tuple[str, str]:
    """Role and text of a message, for readers that do not know the framework."""
    if isinstance(message, parts.ModelResponse):
        return "assistant", "".join(part.content for part in message.parts if isinstance(part, parts.TextPart))
    kinds = {type(part) for part in message.parts}
    role = "user" if parts.UserPromptPart in kinds else "tool" if parts.ToolReturnPart in kinds else "system"
    return role, "\n".join(str(getattr(part, "content", "")) for part in message.parts)


def _history(messages: list[Any]) -> list[Any]:
    """The framework's history from the conversation."""
    history: list[Any] = []
    for message in messages:
        wire = unframed(_KEY, message)
        found = parts.ModelMessagesTypeAdapter.validate_python([wire]) if wire is not None else _of_chat(message)
        for each in found:
            before = history[-1] if history else None
            if isinstance(each, parts.ModelRequest) and isinstance(before, parts.ModelRequest):
                both = [*before.parts, *each.parts]
                system = [part for part in both if isinstance(part, parts.SystemPromptPart)]
                before.parts = [*system, *(part for part in both if not isinstance(part, parts.SystemPromptPart))]
            else:
                history.append(each)
    return history


def _of_chat(message: Any) -> list[Any]:
    role, content = (message.get("role"), content_of(message)) if isinstance(message, dict) else (None, "")
    if role == "user":
        return [parts.ModelRequest(parts=[parts.UserPromptPart(content)])]
    if role == "system":
        return [parts.ModelRequest(parts=[parts.SystemPromptPart(content)])]
    if role == "assistant" and content:
        return [parts.ModelResponse(parts=[parts.TextPart(content)])]
    return []
