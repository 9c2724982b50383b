"""HelixHistoryProvider: what a run of Agent Framework stores and loads."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Content, Message

from helix_fast import Helix
from helix_fast.integrations.agent_framework import HelixHistoryProvider


def message(role: str, text: str, message_id: str | None = None) -> Message:
    return Message(role, [text], message_id=message_id)


async def texts(provider: HelixHistoryProvider, session: str | None = "s") -> list[str]:
    return [each.text for each in await provider.get_messages(session)]


async def test_messages_come_back_as_they_were(helix: Helix) -> None:
    provider = HelixHistoryProvider(helix)
    messages = [
        Message("user", ["Löök"], message_id="1", author_name="Ann", additional_properties={"n": [1, None]}),
        Message("assistant", [Content.from_function_call("c1", "weather", arguments={"city": "Oslo"})], message_id="2"),
    ]
    await provider.save_messages("s", messages)
    found = await provider.get_messages("s")
    assert [each.to_dict() for each in found] == [each.to_dict() for each in messages]
    assert await provider.get_messages("other") == []
    await provider.save_messages("s", [])


async def test_what_is_stored_already_is_not_stored_again(helix: Helix) -> None:
    provider = HelixHistoryProvider(helix)
    first = [message("user", "1", "a"), message("assistant", "2", "b")]
    await provider.save_messages("s", first)
    await provider.save_messages("s", [*first, message("user", "3", "c")])
    assert await texts(provider) == ["1", "2", "3"]


async def test_runs_at_the_same_time_lose_and_double_nothing(helix: Helix) -> None:
    providers = [HelixHistoryProvider(helix) for _ in range(6)]
    await asyncio.gather(
        *(each.save_messages("s", [message("user", f"{n}", f"{n}")]) for n, each in enumerate(providers))
    )
    assert sorted(await texts(providers[0])) == [str(n) for n in range(6)]


async def test_without_a_session_there_is_one_history(helix: Helix) -> None:
    provider = HelixHistoryProvider(helix)
    await provider.save_messages(None, [message("user", "1")])
    assert await texts(provider, None) == ["1"]
