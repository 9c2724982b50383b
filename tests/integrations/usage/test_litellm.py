"""HelixUsageLogger under LiteLLM's own calls, with mocked responses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litellm")

import litellm

from helix_fast import Helix, ModelPrice, TokenUsage
from helix_fast.integrations.litellm import HelixUsageLogger
from helix_fast.testing.waiting import until
from tests.support.eventually import eventually

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def callbacks() -> Iterator[None]:
    """LiteLLM's lists of callbacks, as they were."""
    names = [name for name in vars(litellm) if name.endswith(("callbacks", "_callback"))]
    kept = {name: list(getattr(litellm, name)) for name in names if isinstance(getattr(litellm, name), list)}
    yield
    for name, value in kept.items():
        setattr(litellm, name, value)


async def entries(helix: Helix, session: str, count: int) -> list[TokenUsage]:
    async def recorded() -> bool:
        return await helix.usage.get_entry_count(session) >= count

    await eventually(recorded)
    return [entry for entry in await helix.usage.get_entries(session) if isinstance(entry, TokenUsage)]


async def test_a_call_is_recorded_under_its_responses_id(helix: Helix) -> None:
    litellm.callbacks = [HelixUsageLogger(helix.usage, session_id="s")]
    response = await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi there")
    (entry,) = await entries(helix, "s", 1)
    assert (entry.id, entry.model) == (response.id, "gpt-4o")
    assert entry.tokens.prompt == response.usage.prompt_tokens
    assert entry.tokens.completion == response.usage.completion_tokens
    assert entry.cost is not None
    assert entry.cost > 0  # LiteLLM's own


async def test_a_stream_is_recorded_once_with_its_last_chunk(helix: Helix) -> None:
    litellm.callbacks = [
        HelixUsageLogger(helix.usage, session_id="s", price={"gpt-4o": ModelPrice(prompt=1, completion=1)})
    ]
    stream = await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi there", stream=True)
    async for _chunk in stream:
        pass
    (entry,) = await entries(helix, "s", 1)
    assert entry.tokens.completion
    assert entry.cost == (entry.tokens.prompt + entry.tokens.completion) / 1_000_000  # type: ignore[operator]


async def test_the_call_says_its_session(helix: Helix) -> None:
    litellm.callbacks = [HelixUsageLogger(helix.usage)]
    await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi", metadata={"session_id": "mine"})
    assert len(await entries(helix, "mine", 1)) == 1


async def test_a_synchronous_call_is_recorded_too(helix: Helix) -> None:
    await helix.usage.exists("s")  # the store has its event loop
    litellm.callbacks = [HelixUsageLogger(helix.usage, session_id="s")]
    await asyncio.to_thread(litellm.completion, model="gpt-4o", messages=MESSAGES, mock_response="Hi")
    assert len(await entries(helix, "s", 1)) == 1


async def test_callbacks_that_come_twice_count_once_and_cache_hits_not_at_all(helix: Helix) -> None:
    heard: list[Any] = []

    class Recording(HelixUsageLogger):
        async def async_log_success_event(self, kwargs: Any, *rest: Any, **more: Any) -> None:
            heard.append(dict(kwargs))
            await super().async_log_success_event(kwargs, *rest, **more)

    logger = Recording(helix.usage, session_id="s")
    litellm.callbacks = [logger]
    await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi")
    await entries(helix, "s", 1)
    await logger.async_log_success_event(heard[0], None, None, None)
    cached = {
        **heard[0],
        "standard_logging_object": {**heard[0]["standard_logging_object"], "id": "c", "cache_hit": True},
    }
    await logger.async_log_success_event(cached, None, None, None)
    assert await helix.usage.get_entry_count("s") == 1


async def test_a_response_that_is_heard_of_twice_costs_once_here_and_twice_in_their_budgets(
    helix: Helix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # their budgets are in a file, for one machine
    response = await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi there")
    cost = litellm.completion_cost(response)
    budgets = litellm.BudgetManager(project_name="p")
    budgets.create_budget(total_budget=10, user="u")
    for _ in range(2):
        budgets.update_cost("u", completion_obj=response)
        await helix.usage.record_entry(TokenUsage.from_response(response, session_id="s", price=lambda *_: cost))
    rollup = await helix.usage.get_rollup("s")
    assert rollup is not None
    assert rollup.tokens.cost == cost > 0
    assert budgets.get_current_cost("u") == 2 * cost


async def test_what_cannot_be_recorded_is_reported_and_ends_no_call(helix: Helix) -> None:
    errors: list[Exception] = []
    helix.usage.on("error", errors.append)
    logger = HelixUsageLogger(helix.usage, session_id="no{id}")
    litellm.callbacks = [logger]
    await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="Hi")
    await until(lambda: bool(errors))
