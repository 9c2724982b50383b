"""Agents of Pydantic AI as runs, on its offline models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import Helix, RunFailedError, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.agents import AgentExecutor
from tests.support.run_agents import counted, texts

pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, ModelRetry
from pydantic_ai import RunContext as ToolContext
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from helix_fast.agents import PydanticAIAdapter

pytestmark = pytest.mark.framework


@pytest.fixture
async def executor(helix: Helix) -> AsyncIterator[AgentExecutor]:
    async with AgentExecutor(helix, PydanticAIAdapter()) as made:
        yield made


class Script:
    """A model that thinks, looks something up, and answers; `pause` seconds between its words."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.tool = "lookup"
        self.seen: list[list[Any]] = []

    async def stream(self, messages: list[Any], _info: Any) -> AsyncIterator[Any]:
        self.seen.append(list(messages))
        if messages[-1].kind == "request" and any(part.part_kind == "user-prompt" for part in messages[-1].parts):
            yield {0: DeltaThinkingPart(content="where is ")}
            yield {0: DeltaThinkingPart(content="it?")}
            yield {1: DeltaToolCall(self.tool, '{"word": "x"}', tool_call_id="call")}
            return
        for word in ("It ", "is ", "there."):
            yield word
            await asyncio.sleep(self.pause)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def agent(script: Script) -> Any:
    made: Any = Agent(FunctionModel(stream_function=script.stream), name="finder", system_prompt="Be brief.")

    @made.tool
    async def lookup(ctx: ToolContext[Any], word: str) -> dict[str, Any]:
        return {"found": [word], "session": ctx.deps.session_id}

    @made.tool_plain(retries=0)
    async def broken(word: str) -> str:
        raise ModelRetry("no such word")

    @made.tool
    async def ask(ctx: ToolContext[Any], word: str) -> Any:
        below = Agent(TestModel(custom_output_text=f"about {word}"), name="expert")
        return (await ctx.deps.run_sub_agent(below, word, tool_call_id=ctx.tool_call_id)).output

    return made


async def test_text_thinking_tools_usage_and_messages(
    helix: Helix, executor: AgentExecutor, agent: Any, script: Script
) -> None:
    handle = await executor.execute(agent, "where is x?", session_id="s")
    assert (await handle.result()).output == "It is there."
    chunks = [stored.chunk async for stored in handle.stream()]
    thoughts = [chunk for chunk in chunks if isinstance(chunk, ThinkingChunk)]
    assert [(each.content, each.is_complete) for each in thoughts] == [
        ("where is ", False), ("it?", False), ("", True)
    ]  # fmt: skip
    (start,) = [chunk for chunk in chunks if isinstance(chunk, ToolStartChunk)]
    assert (start.tool_call_id, start.tool_name, start.arguments) == ("call", "lookup", {"word": "x"})
    (end,) = [chunk for chunk in chunks if isinstance(chunk, ToolEndChunk)]
    assert (end.tool_call_id, end.result, end.success) == ("call", {"found": ["x"], "session": "s"}, True)
    assert await texts(handle) == ["It ", "is ", "there."]
    state = await handle.get_state()
    assert state is not None
    assert [message["role"] for message in state.messages] == ["user", "system", "assistant", "tool", "assistant"]
    assert state.messages[-1]["content"] == "It is there."
    assert len(await helix.usage.get_entries("s")) == 2
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total > 0


async def test_the_conversation_goes_on(executor: AgentExecutor, agent: Any, script: Script) -> None:
    await (await executor.execute(agent, "first", session_id="s")).result()
    await (await executor.execute(agent, "second", session_id="s")).result()
    kinds = [[part.part_kind for part in message.parts] for message in script.seen[2]]
    assert kinds == [
        ["system-prompt", "user-prompt"], ["thinking", "tool-call"], ["tool-return"], ["text"], ["user-prompt"]
    ]  # fmt: skip
    assert script.seen[2][0].parts[1].content == "first"
    await (await executor.execute(agent, [{"role": "user", "content": "third"}], session_id="s")).result()
    assert script.seen[4][-1].parts[0].content == "third"


async def test_a_tool_that_fails(executor: AgentExecutor, agent: Any, script: Script) -> None:
    script.tool = "broken"
    handle = await executor.execute(agent, "where?", session_id="s")
    with pytest.raises(RunFailedError):
        await handle.result()

    async def shaky(messages: list[Any], _info: Any) -> AsyncIterator[Any]:
        if len(messages) == 1:
            yield {0: DeltaToolCall("no such tool", "{}", tool_call_id="call")}
        else:
            yield "sorry"

    handle = await executor.execute(Agent(FunctionModel(stream_function=shaky), retries=3), "where?")
    assert (await handle.result()).output == "sorry"
    (end,) = [stored.chunk async for stored in handle.stream() if stored.chunk.type == "tool_end"]
    assert isinstance(end, ToolEndChunk)
    assert end.success is False
    assert end.error


async def test_a_sub_agent_in_a_tool(helix: Helix, executor: AgentExecutor, agent: Any, script: Script) -> None:
    script.tool = "ask"
    handle = await executor.execute(agent, "who?", session_id="s")
    await handle.result()
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert (ref.agent_type, ref.tool_call_id, ref.status, ref.result) == ("expert", "call", "completed", "about x")
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.by_session is not None
    assert set(rollup.by_session) == {"s", ref.sub_session_id}


async def test_a_stop_keeps_what_was_said(executor: AgentExecutor, agent: Any, script: Script) -> None:
    script.pause = 3600
    handle = await executor.execute(agent, "where?", session_id="s")
    await counted(handle)
    await handle.stop()
    assert (await handle.result()).status == "interrupted"
    state = await handle.get_state()
    assert state is not None
    assert [message["role"] for message in state.messages] == ["user", "system", "assistant", "tool", "assistant"]
    assert state.messages[-1]["content"] == "It "
    script.pause = 0
    resumed = await handle.resume("go on")
    assert (await resumed.result()).output == "It is there."
    assert [message.kind for message in script.seen[-1]][-1] == "request"


async def test_a_model_that_fails(executor: AgentExecutor) -> None:
    async def broken(_messages: list[Any], _info: Any) -> AsyncIterator[Any]:
        yield "Well, "
        raise ConnectionError("api_key=abcdef123456 is wrong")

    handle = await executor.execute(Agent(FunctionModel(stream_function=broken)), "hi")
    with pytest.raises(RunFailedError, match=r"ConnectionError: api_key=\*\*\*"):
        await handle.result()


async def test_structured_output(executor: AgentExecutor) -> None:
    handle = await executor.execute(Agent(TestModel(), output_type=dict[str, int]), "hi")
    assert isinstance((await handle.result()).output, dict)
