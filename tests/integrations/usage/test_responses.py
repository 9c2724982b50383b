"""Token counts in the real objects of providers and frameworks, at the versions that are installed."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import TokenUsage


def read(response: Any) -> tuple[str, str, dict[str, int]]:
    entry = TokenUsage.from_response(response, session_id="s")
    counts = entry.tokens
    return (
        entry.id or "",
        entry.model,
        {
            "prompt": counts.prompt,
            "completion": counts.completion,
            "reasoning": counts.reasoning,
            "cached": counts.cached,
            "total": counts.total,
        },
    )


COUNTS = {"prompt": 36, "completion": 87, "reasoning": 40, "cached": 12, "total": 123}


def test_openai_responses() -> None:
    responses = pytest.importorskip("openai.types.responses")
    usage = {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 0},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 123,
    }
    response = responses.Response.construct(
        id="resp_1", model="gpt-5", usage=responses.ResponseUsage.model_validate(usage)
    )
    assert read(response) == ("resp_1", "gpt-5", COUNTS)


def test_openai_chat() -> None:
    chat = pytest.importorskip("openai.types.chat")
    usage = pytest.importorskip("openai.types.completion_usage").CompletionUsage.model_validate(
        {
            "prompt_tokens": 36,
            "completion_tokens": 87,
            "total_tokens": 123,
            "prompt_tokens_details": {"cached_tokens": 12},
            "completion_tokens_details": {"reasoning_tokens": 40},
        }
    )
    completion = chat.ChatCompletion.construct(id="chatcmpl-1", model="gpt-5", choices=[], usage=usage)
    assert read(completion) == ("chatcmpl-1", "gpt-5", COUNTS)


def test_langchain_message() -> None:
    messages = pytest.importorskip("langchain_core.messages")
    message = messages.AIMessage(
        "Hi",
        id="run--1",
        response_metadata={"id": "msg_1", "model_name": "claude"},
        usage_metadata={
            "input_tokens": 36,
            "output_tokens": 87,
            "total_tokens": 123,
            "input_token_details": {"cache_read": 12},
            "output_token_details": {"reasoning": 40},
        },
    )
    assert read(message) == ("msg_1", "claude", COUNTS)


def test_pydantic_ai_response() -> None:
    messages = pytest.importorskip("pydantic_ai.messages")
    usage = pytest.importorskip("pydantic_ai.usage").RequestUsage(
        input_tokens=36, output_tokens=87, cache_read_tokens=12, output_reasoning_tokens=40
    )
    response = messages.ModelResponse(parts=[], usage=usage, model_name="gpt-5", provider_response_id="resp_1")
    assert read(response) == ("resp_1", "gpt-5", COUNTS)


def test_litellm_response() -> None:
    litellm = pytest.importorskip("litellm")
    usage = litellm.Usage(
        prompt_tokens=36,
        completion_tokens=87,
        total_tokens=123,
        prompt_tokens_details={"cached_tokens": 12},
        completion_tokens_details={"reasoning_tokens": 40},
    )
    response = litellm.ModelResponse(id="chatcmpl-1", model="gpt-5", usage=usage)
    assert read(response) == ("chatcmpl-1", "gpt-5", COUNTS)
