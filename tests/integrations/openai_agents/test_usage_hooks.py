"""UsageHooks in runs of the OpenAI Agents SDK: each response is recorded once."""

from __future__ import annotations

import pytest

pytest.importorskip("agents")

from agents import Agent, ModelResponse, Runner, Usage
from agents.testing import ScriptedModel
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from helix_fast import Helix, TokenUsage
from helix_fast.integrations.openai_agents import UsageHooks
from tests.integrations.openai_agents.test_session import said


def response(response_id: str | None) -> ModelResponse:
    usage = Usage(
        requests=1,
        input_tokens=36,
        input_tokens_details=InputTokensDetails.model_validate({"cached_tokens": 12, "cache_write_tokens": 0}),
        output_tokens=87,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=40),
        total_tokens=123,
    )
    return ModelResponse(output=[said("Hi")], usage=usage, response_id=response_id)


async def test_a_response_is_recorded_once_under_its_id(helix: Helix) -> None:
    hooks = UsageHooks(
        helix.usage, session_id="s", run_id="r", model="gpt-5", price={"gpt-5": {"prompt": 1, "completion": 1}}
    )
    for response_id in ("resp_1", "resp_1", "resp_2", None, None):
        agent = Agent("poet", model=ScriptedModel([response(response_id)]))
        await Runner.run(agent, "Hello", hooks=hooks)
    entries = [entry for entry in await helix.usage.get_entries("s") if isinstance(entry, TokenUsage)]
    assert [entry.id for entry in entries][:2] == ["resp_1", "resp_2"]
    assert len(entries) == 4
    first = entries[0]
    assert (first.model, first.run_id, first.cost) == ("gpt-5", "r", 123 / 1_000_000)
    assert (first.tokens.prompt, first.tokens.cached, first.tokens.reasoning) == (36, 12, 40)
    assert first.source is not None
    assert first.source.name == "poet"


async def test_the_agents_model_is_named(helix: Helix) -> None:
    hooks = UsageHooks(helix.usage, session_id="s")
    agent = Agent("poet", model="gpt-5-mini")
    await hooks.on_llm_end(None, agent, response("resp_1"))
    (entry,) = await helix.usage.get_entries("s")
    assert isinstance(entry, TokenUsage)
    assert entry.model == "gpt-5-mini"
