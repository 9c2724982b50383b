"""UsageCallbackHandler under LangChain's own models."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from helix_fast import Helix, TokenUsage
from helix_fast.integrations.langchain import UsageCallbackHandler
from tests.support.eventually import eventually

USAGE: Any = {"input_tokens": 36, "output_tokens": 87, "total_tokens": 123, "input_token_details": {"cache_read": 12}}


def message(response_id: str | None = None, model: str | None = "claude") -> AIMessage:
    about = {"id": response_id, "model_name": model}
    return AIMessage(
        "Hi there",
        response_metadata={name: value for name, value in about.items() if value is not None},
        usage_metadata=USAGE,
    )


async def recorded(helix: Helix, count: int) -> list[TokenUsage]:
    async def there() -> bool:
        return await helix.usage.get_entry_count("s") >= count

    await eventually(there)
    return [entry for entry in await helix.usage.get_entries("s") if isinstance(entry, TokenUsage)]


async def test_a_response_is_recorded_once(helix: Helix) -> None:
    handler = UsageCallbackHandler(
        helix.usage, session_id="s", run_id="r", price={"claude": {"prompt": 1, "completion": 0}}
    )
    model = GenericFakeChatModel(messages=iter([message("msg_1"), message("msg_1"), message("msg_2")]))
    for _ in range(3):
        await model.ainvoke("Hello", config={"callbacks": [handler]})
    entries = await recorded(helix, 2)
    assert [(entry.id, entry.model, entry.run_id, entry.cost) for entry in entries] == [
        ("msg_1", "claude", "r", 36 / 1_000_000),
        ("msg_2", "claude", "r", 36 / 1_000_000),
    ]
    assert (entries[0].tokens.prompt, entries[0].tokens.cached, entries[0].tokens.total) == (36, 12, 123)


async def test_a_response_that_is_heard_of_twice_counts_once_here_and_twice_with_their_handler(helix: Helix) -> None:
    """A retry that a cache or a proxy answers brings the same response again."""
    ours, theirs = UsageCallbackHandler(helix.usage, session_id="s"), UsageMetadataCallbackHandler()
    model = GenericFakeChatModel(messages=iter([message("msg_1"), message("msg_1")]))
    for _ in range(2):
        await model.ainvoke("Hello", config={"callbacks": [ours, theirs]})
    (entry,) = await recorded(helix, 1)
    assert entry.tokens.total == 123
    assert theirs.usage_metadata["claude"]["total_tokens"] == 246


async def test_a_response_without_id_and_model_is_recorded_under_the_run_and_the_called_model(helix: Helix) -> None:
    class Named(GenericFakeChatModel):
        def _get_ls_params(self, *args: Any, **options: Any) -> Any:
            return {"ls_model_name": "called", "ls_model_type": "chat"}

    handler = UsageCallbackHandler(helix.usage, session_id="s")
    model = Named(messages=iter([message(model=None), message(model=None)]))
    for _ in range(2):
        await model.ainvoke("Hello", config={"callbacks": [handler]})
    entries = await recorded(helix, 2)
    assert {entry.model for entry in entries} == {"called"}
    assert handler._models == {}


async def test_a_synchronous_call_on_the_event_loop_is_recorded_and_blocks_nothing(helix: Helix) -> None:
    handler = UsageCallbackHandler(helix.usage, session_id="s")
    await helix.usage.exists("s")  # the store has its event loop
    model = GenericFakeChatModel(messages=iter([message("msg_1"), message("msg_2")]))
    model.invoke("Hello", config={"callbacks": [handler]})
    await asyncio.to_thread(model.invoke, "Hello", {"callbacks": [handler]})
    assert {entry.id for entry in await recorded(helix, 2)} == {"msg_1", "msg_2"}


async def test_a_response_without_usage_is_reported(helix: Helix) -> None:
    errors: list[Exception] = []
    helix.usage.on("error", errors.append)
    model = GenericFakeChatModel(messages=iter([AIMessage("Hi")]))
    await model.ainvoke("Hello", config={"callbacks": [UsageCallbackHandler(helix.usage, session_id="s")]})
    assert "no token usage" in str(errors[0])
