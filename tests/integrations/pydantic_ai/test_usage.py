"""UsageRecorder in runs of pydantic-ai: each response is recorded once, under the run and the conversation."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic_ai.conversation_store")

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from helix_fast import Helix, ModelPrice, TokenUsage
from helix_fast.integrations.pydantic_ai import UsageRecorder


async def test_each_request_of_a_run_is_recorded(helix: Helix) -> None:
    agent = Agent(TestModel(), name="poet", capabilities=[UsageRecorder(helix.usage)])

    @agent.tool_plain
    def weather() -> str:
        return "fine"

    result = await agent.run("Hello", conversation_id="chat-1", run_id="run-1")
    entries = [entry for entry in await helix.usage.get_entries("chat-1") if isinstance(entry, TokenUsage)]
    assert [entry.run_id for entry in entries] == ["run-1", "run-1"]
    assert [entry.model for entry in entries] == ["test", "test"]
    assert {entry.source.name for entry in entries if entry.source} == {"poet"}
    rollup = await helix.usage.get_rollup("chat-1")
    assert rollup is not None
    assert rollup.tokens.prompt == result.usage.input_tokens
    assert rollup.tokens.completion == result.usage.output_tokens
    assert rollup.tokens.calls == 2


async def test_the_providers_id_counts_a_response_once(helix: Helix) -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(
            parts=[TextPart("hi")],
            usage=RequestUsage(input_tokens=1_000_000, output_tokens=0),
            model_name="m-1",
            provider_response_id="resp_1",
        )

    price = {"m-1": ModelPrice(prompt=2, completion=8)}
    model = FunctionModel(answer, model_name="m-1")
    agent = Agent(model, capabilities=[UsageRecorder(helix.usage, session_id="s", price=price)])
    await agent.run("Hello")
    await agent.run("Hello")  # as a retry that gets the same response
    (entry,) = await helix.usage.get_entries("s")
    assert isinstance(entry, TokenUsage)
    assert (entry.id, entry.model, entry.cost) == ("resp_1", "m-1", 2)


async def test_requests_without_an_id_are_told_apart(helix: Helix) -> None:
    calls = 0

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            return ModelResponse(parts=[ToolCallPart("f", {})])
        return ModelResponse(parts=[TextPart("hi")])

    agent = Agent(FunctionModel(answer), capabilities=[UsageRecorder(helix.usage, session_id="s")])
    agent.tool_plain(name="f")(lambda: "x")
    await agent.run("Hello", run_id="r")
    assert len({entry.id for entry in await helix.usage.get_entries("s")}) == 2
