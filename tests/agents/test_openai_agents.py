"""Agents of the OpenAI Agents SDK as runs, on its scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import Helix, RunFailedError, ThinkingChunk, ToolEndChunk, ToolStartChunk
from helix_fast.agents import AgentExecutor
from tests.support.run_agents import counted, texts

pytest.importorskip("agents.testing")

from agents import Agent, RunContextWrapper, Usage, function_tool, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseReasoningSummaryTextDeltaEvent, ResponseTextDeltaEvent

from helix_fast.agents import OpenAIAgentsAdapter

pytestmark = pytest.mark.framework

set_tracing_disabled(True)


@pytest.fixture
async def executor(helix: Helix) -> AsyncIterator[AgentExecutor]:
    async with AgentExecutor(helix, OpenAIAgentsAdapter()) as made:
        yield made


@function_tool
async def lookup(ctx: RunContextWrapper[Any], word: str) -> str:
    return f"{word} in {ctx.context.session_id}"


@function_tool
async def broken(word: str) -> str:
    raise ValueError("no")


@function_tool
async def ask(ctx: RunContextWrapper[Any], word: str) -> str:
    below: Any = Agent(name="expert", model=ScriptedModel([[assistant_message(f"about {word}")]]))
    return str((await ctx.context.run_sub_agent(below, word)).output)


def agent(*steps: Any) -> Any:
    return Agent(name="finder", model=ScriptedModel(list(steps)), tools=[lookup, broken, ask])


def text_delta(text: str) -> Any:
    return ResponseTextDeltaEvent(
        type="response.output_text.delta", delta=text, item_id="i", output_index=0, content_index=0, sequence_number=0,
        logprobs=[],
    )  # fmt: skip


async def test_text_tools_usage_and_messages(helix: Helix, executor: AgentExecutor) -> None:
    usage = Usage(requests=1, input_tokens=3, output_tokens=2, total_tokens=5)
    calls = [function_call(tool, {"word": "x"}, call_id=tool) for tool in ("lookup", "broken")]
    finder = agent(
        ModelStep(output=calls, usage=usage), [assistant_message("It is there.")], [assistant_message("yes")]
    )
    handle = await executor.execute(finder, "where is x?", session_id="s")
    assert (await handle.result()).output == "It is there."
    chunks = [stored.chunk async for stored in handle.stream()]
    starts = [chunk for chunk in chunks if isinstance(chunk, ToolStartChunk)]
    assert [(each.tool_call_id, each.tool_name, each.arguments) for each in starts] == [
        (tool, tool, {"word": "x"}) for tool in ("lookup", "broken")
    ]
    ends = {chunk.tool_call_id: chunk for chunk in chunks if isinstance(chunk, ToolEndChunk)}
    assert (ends["lookup"].result, ends["lookup"].success) == ("x in s", True)
    assert (ends["broken"].result, ends["broken"].success) == (None, False)
    assert await texts(handle) == ["It is there."]
    state = await handle.get_state()
    assert state is not None
    roles = ["user", "assistant", "assistant", "tool", "tool", "assistant"]
    assert [message["role"] for message in state.messages] == roles
    assert state.messages[-1]["content"] == "It is there."
    rollup = await handle.get_usage_rollup()
    assert rollup is not None
    assert rollup.tokens.total == 5
    await (await executor.execute(finder, "sure?", session_id="s")).result()
    seen = finder.model.calls[-1].input
    assert [item.get("type", item.get("role")) for item in seen] == [
        "user", "function_call", "function_call", "function_call_output", "function_call_output", "message", "user"
    ]  # fmt: skip


async def test_words_and_thoughts_as_they_come(executor: AgentExecutor) -> None:
    thought = ResponseReasoningSummaryTextDeltaEvent(
        type="response.reasoning_summary_text.delta", delta="hm", item_id="r", output_index=0, summary_index=0,
        sequence_number=0,
    )  # fmt: skip
    model = ScriptedModel([[assistant_message("It is.")]])
    whole = model.stream_response

    async def stream(*args: Any, **options: Any) -> AsyncIterator[Any]:
        for event in (thought, text_delta("It "), text_delta("is.")):
            yield event
        async for event in whole(*args, **options):
            if event.type != "response.output_text.delta":
                yield event

    model.stream_response = stream
    handle = await executor.execute(Agent(name="a", model=model), "hi")
    await handle.result()
    chunks = [stored.chunk async for stored in handle.stream()]
    assert isinstance(chunks[0], ThinkingChunk)
    assert chunks[0].content == "hm"
    assert await texts(handle) == ["It ", "is."]


async def test_a_sub_agent_in_a_tool(helix: Helix, executor: AgentExecutor) -> None:
    finder = agent([function_call("ask", {"word": "x"}, call_id="call")], [assistant_message("done")])
    handle = await executor.execute(finder, "who?", session_id="s")
    await handle.result()
    (ref,) = await helix.state.get_sub_agent_refs("s")
    assert (ref.agent_type, ref.status, ref.result) == ("expert", "completed", "about x")


async def test_a_stop_keeps_what_was_said(executor: AgentExecutor) -> None:
    model = ScriptedModel([[assistant_message("never")]])

    async def slow(*args: Any, **options: Any) -> AsyncIterator[Any]:
        yield text_delta("It ")
        await asyncio.sleep(3600)

    model.stream_response = slow
    handle = await executor.execute(Agent(name="a", model=model), "hi", session_id="s")
    await counted(handle)
    await handle.stop()
    assert (await handle.result()).status == "interrupted"
    state = await handle.get_state()
    assert state is not None
    assert state.messages[1:] == [{"role": "assistant", "content": "It "}]
    resumed = await handle.resume(agent=agent([assistant_message("It is.")]))
    assert (await resumed.result()).output == "It is."


async def test_a_model_that_fails(executor: AgentExecutor) -> None:
    model = ScriptedModel([ConnectionError("api_key=abcdef123456 is wrong")])
    handle = await executor.execute(Agent(name="a", model=model), "hi")
    with pytest.raises(RunFailedError, match=r"ConnectionError: api_key=\*\*\*"):
        await handle.result()
