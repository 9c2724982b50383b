"""Usage from the responses of providers and frameworks: payloads of their documentation, as dicts and as objects."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from helix_fast import InvalidArgumentError, MalformedEntryError, TokenCounts, TokenUsage
from helix_fast.clock import now_ms
from helix_fast.usage.encoding import encode_entry
from helix_fast.usage.responses import FOREIGN_COUNTS
from helix_fast.usage.rollup_schema import build_rollup
from helix_fast.usage.schema import UnknownUsage, UsageEntry, UsageSource

OPENAI_CHAT = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-5.1-2025-04-14",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 128,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
}
OPENAI_LAST_CHUNK = {**OPENAI_CHAT, "object": "chat.completion.chunk", "choices": []}
OPENAI_RESPONSE = {
    "id": "resp_67ccd3a9da748190baa7f1570fe91ac604becb25c45c1d41",
    "object": "response",
    "status": "completed",
    "model": "gpt-4.1-2025-04-14",
    "output": [{"type": "message", "id": "msg_67ccd3acc8d4", "role": "assistant", "content": []}],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 12},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 123,
    },
}
OPENAI_COMPLETED = {"type": "response.completed", "sequence_number": 9, "response": OPENAI_RESPONSE}
EMBEDDINGS = {
    "object": "list",
    "data": [],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
ANTHROPIC_MESSAGE = {
    "id": "msg_013Zva2CMHLNnjNjJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hi!"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 12,
        "cache_creation_input_tokens": 248,
        "cache_read_input_tokens": 5000,
        "cache_creation": {"ephemeral_5m_input_tokens": 248, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 300,
        "server_tool_use": None,
        "service_tier": "standard",
    },
}
ANTHROPIC_DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {
        "input_tokens": 472,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 89,
    },
}
ANTHROPIC_SHORT_DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 15},
}
GEMINI_REST = {
    "candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 1000,
        "candidatesTokenCount": 50,
        "totalTokenCount": 1307,
        "cachedContentTokenCount": 400,
        "thoughtsTokenCount": 250,
        "toolUsePromptTokenCount": 7,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r9KqaPzfJ4aR1MkP",
}
GEMINI_SDK = {
    "usage_metadata": {
        "prompt_token_count": 8,
        "candidates_token_count": 25,
        "total_token_count": 33,
        "cached_content_token_count": None,
        "thoughts_token_count": None,
    },
    "model_version": "gemini-2.5-flash",
    "response_id": "abc",
}
LANGCHAIN_MESSAGE = {
    "content": "Hi",
    "id": "run--7a2b",
    "response_metadata": {"id": "msg_01", "model_name": "claude-sonnet-4-5", "stop_reason": "end_turn"},
    "usage_metadata": {
        "input_tokens": 350,
        "output_tokens": 240,
        "total_tokens": 590,
        "input_token_details": {"audio": 10, "cache_creation": 200, "cache_read": 100},
        "output_token_details": {"audio": 10, "reasoning": 200},
    },
}
LANGCHAIN_OLD_MESSAGE = {
    "content": "Hi",
    "id": "run-5",
    "usage_metadata": None,
    "response_metadata": {
        "token_usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        "model_name": "gpt-4o",
    },
}
LANGCHAIN_RESULT = {"generations": [[{"text": "Hi", "message": LANGCHAIN_MESSAGE}]], "llm_output": {}}
LANGCHAIN_RESULT_OF_TWO = {
    "generations": [[{"message": LANGCHAIN_MESSAGE}], [{"message": LANGCHAIN_MESSAGE}, {"message": LANGCHAIN_MESSAGE}]]
}
LANGCHAIN_OLD_RESULT = {
    "generations": [[{"text": "Hi"}]],
    "llm_output": {
        "token_usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        "model_name": "gpt-4o",
    },
}
PYDANTIC_AI_USAGE = {
    "input_tokens": 1200,
    "cache_write_tokens": 100,
    "cache_read_tokens": 900,
    "output_tokens": 80,
    "input_audio_tokens": 0,
    "details": {"reasoning_tokens": 30},
}
PYDANTIC_AI_RESPONSE = {
    "parts": [],
    "usage": PYDANTIC_AI_USAGE,
    "model_name": "gpt-5",
    "timestamp": "2026-01-01T00:00:00Z",
    "kind": "response",
    "provider_name": "openai",
    "provider_response_id": "resp_7",
}
OPENAI_AGENTS_RESPONSE = {"output": [], "usage": OPENAI_RESPONSE["usage"], "response_id": "resp_9"}
LITELLM_RESPONSE = {
    "id": "chatcmpl-lite",
    "object": "chat.completion",
    "model": "claude-sonnet-4-5",
    "choices": [],
    "usage": {
        "prompt_tokens": 5260,
        "completion_tokens": 300,
        "total_tokens": 5560,
        "prompt_tokens_details": {"cached_tokens": 5000, "text_tokens": None},
        "completion_tokens_details": None,
        "cache_creation_input_tokens": 248,
        "cache_read_input_tokens": 5000,
    },
}
LITELLM_RECORD = {
    "id": "chatcmpl-lite",
    "call_type": "acompletion",
    "model": "gpt-4o",
    "prompt_tokens": 20,
    "completion_tokens": 10,
    "total_tokens": 30,
    "response": {
        "id": "chatcmpl-lite",
        "usage": {
            "prompt_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 16},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
    },
}
LITELLM_CALLBACK = {"model": "gpt-4o", "standard_logging_object": LITELLM_RECORD}

Expected = tuple[str | None, str | None, dict[str, int]]


def expect(
    response_id: str | None, model: str | None, prompt: int | None, completion: int | None, reasoning: int | None,
    cached: int | None, total: int | None,
) -> Expected:  # fmt: skip
    named = {"prompt": prompt, "completion": completion, "reasoning": reasoning, "cached": cached, "total": total}
    return response_id, model, {name: count for name, count in named.items() if count is not None}


CASES: dict[str, tuple[dict[str, Any], Expected]] = {
    "OpenAI chat": (
        OPENAI_CHAT,
        expect("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "gpt-5.1-2025-04-14", 2006, 300, 128, 1920, 2306),
    ),
    "OpenAI chat, last chunk": (
        OPENAI_LAST_CHUNK,
        expect("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "gpt-5.1-2025-04-14", 2006, 300, 128, 1920, 2306),
    ),
    "OpenAI Responses": (
        OPENAI_RESPONSE,
        expect(str(OPENAI_RESPONSE["id"]), "gpt-4.1-2025-04-14", 36, 87, 40, 12, 123),
    ),
    "OpenAI Responses, last event": (
        OPENAI_COMPLETED,
        expect(str(OPENAI_RESPONSE["id"]), "gpt-4.1-2025-04-14", 36, 87, 40, 12, 123),
    ),
    "OpenAI embeddings": (EMBEDDINGS, expect(None, "text-embedding-3-small", 8, None, None, None, 8)),
    "OpenAI Agents": (OPENAI_AGENTS_RESPONSE, expect("resp_9", None, 36, 87, 40, 12, 123)),
    "Anthropic message": (
        ANTHROPIC_MESSAGE,
        expect("msg_013Zva2CMHLNnjNjJJKqJ2EF", "claude-sonnet-4-5-20250929", 5260, 300, None, 5000, None),
    ),
    "Anthropic final delta": (ANTHROPIC_DELTA, expect(None, None, 472, 89, None, 0, None)),
    "Anthropic short delta": (ANTHROPIC_SHORT_DELTA, expect(None, None, None, 15, None, None, None)),
    "Gemini REST": (GEMINI_REST, expect("r9KqaPzfJ4aR1MkP", "gemini-2.5-flash", 1007, 300, 250, 400, 1307)),
    "Gemini SDK": (GEMINI_SDK, expect("abc", "gemini-2.5-flash", 8, 25, None, None, 33)),
    "LangChain message": (LANGCHAIN_MESSAGE, expect("msg_01", "claude-sonnet-4-5", 350, 240, 200, 100, 590)),
    "LangChain message, old": (LANGCHAIN_OLD_MESSAGE, expect("run-5", "gpt-4o", 9, 2, None, None, 11)),
    "LangChain result": (LANGCHAIN_RESULT, expect("msg_01", "claude-sonnet-4-5", 350, 240, 200, 100, 590)),
    "LangChain result of two prompts": (
        LANGCHAIN_RESULT_OF_TWO,
        expect("msg_01", "claude-sonnet-4-5", 700, 480, 400, 200, 1180),
    ),
    "LangChain result, old": (LANGCHAIN_OLD_RESULT, expect(None, "gpt-4o", 9, 2, None, None, 11)),
    "pydantic-ai response": (PYDANTIC_AI_RESPONSE, expect("resp_7", "gpt-5", 1200, 80, 30, 900, None)),
    "pydantic-ai usage": (PYDANTIC_AI_USAGE, expect(None, None, 1200, 80, 30, 900, None)),
    "pydantic-ai usage with reasoning": (
        {"input_tokens": 5, "output_tokens": 7, "output_reasoning_tokens": 6, "cache_read_tokens": 0, "details": {}},
        expect(None, None, 5, 7, 6, 0, None),
    ),
    "LiteLLM response": (LITELLM_RESPONSE, expect("chatcmpl-lite", "claude-sonnet-4-5", 5260, 300, None, 5000, 5560)),
    "LiteLLM record": (LITELLM_RECORD, expect("chatcmpl-lite", "gpt-4o", 20, 10, 4, 16, 30)),
    "LiteLLM callback": (LITELLM_CALLBACK, expect("chatcmpl-lite", "gpt-4o", 20, 10, 4, 16, 30)),
}


def as_object(value: Any) -> Any:
    """The same as the SDKs make of it: objects all the way down."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(part) for name, part in value.items()})
    return [as_object(part) for part in value] if isinstance(value, list) else value


def as_dataclass(value: Any) -> Any:
    """Objects with a dict where an SDK has one (LangChain's usage_metadata, pydantic-ai's details)."""
    if isinstance(value, dict):
        return dataclasses.make_dataclass("Made", list(value))(**value)
    return value


@pytest.mark.parametrize("made", [dict, as_object, as_dataclass])
@pytest.mark.parametrize("name", CASES)
def test_each_shape_is_read(name: str, made: Any) -> None:
    response, (response_id, model, counts) = CASES[name]
    entry = TokenUsage.from_response(
        made(response), session_id="s", run_id="r", step_count=3, model=None if model else "given"
    )
    assert (entry.session_id, entry.run_id, entry.step_count) == ("s", "r", 3)
    assert (entry.id, entry.model) == (response_id, model or "given")
    assert entry.tokens == TokenCounts(**counts)


@pytest.mark.parametrize("name", CASES)
def test_what_was_read_adds_up(name: str) -> None:
    """No part is lost, and none is counted twice, in either twin: what is sent and what comes back is the total."""
    from helix_fast import codec

    response, (_id, _model, counts) = CASES[name]
    entry = TokenUsage.from_response(response, session_id="s", model="m")
    rollup = codec.Rollup()
    rollup.add([encode_entry(entry, now_ms()).wire])
    tokens = build_rollup("s", rollup.export()).tokens
    prompt, completion = counts.get("prompt", 0), counts.get("completion", 0)
    assert (tokens.prompt, tokens.completion, tokens.total) == (prompt, completion, prompt + completion)
    assert tokens.reasoning_in_completion == counts.get("reasoning", 0)
    assert tokens.cached_in_prompt == counts.get("cached", 0)
    assert tokens.buckets()["other"] == 0


def test_usage_that_is_a_method_is_asked() -> None:
    """A run of pydantic-ai."""
    run = SimpleNamespace(
        usage=lambda: as_object(PYDANTIC_AI_USAGE), output="x", response=SimpleNamespace(model_name="gpt-5")
    )
    entry = TokenUsage.from_response(run, session_id="s")
    assert (entry.id, entry.model, entry.tokens.prompt) == (None, "gpt-5", 1200)


def test_what_is_given_goes_before_what_is_found() -> None:
    source = UsageSource(type="agent", name="a")
    entry = TokenUsage.from_response(OPENAI_CHAT, session_id="s", id="x", model="m", timestamp=5, source=source)
    assert (entry.id, entry.model, entry.timestamp, entry.source) == ("x", "m", 5, source)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (None, "NoneType"),
        (5, "int"),
        ("text", "str"),
        ([OPENAI_CHAT], "list"),
        ({}, "dict with no fields"),
        ({"tokens": 5, "cost": 1}, "dict with cost, tokens"),
        ({"id": "x", "model": "m", "usage": None}, "usage is None"),
        ({"id": "x", "model": "m", "usage": {"seconds": 5}}, "dict with seconds"),
        ({"type": "message_start", "message": ANTHROPIC_MESSAGE}, "dict with message, type"),
        (SimpleNamespace(words=5), "SimpleNamespace with words"),
        ({"model": "m", "usage": {"prompt_tokens": "12"}}, "'12'"),
        ({"model": "m", "usage": {"prompt_tokens": -1}}, "-1"),
        ({"model": "m", "usage": {"prompt_tokens": True}}, "True"),
        ({"usage": {"prompt_tokens": 1}}, "model"),
        ({"generations": [[{"text": "Hi"}]], "llm_output": None}, "generations"),
        (TokenUsage(session_id="s", model="m", tokens=TokenCounts()), "TokenUsage"),
    ],
    ids=repr,
)
def test_an_unknown_shape_is_refused_with_what_was_found(response: object, said: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        TokenUsage.from_response(response, session_id="s")
    assert said in str(caught.value)
    assert caught.value.hint


class FakeUsage(msgspec.Struct):
    """A provider's object in place of TokenCounts."""

    prompt_tokens: int = 5


RAW: list[Any] = [
    {"kind": "tokens", "sessionId": "s", "model": "m", "tokens": OPENAI_CHAT["usage"]},
    {"kind": "tokens", "sessionId": "s", "model": "m", "tokens": OPENAI_RESPONSE["usage"]},
    {"kind": "tokens", "sessionId": "s", "model": "m", "tokens": ANTHROPIC_MESSAGE["usage"]},
    {"kind": "tokens", "sessionId": "s", "model": "m", "tokens": GEMINI_REST["usageMetadata"]},
    {"kind": "tokens", "sessionId": "s", "model": "m", "tokens": {"prompt": 12, "cache_read_input_tokens": 5000}},
    TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1, extra={"inputTokens": 5})),
    TokenUsage(session_id="s", model="m", tokens=FakeUsage()),  # type: ignore[arg-type]
    TokenUsage(session_id="s", model="m", tokens=as_object(PYDANTIC_AI_USAGE)),
    TokenUsage(session_id="s", model="m", tokens=ANTHROPIC_MESSAGE["usage"]),  # type: ignore[arg-type]
    UnknownUsage({"kind": "tokens", "sessionId": "s", "model": "m", "tokens": OPENAI_CHAT["usage"]}),
    OPENAI_CHAT,
    as_object(OPENAI_CHAT),
    ANTHROPIC_MESSAGE,
]


@pytest.mark.parametrize("entry", RAW, ids=lambda entry: type(entry).__name__)
def test_counts_by_other_names_are_never_taken_for_none(entry: UsageEntry | dict[str, Any]) -> None:
    with pytest.raises(MalformedEntryError) as caught:
        encode_entry(entry, now_ms())
    assert "from_response" in caught.value.hint


def test_what_is_no_count_is_kept_beside_the_counts() -> None:
    tokens = {"prompt": 1, "audio": 5, "service_tier": "default"}
    wire = encode_entry({"kind": "tokens", "sessionId": "s", "model": "m", "tokens": tokens}, now_ms()).wire
    assert msgspec.json.decode(wire)["tokens"] == tokens
    assert not FOREIGN_COUNTS & set(TokenCounts.__struct_fields__)
