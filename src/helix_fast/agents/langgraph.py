"""LangGraphAdapter: runs graphs of LangGraph. Needs the package langgraph (the extra ``langgraph``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from helix_fast.streams.chunks import CustomChunk, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.usage.schema import TokenUsage

from .context import RunContext
from .conversation import framed, unframed
from .items import Messages, Output, RunItem, messages_of

try:
    from langchain_core.load import dumpd
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, convert_to_messages
    from langchain_core.messages import messages_from_dict as from_dicts
    from langchain_core.messages import messages_to_dict as to_dicts
    from langgraph.types import Command
except ImportError as _missing:  # pragma: no cover
    raise ImportError("LangGraphAdapter needs: pip install 'helix-fast[langgraph]' langgraph") from _missing

_KEY: Final = "langchain"
_MODES: Final = ("messages", "updates", "custom", "values")
_ROLES: Final = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class LangGraphAdapter:
    """Runs a compiled graph with ``astream``; its state has ``messages``.

    A graph with a checkpointer keeps its conversation itself, under the session's id as ``thread_id``; another one gets
    the session's messages. What the run adds is stored as chat messages (``role``, ``content``), each with LangChain's
    own form under ``langchain``. Usage is recorded by the messages' ids. What nodes write with ``get_stream_writer()``
    becomes ``custom`` chunks. A stop cancels the graph.

    Args:
        output: makes the run's output from the graph's last values; default: the text of the last message.
        config: more of the graph's config; ``configurable`` gets ``thread_id`` and ``helix_run`` (the RunContext).
        options: passed on to ``astream`` (``context``, ``durability``…).
    """

    def __init__(
        self,
        *,
        output: Callable[[Any], Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._output = output
        self._config = dict(config or {})
        self._options = options

    async def run(self, agent: Any, message: Any, context: RunContext) -> AsyncIterator[RunItem]:
        """Yield what the graph does."""
        told = _Told(context)
        configurable = {**self._config.get("configurable", {}), "thread_id": context.session_id, "helix_run": context}
        config = {**self._config, "configurable": configurable}
        values: Any = None
        source = agent.astream(
            self._input(agent, message, context), config, stream_mode=list(_MODES), subgraphs=True, **self._options
        )
        try:
            async for space, mode, data in source:
                if mode == "values":
                    values = data if not space else values
                    continue
                for item in told.items(space, mode, data):
                    yield item
        except asyncio.CancelledError:
            if not context.stop_requested:
                raise
            await source.aclose()
            yield Messages(told.stored(unfinished=True))
        else:
            yield Messages(told.stored())
            yield Output(self._result(values))

    @staticmethod
    def _input(agent: Any, message: Any, context: RunContext) -> Any:
        if isinstance(message, Command):
            return message
        if getattr(agent, "checkpointer", None):
            # without a message it goes on from its checkpoint
            return None if message is None else {"messages": _messages(messages_of(message))}
        return {"messages": _messages(context.messages)}

    def _result(self, values: Any) -> Any:
        if self._output is not None:
            return self._output(values)
        messages = values.get("messages") if isinstance(values, Mapping) else None
        return _text(messages[-1]) if messages else None


class _Told:
    """What the readers of a run have been told."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._streamed: dict[str, list[str]] = {}
        self._made: dict[str, BaseMessage] = {}
        self._told: set[str] = set()
        owns = [unframed(_KEY, message) for message in context.messages]
        self._before = {own["data"].get("id") for own in owns if own is not None}

    def stored(self, *, unfinished: bool = False) -> list[Any]:
        """The messages that the graph has made; with ``unfinished`` those that were being said, too."""
        stored = []
        for message in self._made.values():
            (wire,) = to_dicts([message])
            stored.append(framed(_KEY, wire, _ROLES.get(message.type, message.type), _text(message)))
        if unfinished:
            said = ["".join(texts) for name, texts in self._streamed.items() if name not in self._made]
            stored += [{"role": "assistant", "content": text} for text in said if text]
        return stored

    def items(self, space: tuple[str, ...], mode: str, data: Any) -> Iterator[RunItem]:
        """The items for an event."""
        if mode == "custom":
            yield CustomChunk(event_name="custom", data=data if _is_plain(data) else dumpd(data))
        elif mode == "messages":
            message, _metadata = data
            if isinstance(message, AIMessageChunk):
                yield from self._of_token(message)
        elif isinstance(data, Mapping):
            for update in data.values():
                for part in update if isinstance(update, list) else [update]:
                    yield from self._of_update(part, own=not space)

    def _of_token(self, message: Any) -> Iterator[RunItem]:
        texts = self._streamed.setdefault(message.id or "", [])
        for part in [message.content] if isinstance(message.content, str) else message.content:
            if isinstance(part, str) or part.get("type") == "text":
                text = part if isinstance(part, str) else part.get("text", "")
                if text:
                    texts.append(text)
                    yield text
            elif part.get("type") in {"thinking", "reasoning"}:
                thought = part.get("thinking") or part.get("reasoning") or ""
                if thought:
                    yield ThinkingChunk(content=thought)

    def _of_update(self, update: Any, *, own: bool) -> Iterator[RunItem]:
        """What a node has added. A subgraph's messages may come again with the node above it: they are told once."""
        messages = update.get("messages") if isinstance(update, Mapping) else None
        for message in messages if isinstance(messages, list) else [messages]:
            if not isinstance(message, (AIMessage, ToolMessage)):
                continue
            key = message.id or getattr(message, "tool_call_id", None) or f"#{len(self._told)}"
            if key in self._before:
                continue
            if key not in self._told:
                self._told.add(key)
                yield from self._of_message(message)
            if own:
                self._made[key] = message

    def _of_message(self, message: Any) -> Iterator[RunItem]:
        context = self._context
        if isinstance(message, ToolMessage):
            failed = message.status == "error"
            yield ToolEndChunk(
                tool_call_id=message.tool_call_id,
                result=None if failed else message.content,
                success=not failed,
                error=_text(message) if failed else None,
            )
            return
        if message.id not in self._streamed and _text(message):  # a model that does not stream
            yield _text(message)
        for call in message.tool_calls:
            yield ToolStartChunk(tool_call_id=call["id"] or "", tool_name=call["name"], arguments=call["args"])
        if message.usage_metadata is not None:
            yield TokenUsage.from_response(
                message,
                session_id=context.session_id,
                run_id=context.run_id,
                step_count=context.step,
                model=message.response_metadata.get("model_name") or "unknown",
            )


def _text(message: Any) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in content)


def _is_plain(data: Any) -> bool:
    return data is None or isinstance(data, (str, int, float, bool, list, dict))


def _messages(messages: list[Any]) -> list[Any]:
    found = []
    for message in messages:
        own = unframed(_KEY, message)
        found += from_dicts([own]) if own is not None else convert_to_messages([message])
    return found
