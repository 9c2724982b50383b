"""Token counts in the responses of model providers and agent frameworks, recognised by shape; none of them is imported.

| shape | prompt | completion | reasoning | cached |
|---|---|---|---|---|
| OpenAI chat, LiteLLM | prompt_tokens | completion_tokens | completion_tokens_details | prompt_tokens_details |
| OpenAI Responses, Agents | input_tokens | output_tokens | output_tokens_details | input_tokens_details |
| Anthropic | input_ and both cache_…_input_tokens | output_tokens | output_tokens_details | cache_read_input_tokens |
| Gemini | promptTokenCount, toolUse… | candidatesTokenCount, thoughts… | thoughts… | cachedContentTokenCount |
| LangChain | input_tokens | output_tokens | output_token_details | input_token_details |
| pydantic-ai | input_tokens | output_tokens | output_reasoning_tokens or details | cache_read_tokens |

Only Anthropic counts cached tokens beside those that it read anew, and only Gemini counts thoughts beside the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from helix_fast.errors import InvalidArgumentError

_HINT: Final = "give the provider's response or its usage; in a stream, that of its last event"
# Where a response, an event or a run keeps its usage, and what is wrapped around a response.
_USAGE: Final = ("usage", "usage_metadata", "usageMetadata")
_WRAPPERS: Final = ("standard_logging_object", "response", "result")
_MODEL: Final = ("model", "model_name", "modelVersion", "model_version")
_ID: Final = ("provider_response_id", "response_id", "responseId", "id")
# The counts by the names that providers use. A usage has at least one of them.
_PROMPT: Final = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
_COMPLETION: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")
_TOTAL: Final = ("total_tokens", "totalTokenCount", "total_token_count")
_THOUGHTS: Final = ("thoughtsTokenCount", "thoughts_token_count")
_TOOL_USE: Final = ("toolUsePromptTokenCount", "tool_use_prompt_token_count")
_GEMINI_CACHED: Final = ("cachedContentTokenCount", "cached_content_token_count")
_ANTHROPIC_CACHE: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")
_PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details", "details")
_CACHED: Final = ("cached_tokens", "cache_read")
_REASONING: Final = ("reasoning_tokens", "reasoning", "thinking_tokens")
FOREIGN_COUNTS: Final = frozenset(
    (*_PROMPT, *_COMPLETION, *_TOTAL, *_THOUGHTS, *_TOOL_USE, *_GEMINI_CACHED, *_ANTHROPIC_CACHE, "cache_read_tokens",
     "inputTokens", "outputTokens", "totalTokens", "promptTokens", "completionTokens", "cachedInputTokens",
     "reasoningTokens", "cacheReadInputTokens", "request_tokens", "response_tokens", "cached_tokens",
     "reasoning_tokens")
)  # fmt: skip
"""Names of token counts that are not ours: an entry with one of them would count nothing for it."""


class Response(NamedTuple):
    """What a response says."""

    id: str | None
    model: str | None
    counts: dict[str, int]
    """By the names of TokenCounts."""


def read_response(given: object) -> Response:
    """The usage in an object or dict of any of these shapes.

    Raises:
        InvalidArgumentError: none of them; names what was found.
    """
    generations = _field(given, "generations")
    if generations:
        return _language_model_result(given, generations)
    for name in _WRAPPERS:
        inner = _field(given, name)
        if inner is not None and not isinstance(inner, str) and not _has_usage(given) and _has_usage(inner):
            return read_response(inner)
    usage = _usage_of(given)
    about = _field(given, "response_metadata")
    identity = _text(about, ("id",)) or _text(given, _ID)
    model = _text(given, _MODEL) or _text(about, _MODEL) or _text(_field(given, "response"), _MODEL)
    return Response(identity, model, _counts(usage, given))


def _language_model_result(result: object, generations: Any) -> Response:
    """LangChain's LLMResult: what the first generation of each prompt says, else what the provider says of all."""
    found = []
    for generation in generations:
        first = generation[0] if isinstance(generation, (list, tuple)) and generation else generation
        message = _field(first, "message")
        if message is not None and _has_usage(message):
            found.append(read_response(message))
    about = _field(result, "llm_output")
    if not found:
        usage = _field(about, "token_usage", "usage")
        if usage is None:
            raise _unknown(result, "its generations and its llm_output name no usage")
        return Response(_text(about, _ID), _text(about, _MODEL), _counts(usage, result))
    counts: dict[str, int] = {}
    for response in found:
        for name, count in response.counts.items():
            counts[name] = counts.get(name, 0) + count
    if not all("total" in response.counts for response in found):
        counts.pop("total", None)
    return Response(found[0].id, found[0].model or _text(about, _MODEL), counts)


def _has_usage(given: object) -> bool:
    return _field(given, *_USAGE, *_PROMPT, *_COMPLETION, *_TOTAL) is not None


def _usage_of(given: object) -> object:
    """The usage itself: a field of the response, the result of a method (a run of pydantic-ai), or the response."""
    for name in _USAGE:
        usage = _field(given, name)
        if callable(usage):
            usage = usage()
        if usage is not None:
            return usage
    usage = _field(_field(given, "response_metadata"), "token_usage", "usage")
    if usage is not None:
        return usage
    if any(_holds(given, name) for name in _USAGE):
        raise _unknown(given, "its usage is None: a stream has it in its last chunk, if it was asked for")
    return given


def _counts(usage: object, given: object) -> dict[str, int]:
    prompt, completion = _count(usage, _PROMPT), _count(usage, _COMPLETION)
    total, thoughts = _count(usage, _TOTAL), _count(usage, _THOUGHTS)
    if prompt is None and completion is None and total is None:
        raise _unknown(usage, "" if usage is given else f"the usage of a {type(given).__name__}")
    inner = _field(_field(given, "response"), "usage")  # LiteLLM's record of a call has the details there
    cached = _count(_details(_PROMPT_DETAILS, usage, inner), _CACHED)
    if _field(usage, "input_tokens") is not None and any(_holds(usage, name) for name in _ANTHROPIC_CACHE):
        cached = _count(usage, ("cache_read_input_tokens",))
        prompt = (prompt or 0) + (cached or 0) + (_count(usage, ("cache_creation_input_tokens",)) or 0)
    elif cached is None:
        cached = _count(usage, ("cache_read_tokens", "cache_read_input_tokens", *_GEMINI_CACHED))
    reasoning = _count(usage, ("output_reasoning_tokens",))
    if reasoning is None:
        reasoning = _count(_details(_COMPLETION_DETAILS, usage, inner), _REASONING)
    if thoughts is not None:
        reasoning, completion = thoughts, (completion or 0) + thoughts
    tool_use = _count(usage, _TOOL_USE)
    if tool_use is not None:
        prompt = (prompt or 0) + tool_use
    found = {"prompt": prompt, "completion": completion, "reasoning": reasoning, "cached": cached, "total": total}
    return {name: count for name, count in found.items() if count is not None}


def _details(names: Iterable[str], *places: object) -> object:
    return next((details for place in places if (details := _field(place, *names)) is not None), None)


def _field(given: object, *names: str) -> Any:
    """The first of these fields of a dict or object that is there and not None."""
    for name in names:
        value = given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
        if value is not None:
            return value
    return None


def _holds(given: object, name: str) -> bool:
    return name in given if isinstance(given, Mapping) else hasattr(given, name)


def _count(given: object, names: Iterable[str]) -> int | None:
    value = _field(given, *names)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgumentError(f"a count of tokens must be a whole number from 0, not {value!r}", hint=_HINT)
    return value


def _text(given: object, names: Iterable[str]) -> str | None:
    value = _field(given, *names)
    return value if isinstance(value, str) and value else None


def _unknown(given: object, why: str) -> InvalidArgumentError:
    if isinstance(given, Mapping):
        names = sorted(map(str, given))
    else:
        names = sorted(name for name in getattr(given, "__dict__", {}) if not name.startswith("_"))
    what = f"{type(given).__name__} with {', '.join(names[:12]) or 'no fields'}"
    return InvalidArgumentError(f"no token usage is found in {what}" + (f": {why}" if why else ""), hint=_HINT)
