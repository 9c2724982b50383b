"""Graphs of LangGraph as runs, on an offline model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import Helix, RunFailedError, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.agents import AgentExecutor
from tests.support.run_agents import counted, texts

pytest.importorskip("langgraph.graph")

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from helix_fast.agents import LangGraphAdapter

pytestmark = pytest.mark.framework


class Scripted(BaseChatModel):
    """Streams the chunks of one step after the other; a number is a pause, an exception is raised."""

    steps: list[list[Any]]
    seen: list[Any] = []  # noqa: RUF012  a field of pydantic

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, *args: Any, **options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("not streamed"))])

    async def _astream(self, messages: list[Any], *args: Any, **options: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.seen.append(messages)
        for part in self.steps.pop(0):
            if isinstance(part, Exception):
                raise part
            if isinstance(part, int):
                await asyncio.sleep(part)
            else:
                chunk = part if isinstance(part, AIMessageChunk) else AIMessageChunk(content=part)
                yield ChatGenerationChunk(message=chunk)


@tool
async def lookup(word: str, config: RunnableConfig) -> str:
    """Look a word up."""
    get_stream_writer()({"looking": word})
    return f"{word} in {config['configurable']['helix_run'].session_id}"


@tool
async def broken(word: str) -> str:
    """Fail."""
    raise ValueError("no")


@tool
async def ask(word: str, config: RunnableConfig) -> str:
    """Ask an expert."""
    expert = graph(Scripted(steps=[[f"about {word}"]]))
    result = await config["configurable"]["helix_run"].run_sub_agent(expert, word, agent_type="expert")
    return str(result.output)


def graph(model: Scripted, **options: Any) -> Any:
    async def think(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("tools", ToolNode([lookup, broken, ask], handle_tool_errors=True))
    made.add_edge(START, "think")
    made.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
    made.add_edge("tools", "think")
    return made.compile(name="finder", **options)


def calls(*names: str) -> AIMessageChunk:
    made = [{"name": name, "args": '{"word": "x"}', "id": name, "index": index} for index, name in enumerate(names)]
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return AIMessageChunk(content="", tool_call_chunks=made, usage_metadata=usage)


@pytest.fixture
async def executor(helix: Helix) -> AsyncIterator[AgentExecutor]:
    async with AgentExecutor(helix, LangGraphAdapter()) as made:
        yield made


async def test_text_thinking_tools_usage_and_messages(helix: Helix, executor: AgentExecutor) -> None:
    thought = AIMessageChunk(content=[{"type": "thinking", "thinking": "hm", "index": 0}])
    model = Scripted(steps=[[thought, calls("lookup", "broken")], ["It ", "is."], ["yes"]])
    finder = graph(model)
    handle = await executor.execute(finder, "where is x?", session_id="s")
    assert (await handle.result()).output == "It is."
    chunks = [stored.chunk async for stored in handle.stream()]
    assert isinstance(chunks[0], ThinkingChunk)
    starts = [chunk for chunk in chunks if isinstance(chunk, ToolStartChunk)]
    assert [(each.tool_call_id, each.tool_name, each.arguments) for each in starts] == [
        (name, name, {"word": "x"}) for name in ("lookup", "broken")
    ]
    ends = {chunk.tool_call_id: chunk for chunk in chunks if isinstance(chunk, ToolEndChunk)}
    assert (ends["lookup"].result, ends["lookup"].success) == ("x in s", True)
    assert ends["broken"].success is False
    assert "ValueError" in str(ends["broken"].error)
    (custom,) = [chunk for chunk in chunks if chunk.type == "custom"]
    assert custom.data == {"looking": "x"}  # type: ignore[union-attr]
    assert await texts(handle) == ["It ", "is."]
    state = await handle.get_state()
    assert state is not None
    assert [message["role"] for message in state.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 5
    handle = await executor.execute(finder, "sure?", session_id="s")
    assert (await handle.result()).output == "yes"
    assert await texts(handle) == ["yes"]
    assert [message.type for message in model.seen[-1]] == ["human", "ai", "tool", "tool", "ai", "human"]


async def test_a_graph_that_keeps_its_own_conversation(executor: AgentExecutor) -> None:
    model = Scripted(steps=[["one"], ["two"]])
    finder = graph(model, checkpointer=InMemorySaver())
    await (await executor.execute(finder, "first", session_id="s")).result()
    handle = await executor.execute(finder, "second", session_id="s")
    assert (await handle.result()).output == "two"
    assert [message.content for message in model.seen[-1]] == ["first", "one", "second"]
    state = await handle.get_state()
    assert state is not None
    assert [message["content"] for message in state.messages] == ["first", "one", "second", "two"]


async def test_a_sub_agent_in_a_tool(helix: Helix, executor: AgentExecutor) -> None:
    handle = await executor.execute(graph(Scripted(steps=[[calls("ask")], ["done"]])), "who?", session_id="s")
    await handle.result()
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert (ref.agent_type, ref.status, ref.result) == ("expert", "completed", "about x")


async def test_a_graph_below_a_graph_is_told_once(executor: AgentExecutor) -> None:
    outer = StateGraph(MessagesState)
    outer.add_node("inner", graph(Scripted(steps=[[calls("lookup")], ["It is."]])))
    outer.add_edge(START, "inner")
    outer.add_edge("inner", END)
    handle = await executor.execute(outer.compile(), "where?", session_id="s")
    assert (await handle.result()).output == "It is."
    kinds = [stored.chunk.type async for stored in handle.stream()]
    assert kinds == ["tool_start", "custom", "tool_end", "text_delta", "output"]
    state = await handle.get_state()
    assert state is not None
    assert [message["role"] for message in state.messages] == ["user", "assistant", "tool", "assistant"]


async def test_a_stop_keeps_what_was_said(executor: AgentExecutor) -> None:
    handle = await executor.execute(graph(Scripted(steps=[["It ", 3600, "never"]])), "where?", session_id="s")
    await counted(handle)
    await handle.stop()
    assert (await handle.result()).status == "interrupted"
    state = await handle.get_state()
    assert state is not None
    assert state.messages[1:] == [{"role": "assistant", "content": "It "}]
    resumed = await handle.resume(agent=graph(Scripted(steps=[["It is."]])))
    assert (await resumed.result()).output == "It is."


async def test_a_model_that_fails(executor: AgentExecutor) -> None:
    model = Scripted(steps=[["Well, ", ConnectionError("api_key=abcdef123456 is wrong")]])
    handle = await executor.execute(graph(model), "hi")
    with pytest.raises(RunFailedError, match=r"ConnectionError: api_key=\*\*\*"):
        await handle.result()
