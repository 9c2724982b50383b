"""Costs of model calls. The prices are the caller's; there are none here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Union

import msgspec

from helix_fast import codec
from helix_fast.errors import InvalidArgumentError

from .rollup_schema import Number, TokenTotals, build_rollup


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens of a model cost, in any unit. ``cached`` and ``reasoning``: None as prompt, completion."""

    prompt: float
    completion: float
    cached: float | None = None
    reasoning: float | None = None


Price = Union[  # noqa: UP007  read at run time on Python 3.10
    Mapping[str, Union[ModelPrice, Mapping[str, float]]],  # noqa: UP007
    Callable[[str, TokenTotals], Union[float, None]],  # noqa: UP007
]
"""A table of prices by model, of ModelPrice or dicts of its fields; or a function of model and tokens: the cost."""


def cost_of(price: Price, model: str, counts: Mapping[str, int]) -> Number | None:
    """The cost of a call; None where the price of its model is not known.

    Args:
        counts: by the names of TokenCounts. They are taken apart as in a rollup, so that no token costs twice.

    Raises:
        InvalidArgumentError: neither a table nor a function, a wrong price, or a cost that is no number from 0.
    """
    tokens = _totals(model, counts)
    if callable(price):
        cost: Any = price(model, tokens)
        if cost is None or (isinstance(cost, (int, float)) and math.isfinite(cost) and cost >= 0):
            return cost
        raise InvalidArgumentError(f"a cost must be a number from 0, not {cost!r}")
    if not isinstance(price, Mapping):
        raise InvalidArgumentError(f"price must be a table or a function, not {type(price).__name__}")
    if model not in price:
        return None
    try:
        each = msgspec.convert(price[model], ModelPrice)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"the price of {model!r}: {error}") from error
    parts = tokens.buckets()
    whole = (
        parts["prompt"] * each.prompt
        + parts["cached"] * (each.prompt if each.cached is None else each.cached)
        + parts["completion"] * each.completion
        + parts["reasoning"] * (each.completion if each.reasoning is None else each.reasoning)
    )
    return whole / 1_000_000


def _totals(model: str, counts: Mapping[str, int]) -> TokenTotals:
    rollup = codec.Rollup()
    rollup.add([msgspec.json.encode({"kind": "tokens", "model": model, "tokens": counts})])
    return build_rollup("", rollup.export()).tokens
