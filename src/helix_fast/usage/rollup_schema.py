"""UsageRollup and its parts: structs made from the sums of the codec's Rollup. No I/O."""

from __future__ import annotations

import math
from typing import Any, Union

import msgspec

Number = Union[int, float]  # noqa: UP007


class TokenTotals(msgspec.Struct, rename="camel", kw_only=True):
    """Sums of token counts.

    ``completion``, ``reasoning`` and ``cached`` are sums of what was reported. ``prompt`` is that too, and includes
    cached tokens that were reported beside it, so ``cached_in_prompt`` is all of ``cached``. Of ``reasoning``,
    ``reasoning_in_completion`` are inside ``completion`` too. :meth:`buckets` has the parts that do not overlap.

    Attributes:
        calls: entries.
        total: the reported totals; of an entry without one prompt + completion, and its reasoning where that is not
            inside completion.
        cost: sum of the costs that were recorded, in the unit of the prices.
        priced_calls: entries with a cost.
    """

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0
    total: int = 0
    reasoning_in_completion: int = 0
    cached_in_prompt: int = 0
    cost: Number = 0
    priced_calls: int = 0

    def buckets(self) -> dict[str, int]:
        """Parts that never overlap and add up to ``total``.

        ``prompt`` (not cached), ``cached`` (read from a cache, of the prompt), ``completion`` (without reasoning),
        ``reasoning``, ``other`` (reported totals beyond all these; negative where a total was reported too small).
        """
        parts = {
            "prompt": self.prompt - self.cached_in_prompt,
            "cached": self.cached_in_prompt,
            "completion": self.completion - self.reasoning_in_completion,
            "reasoning": self.reasoning,
        }
        return {**parts, "other": self.total - sum(parts.values())}


class CallTotals(msgspec.Struct, rename="camel", kw_only=True):
    """Calls of one tool, or runs of one type of sub-agent. Durations in milliseconds; min and max None without any."""

    calls: int = 0
    successes: int = 0
    failures: int = 0
    total_duration_ms: Number = 0
    min_duration_ms: Number | None = None
    max_duration_ms: Number | None = None


class ToolStats(msgspec.Struct, rename="camel", kw_only=True):
    """All tool calls, and by the tool's name."""

    total_calls: int = 0
    successes: int = 0
    failures: int = 0
    total_duration_ms: Number = 0
    by_tool: dict[str, CallTotals] = {}


class SubAgentStats(msgspec.Struct, rename="camel", kw_only=True):
    """All runs of sub-agents, and by agent type. Their own tokens and tools are at their own sessions."""

    total_calls: int = 0
    successes: int = 0
    failures: int = 0
    total_duration_ms: Number = 0
    by_type: dict[str, CallTotals] = {}


class CustomTotals(msgspec.Struct, rename="camel", kw_only=True):
    """Values of one custom type; integers add up exactly, fractions with compensated rounding."""

    count: int = 0
    sum: Number = 0
    min: Number = 0
    max: Number = 0


class UsageRollup(msgspec.Struct, rename="camel", kw_only=True):
    """What the usage of a session, or of a tree of sessions, adds up to.

    Attributes:
        tokens: of all models. by_model: the same by the model's name; the parts add up to the whole.
        custom: by custom type.
        other_kinds: entries of kinds that this version does not know, by kind.
        entry_count: entries of all kinds.
        malformed_count: stored entries that cannot be counted (no JSON, negative counts…); in none of the sums.
        first_timestamp, last_timestamp: Unix milliseconds of the earliest and the latest entry; None without any.
        by_session: with sub-agents, each session's own usage, the root's first; else None.
        missing_sessions: with sub-agents, sessions that are named and have no usage: expired, deleted, not begun.
    """

    session_id: str
    tokens: TokenTotals = msgspec.field(default_factory=TokenTotals)
    by_model: dict[str, TokenTotals] = {}
    tool_stats: ToolStats = msgspec.field(default_factory=ToolStats)
    sub_agent_stats: SubAgentStats = msgspec.field(default_factory=SubAgentStats)
    custom: dict[str, CustomTotals] = {}
    other_kinds: dict[str, int] = {}
    entry_count: int = 0
    malformed_count: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    by_session: dict[str, UsageRollup] | None = None
    missing_sessions: list[str] = []


def _sum(*numbers: Number) -> Number:
    """Exact for integers, rounded once for fractions."""
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    try:
        return math.fsum(numbers)
    except OverflowError:  # an integer that no float can hold, or sums beyond the largest float
        return sum(int(number) if math.isfinite(number) else 0 for number in numbers)


def _number(sums: tuple[Any, ...]) -> tuple[Number, Number | None, Number | None]:
    """Sum, smallest and largest of a group's numbers."""
    whole_sum, low, high, real_count, real_sum, real_rest, real_low, real_high = sums[9:]
    lows = [value for value in (low, real_low) if value is not None]
    highs = [value for value in (high, real_high) if value is not None]
    total = _sum(whole_sum, real_sum, real_rest if math.isfinite(real_rest) else 0) if real_count else whole_sum
    return total, min(lows, default=None), max(highs, default=None)


def _tokens(sums: tuple[Any, ...]) -> TokenTotals:
    calls, prompt, completion, reasoning, cached, total, reasoning_inside, cached_inside = sums[:8]
    return TokenTotals(
        calls=calls,
        prompt=prompt,
        completion=completion,
        reasoning=reasoning,
        cached=cached,
        total=total,
        reasoning_in_completion=reasoning_inside,
        cached_in_prompt=cached_inside,
        cost=_number(sums)[0],
        priced_calls=sums[8] + sums[12],
    )


def _calls(sums: tuple[Any, ...]) -> CallTotals:
    duration, shortest, longest = _number(sums)
    return CallTotals(
        calls=sums[0],
        successes=sums[1],
        failures=sums[2],
        total_duration_ms=duration,
        min_duration_ms=shortest,
        max_duration_ms=longest,
    )


def _custom(sums: tuple[Any, ...]) -> CustomTotals:
    total, low, high = _number(sums)
    return CustomTotals(count=sums[0], sum=total, min=low or 0, max=high or 0)


def _whole(parts: dict[str, CallTotals]) -> dict[str, Any]:
    return {
        "total_calls": sum(part.calls for part in parts.values()),
        "successes": sum(part.successes for part in parts.values()),
        "failures": sum(part.failures for part in parts.values()),
        "total_duration_ms": _sum(*(part.total_duration_ms for part in parts.values())),
    }


def build_rollup(session_id: str, exported: tuple[Any, ...]) -> UsageRollup:
    """The rollup for what ``codec.Rollup.export()`` gave."""
    entry_count, malformed_count, first, last, (tokens, tools, agents, custom, other), _children = exported
    by_model = {name: _tokens(sums) for name, sums in tokens.items()}
    by_tool = {name: _calls(sums) for name, sums in tools.items()}
    by_type = {name: _calls(sums) for name, sums in agents.items()}
    columns: dict[str, Any] = {
        field: _sum(*(getattr(part, field) for part in by_model.values())) for field in TokenTotals.__struct_fields__
    }
    return UsageRollup(
        session_id=session_id,
        tokens=TokenTotals(**columns),
        by_model=by_model,
        tool_stats=ToolStats(**_whole(by_tool), by_tool=by_tool),
        sub_agent_stats=SubAgentStats(**_whole(by_type), by_type=by_type),
        custom={name: _custom(sums) for name, sums in custom.items()},
        other_kinds={name: sums[0] for name, sums in other.items()},
        entry_count=entry_count,
        malformed_count=malformed_count,
        first_timestamp=first,
        last_timestamp=last,
    )
