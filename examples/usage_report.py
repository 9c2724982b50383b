"""A report of what sessions used: tokens by model, tools, sub-agents.

pip install 'helix-fast[embedded]'
python usage_report.py --sample                     # with sample entries, on a private server
HELIX_URL=redis://... python usage_report.py        # every session that has usage
HELIX_URL=redis://... python usage_report.py s-1    # this one, with all sub-agents below it
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from helix_fast import (
    Helix,
    SubAgentUsage,
    TokenCounts,
    TokenUsage,
    ToolUsage,
    UsageEntry,
    UsageRollup,
    connect,
)


def sample() -> list[list[UsageEntry]]:
    """A run that has started a sub-agent. Each has its own usage; the run's entry only links the two."""
    return [
        [
            TokenUsage(
                id="t-1",
                session_id="trip",
                model="large",
                tokens=TokenCounts(prompt=1200, completion=300, reasoning=100, cached=800),
            ),
            TokenUsage(id="t-2", session_id="trip", model="small", tokens=TokenCounts(prompt=90, completion=10)),
            ToolUsage(
                id="t-3", session_id="trip", tool_name="search", tool_call_id="c-1", duration_ms=120, success=True
            ),
            ToolUsage(
                id="t-4", session_id="trip", tool_name="search", tool_call_id="c-2", duration_ms=80, success=False
            ),
            SubAgentUsage(id="t-5", session_id="trip", sub_session_id="trip-hotels", agent_type="hotels"),
        ],
        [
            TokenUsage(
                id="h-1", session_id="trip-hotels", model="large", tokens=TokenCounts(prompt=500, completion=50)
            ),
        ],
    ]


async def all_sessions(helix: Helix) -> AsyncIterator[str]:
    """Every session that has usage, a page at a time."""
    cursor: str | None = None
    while True:
        page = await helix.usage.find_session_ids(limit=1000, cursor=cursor)
        for session_id in page:
            yield session_id
        cursor = page.cursor
        if cursor is None:
            return


def lines_of(session_id: str, rollup: UsageRollup) -> list[str]:
    """The report of one session."""
    lines = [f"{session_id}: {rollup.tokens.total:,} tokens, {rollup.entry_count} entries"]
    lines += [
        f"  {model:<8} {totals.total:>8,}  (prompt {totals.prompt:,}, completion {totals.completion:,})"
        for model, totals in sorted(rollup.by_model.items())
    ]
    tools = rollup.tool_stats
    if tools.total_calls:
        lines.append(f"  tools: {tools.total_calls} calls, {tools.failures} failed, {tools.total_duration_ms:g} ms")
    lines += [f"  of that, {name}: {part.tokens.total:,}" for name, part in sorted((rollup.by_session or {}).items())]
    return lines


async def main(arguments: list[str]) -> None:
    async with connect(os.environ.get("HELIX_URL", "embedded://")) as helix:
        if "--sample" in arguments:
            for entries in sample():
                # The ids make it safe to repeat: an entry counts once.
                await helix.usage.record_entries(entries)
        named = [word for word in arguments if not word.startswith("-")]
        if named:
            for session_id in named:
                rollup = await helix.usage.get_rollup(session_id, include_sub_agents=True)
                print("\n".join(lines_of(session_id, rollup)) if rollup else f"{session_id}: no usage")
            return
        total = 0
        # Each session's own usage: including sub-agents would count theirs twice.
        for session_id in sorted([each async for each in all_sessions(helix)]):
            own = await helix.usage.get_rollup(session_id)
            if own is not None:
                print("\n".join(lines_of(session_id, own)))
                total += own.tokens.total
        print(f"all: {total:,} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
