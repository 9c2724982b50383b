"""HelixSession: the lists of the SDK's own session tests, and what its Redis session does not do."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

pytest.importorskip("agents")

from agents import Agent, RunConfig, RunContextWrapper, Runner, function_tool
from agents.extensions.memory import RedisSession
from agents.memory import Session, SessionSettings, SQLiteSession
from agents.memory.session import _session_accepts_wrapper
from agents.testing import ScriptedModel
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from helix_fast import Helix, InvalidArgumentError, InvalidIdError, StaleFencingTokenError, StoreClosedError, connect
from helix_fast.integrations.openai_agents import HelixSession
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def said(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(text=text, type="output_text", annotations=[])
    return ResponseOutputMessage(id="1", type="message", role="assistant", content=[part], status="completed")


@pytest.fixture
async def session(helix: Helix) -> HelixSession:
    return HelixSession("s", helix)


# --- the protocol


async def test_it_is_a_session_that_takes_the_run_context(session: HelixSession) -> None:
    assert isinstance(session, Session)
    assert _session_accepts_wrapper(session)
    wrapper = RunContextWrapper(context=None)
    await session.add_items([user("1")], wrapper=wrapper)
    assert await session.get_items(wrapper=wrapper) == [user("1")]
    assert await session.pop_item(wrapper=wrapper) == user("1")
    await session.clear_session(wrapper=wrapper)


async def test_items_come_back_as_they_were_in_order(session: HelixSession) -> None:
    items: list[Any] = [
        user("Löök \U0001f600 \"quoted\" 'single' \\ \x00 {braces}"),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": None},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAA" * 1000},
        {"role": "assistant", "content": [], "n": 2**53 - 1, "f": 0.1, "t": True, "z": {}},
        {"type": "thinking", "thinking": "kept", "reasoning": "kept"},
    ]
    await session.add_items(items[:2])
    await session.add_items(items[2:])
    assert await session.get_items() == items


async def test_options_of_a_connection_are_refused_beside_an_open_one(helix: Helix) -> None:
    with pytest.raises(InvalidArgumentError, match="key_prefix: the connection is that of the Helix"):
        HelixSession("s", helix, key_prefix="other:")


async def test_an_unknown_session_is_empty(session: HelixSession) -> None:
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    assert await session.get_items() == []


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, [0, 1, 2, 3]), (2, [2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3]), (0, []), (-1, [])]
)
async def test_limit_takes_the_newest(session: HelixSession, limit: int | None, expected: list[int]) -> None:
    await session.add_items([user(str(n)) for n in range(4)])
    assert await session.get_items(limit) == [user(str(n)) for n in expected]
    session.session_settings = SessionSettings(limit=limit)
    assert await session.get_items() == [user(str(n)) for n in expected]
    assert await session.get_items(1) == [user("3")]


async def test_pop_takes_the_newest_until_none_is_left(session: HelixSession) -> None:
    await session.add_items([user("1"), user("2")])
    assert await session.pop_item() == user("2")
    assert await session.pop_item() == user("1")
    assert await session.pop_item() is None
    await session.add_items([user("3")])
    assert await session.get_items() == [user("3")]


async def test_clear_leaves_an_empty_session(session: HelixSession) -> None:
    await session.add_items([user("1")])
    await session.clear_session()
    assert await session.get_items() == []
    await session.add_items([user("2")])
    assert await session.get_items() == [user("2")]


async def test_sessions_are_apart_and_their_ids_cannot_overlap(server_url: str) -> None:
    """The SDK's Redis session has `a` and `a:messages` share a key."""
    async with Redis.from_url(server_url) as client, connect(server_url) as helix:
        for make in (lambda name: RedisSession(name, redis_client=client), lambda name: HelixSession(name, helix)):
            one, two = make("a"), make("a:messages")
            await one.add_items([user("1")])
            if isinstance(one, RedisSession):
                with pytest.raises(ResponseError, match="WRONGTYPE"):
                    await two.add_items([user("2")])
            else:
                await two.add_items([user("2")])
                await one.clear_session()
                assert await two.get_items() == [user("2")]
        with pytest.raises(InvalidIdError):
            HelixSession("", helix)


async def test_concurrent_pops_take_each_item_once(helix: Helix) -> None:
    await HelixSession("s", helix).add_items([user(str(n)) for n in range(20)])
    popped = await asyncio.gather(*(HelixSession("s", helix).pop_item() for _ in range(25)))
    assert sorted(item["content"] for item in popped if item) == sorted(str(n) for n in range(20))
    assert popped.count(None) == 5


async def test_concurrent_adds_lose_nothing(helix: Helix) -> None:
    sessions = [HelixSession("s", helix) for _ in range(10)]
    await asyncio.gather(*(session.add_items([user(f"{n}a"), user(f"{n}b")]) for n, session in enumerate(sessions)))
    items = [item["content"] for item in await sessions[0].get_items()]
    assert sorted(items) == sorted(f"{n}{letter}" for n in range(10) for letter in "ab")
    assert all(items[at + 1] == items[at][0] + "b" for at in range(0, 20, 2))


@pytest.mark.parametrize("seed", range(2))
async def test_random_histories_are_those_of_their_sqlite_session(session: HelixSession, seed: int) -> None:
    theirs, choice = SQLiteSession("s"), random.Random(seed)
    for step in range(60):
        act = choice.choice(["add", "add", "pop", "clear", "get", "get"]) if step % 20 else "add"
        if act == "add":
            items = [user(f"{step}.{n}") for n in range(choice.randint(0, 3))]
            assert await session.add_items(items) == await theirs.add_items(items)
        elif act == "pop":
            assert await session.pop_item() == await theirs.pop_item()
        elif act == "clear" and choice.random() < 0.3:
            await session.clear_session()
            await theirs.clear_session()
        limit = choice.choice([None, 1, 2, 5])
        assert await session.get_items(limit) == await theirs.get_items(limit)
    theirs.close()


async def test_a_long_history_is_read_in_pages(session: HelixSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_fast.integrations.openai_agents._PAGE", 3)
    items = [user(str(n)) for n in range(10)]
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(7) == items[3:]


# --- runs


async def test_an_agent_remembers_what_was_said(session: HelixSession) -> None:
    model = ScriptedModel([[said("Hi")], [said("You are Bob")]])
    agent = Agent("a", model=model)
    await Runner.run(agent, "I am Bob", session=session)
    result = await Runner.run(agent, "Who am I?", session=session)
    assert result.final_output == "You are Bob"
    last = model.last_call
    assert last is not None
    texts = [item["content"] for item in last.input if isinstance(item, dict) and item.get("role") == "user"]
    assert texts == ["I am Bob", "Who am I?"]
    assert len(await session.get_items()) == 4


async def test_a_run_with_tools_streams_and_keeps_all_items(session: HelixSession) -> None:
    @function_tool
    def weather(city: str) -> str:
        return f"fine in {city}"

    call = ResponseFunctionToolCall(
        id="1", call_id="c1", type="function_call", name="weather", arguments='{"city": "Oslo"}'
    )
    agent = Agent("a", model=ScriptedModel([[call], [said("It is fine")]]), tools=[weather])
    result = Runner.run_streamed(agent, "How is it in Oslo?", session=session)
    async for _event in result.stream_events():
        pass
    assert [item.get("type", "message") for item in await session.get_items()] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_settings_of_a_run_limit_what_the_model_sees(session: HelixSession) -> None:
    await session.add_items([user(str(n)) for n in range(10)])
    model = ScriptedModel([[said("ok")]])
    config = RunConfig(session_settings=SessionSettings(limit=2))
    await Runner.run(Agent("a", model=model), "new", session=session, run_config=config)
    last = model.last_call
    assert last is not None
    assert [item["content"] for item in last.input if isinstance(item, dict)] == ["8", "9", "new"]


# --- compaction: a suffix is replaced in one step, or not at all


async def test_a_suffix_is_replaced_unless_the_history_has_changed(session: HelixSession) -> None:
    await session.add_items([user(str(n)) for n in range(5)])
    snapshot = await session._get_compaction_snapshot(3)
    assert (snapshot.items, snapshot.complete) == ([user("2"), user("3"), user("4")], False)
    assert await snapshot.replace_suffix(1, [user("summary")])
    assert await session.get_items() == [user("0"), user("1"), user("2"), user("summary")]
    assert not await snapshot.replace_suffix(1, [user("again")])
    snapshot = await session._get_compaction_snapshot(10)
    assert snapshot.complete
    await session.add_items([user("new")])
    assert not await snapshot.replace_suffix(0, [])
    assert len(await session.get_items()) == 5


async def test_all_items_are_replaced_in_one_step(session: HelixSession) -> None:
    assert await session._atomic_replace_items([user("a")])
    await session.add_items([user("b")])
    assert await session._atomic_replace_items([user("c"), user("d")])
    assert await session.get_items() == [user("c"), user("d")]


# --- faults, fencing, connections


@pytest.mark.faults
@pytest.mark.parametrize("operation", ["add", "pop", "clear", "replace"])
async def test_a_change_whose_reply_is_lost_is_made_once(
    fault_proxy: FaultProxy, server_url: str, operation: str
) -> None:
    async with connect(fault_proxy.url) as helix, connect(server_url) as direct:
        session, other = HelixSession("s", helix), HelixSession("s", direct)
        await session.add_items([user("1"), user("2")])
        snapshot = await session._get_compaction_snapshot(9)
        fault_proxy.cut_after_reply_bytes(0)
        if operation == "add":
            await session.add_items([user("3")])
            expected = [user("1"), user("2"), user("3")]
        elif operation == "pop":
            assert await session.pop_item() == user("2")
            expected = [user("1")]
        elif operation == "clear":
            await session.clear_session()
            expected = []
        else:
            assert await snapshot.replace_suffix(1, [user("x")])
            expected = [user("1"), user("x")]
        assert await other.get_items() == expected


@pytest.mark.faults
async def test_a_lost_reply_costs_their_redis_session_an_item_and_ours_none(
    fault_proxy: FaultProxy, server_url: str
) -> None:
    retry = Retry(NoBackoff(), 3)  # as it is by default over TCP
    async with Redis.from_url(fault_proxy.url, retry=retry) as client, connect(fault_proxy.url) as helix:
        theirs, ours = RedisSession("s", redis_client=client), HelixSession("s", helix)
        found = []
        for session in (theirs, ours):
            await session.add_items([user("1"), user("2"), user("3")])
            fault_proxy.cut_after_reply_bytes(0)
            found.append((await session.pop_item(), await session.get_items()))
        assert found == [(user("2"), [user("1")]), (user("3"), [user("1"), user("2")])]


async def test_a_cancelled_change_is_made_before_the_cancellation_arrives(
    fault_proxy: FaultProxy, server_url: str
) -> None:
    async with connect(fault_proxy.url) as helix:
        session = HelixSession("s", helix)
        await session.add_items([user("1")])
        fault_proxy.stall()
        adding = asyncio.ensure_future(session.add_items([user("2")]))
        await asyncio.sleep(0)
        adding.cancel()
        await asyncio.sleep(0)
        adding.cancel()
        assert not adding.done()
        fault_proxy.resume()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert await session.get_items() == [user("1"), user("2")]


async def test_a_worker_that_lost_its_lock_changes_nothing(helix: Helix) -> None:
    async with helix.locks.hold("s") as old:
        stale = HelixSession("s", helix, fencing_token=old.fencing_token)
        await stale.add_items([user("1")])
    async with helix.locks.hold("s") as new:
        await HelixSession("s", helix, fencing_token=new.fencing_token).add_items([user("2")])
        for change in (stale.add_items([user("3")]), stale.pop_item(), stale.clear_session()):
            with pytest.raises(StaleFencingTokenError):
                await change
    assert await HelixSession("s", helix).get_items() == [user("1"), user("2")]


async def test_on_a_cluster_theirs_refuses_and_ours_does_not(cluster_url: str) -> None:
    client = RedisCluster.from_url(cluster_url.replace("redis+cluster", "redis"))
    theirs = RedisSession("s", redis_client=client)
    with pytest.raises(TypeError, match="RedisCluster"):
        await theirs.add_items([user("1")])
    await client.aclose()
    ours = HelixSession.from_url("s", url=cluster_url)
    await ours.add_items([user("1")])
    assert await ours.pop_item() == user("1")
    await ours.close()


async def test_from_url_opens_at_first_use_and_is_over_when_closed(server_url: str) -> None:
    session = HelixSession.from_url("s", url=server_url, ttl=1000, key_prefix="mine:")
    first, second = await asyncio.gather(session.get_items(), session.get_items())
    assert first == second == []
    await session.add_items([user("1")])
    assert await session.ping()
    await session.close()
    await session.close()
    for call in (session.get_items(), session.add_items([user("2")]), session.pop_item(), session.ping()):
        with pytest.raises(StoreClosedError):
            await call
    async with connect(server_url, key_prefix="mine:") as helix:
        assert await HelixSession("s", helix).get_items() == [user("1")]
        assert 0 < await helix.state._requests.command("s", "TTL", "mine:session:{s}") <= 1000
        given = HelixSession("s", helix)
        await given.close()
        assert await helix.state.session_exists("s")


async def test_ping_says_when_the_server_is_away(fault_proxy: FaultProxy, server_url: str) -> None:
    async with connect(fault_proxy.url, retry_timeout=0) as helix:
        session = HelixSession("s", helix)
        assert await session.ping()
        fault_proxy.refuse()
        fault_proxy.cut_all()

        async def gone() -> bool:
            return not await session.ping()

        await eventually(gone)
