"""What the Redis provider of Agent Framework does where HelixHistoryProvider does not."""

from __future__ import annotations

import pytest

pytest.importorskip("agent_framework_redis")

from agent_framework import Message
from agent_framework_redis import RedisHistoryProvider
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from helix_fast import connect
from helix_fast.integrations.agent_framework import HelixHistoryProvider
from tests.support.proxy import FaultProxy


@pytest.mark.faults
async def test_a_lost_reply_doubles_a_message_in_their_provider_and_not_in_ours(fault_proxy: FaultProxy) -> None:
    retry = Retry(NoBackoff(), 3)  # as it is by default over TCP
    client = Redis.from_url(fault_proxy.url, decode_responses=True, retry=retry)
    found = []
    async with client, connect(fault_proxy.url) as helix:
        theirs = RedisHistoryProvider(redis_client=client, application_id="app")
        for provider in (theirs, HelixHistoryProvider(helix)):
            await provider.get_messages("s")
            before = fault_proxy.reply_bytes
            await provider.get_messages("s")  # as it does before it appends
            fault_proxy.cut_after_reply_bytes(fault_proxy.reply_bytes - before + 1)
            await provider.save_messages("s", [Message("user", ["Hello"], message_id="1")])
            fault_proxy.heal()
            found.append([message.text for message in await provider.get_messages("s")])
    assert found == [["Hello", "Hello"], ["Hello"]]
