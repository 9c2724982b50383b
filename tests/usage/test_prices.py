"""Costs of calls, from a table or a function: no token costs twice, and what is not known stays unknown."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import InvalidArgumentError, ModelPrice, TokenTotals, TokenUsage

RESPONSE = {
    "id": "r",
    "model": "gpt-5",
    "usage": {
        "input_tokens": 3_000_000,
        "input_tokens_details": {"cached_tokens": 1_000_000},
        "output_tokens": 2_000_000,
        "output_tokens_details": {"reasoning_tokens": 500_000},
        "total_tokens": 5_000_000,
    },
}


def cost(price: Any, response: Any = RESPONSE) -> Any:
    return TokenUsage.from_response(response, session_id="s", price=price).cost


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"gpt-5": ModelPrice(prompt=1, completion=10)}, 3 + 20),
        ({"gpt-5": ModelPrice(prompt=1, completion=10, cached=0.5)}, 2 + 0.5 + 20),
        ({"gpt-5": {"prompt": 1, "completion": 10, "cached": 0, "reasoning": 2}}, 2 + 15 + 1),
        ({"gpt-5": {"prompt": 0, "completion": 0}}, 0),
        ({"gpt-4": ModelPrice(prompt=1, completion=10)}, None),
        ({}, None),
        (None, None),
        (lambda model, tokens: 0.5 if model == "gpt-5" else None, 0.5),
        (lambda model, tokens: tokens.buckets()["cached"] / 1_000_000, 1),
        (lambda model, tokens: None, None),
    ],
)
def test_cost(price: Any, expected: float | None) -> None:
    assert cost(price) == expected


def test_anthropics_cached_tokens_beside_the_prompt_cost_their_own_price() -> None:
    usage = {"input_tokens": 1_000_000, "cache_read_input_tokens": 4_000_000, "output_tokens": 0}
    price = {"claude": ModelPrice(prompt=3, completion=15, cached=0.25)}
    assert cost(price, {"model": "claude", "usage": usage}) == 3 + 1


def test_a_function_gets_the_model_and_what_it_has_used() -> None:
    seen: list[tuple[str, TokenTotals]] = []
    cost(lambda model, tokens: seen.append((model, tokens)))
    ((model, tokens),) = seen
    assert (model, tokens.prompt, tokens.completion, tokens.total) == ("gpt-5", 3_000_000, 2_000_000, 5_000_000)


@pytest.mark.parametrize(
    "price",
    [
        5,
        "table",
        {"gpt-5": 5},
        {"gpt-5": {"prompt": 1}},
        {"gpt-5": {"input": 1, "output": 2}},
        lambda model, tokens: -1,
        lambda model, tokens: float("nan"),
        lambda model, tokens: "1",
    ],
)
def test_a_wrong_price_is_refused(price: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        cost(price)
