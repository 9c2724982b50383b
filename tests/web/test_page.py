"""The live page over HTTP: what it tells, who may ask, and that it writes nothing. What it looks like: test_browser."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from helix_fast import Helix, InvalidArgumentError, connect
from helix_fast.agents import AgentExecutor, FunctionAdapter, Messages
from helix_fast.web.app import live_page
from helix_fast.web.lookups import AT_ONCE, KEPT_SECONDS, Lookups, Row
from tests.support.web import serve


@contextlib.asynccontextmanager
async def page(url: str, **options: Any) -> AsyncIterator[tuple[Helix, httpx.AsyncClient]]:
    async with (
        connect(url) as helix,
        serve(live_page(helix, **options)) as base,
        httpx.AsyncClient(base_url=str(base), verify=False, timeout=30) as client,
    ):
        yield helix, client


async def agent(message: Any, context: Any) -> AsyncIterator[Any]:
    yield "Hello"
    yield {"kind": "tokens", "model": "m-1", "tokens": {"prompt": 3, "completion": 4}}
    if message == "wait":
        await asyncio.Event().wait()
    yield Messages([{"role": "assistant", "content": "Hello"}])


async def test_list_has_live_and_ended_sessions_and_finds_them(server_url: str) -> None:
    async with page(server_url) as (helix, client), AgentExecutor(helix, FunctionAdapter()) as executor:
        await (await executor.execute(agent, "hi", session_id="a-ended")).result()
        handle = await executor.execute(agent, "wait", session_id="b-live")
        while (info := await helix.streams.get_info(handle.stream_id)) is None or not info.last_sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        found = (await client.get("/api/list")).json()
        live, ended = found["rows"]
        assert (live["id"], live["status"], live["live"]) == ("b-live", "running", True)
        assert live["owner"]
        assert live["lockMs"] > 0
        assert (ended["id"], ended["status"], ended.get("live", False), ended["chunks"]) == (
            "a-ended",
            "completed",
            False,
            1,
        )
        assert found["total"] == 2
        for query, ids in (("q=ended", ["a-ended"]), ("status=live", ["b-live"]), ("status=failed", []), ("q=x", [])):
            rows = (await client.get(f"/api/list?{query}")).json()["rows"]
            assert [row["id"] for row in rows] == ids
        await executor.drain(0)


async def test_session_is_told_whole_with_its_usage_and_its_stream(server_url: str) -> None:
    async with page(server_url) as (helix, client), AgentExecutor(helix, FunctionAdapter()) as executor:
        handle = await executor.execute(agent, "hi", session_id="s")
        await handle.result()
        found = (await client.get("/api/session?id=s")).json()
        assert found["state"]["status"] == "completed"
        assert found["stream"]["lastSequence"] == 1
        assert (found["usage"]["tokens"]["total"], found["entries"]) == (7, 1)
        assert (await client.get("/api/usage/session?id=s")).json()["models"] == {"m-1": [7]}
        assert (await client.get("/api/usage")).json()[0]["total"] == 7
        text = (await client.get(f"/api/events?id={handle.stream_id}")).text
        assert '"delta":"Hello"' in text
        assert text.endswith("event: end\ndata: {}\n\n")
        assert (await client.get("/api/session?id=none")).json()["state"] is None
        assert (await client.get("/api/session?id=a{b}")).status_code in {200, 400}
        assert (await client.get("/api/server")).json()["connected_clients"]


async def test_page_writes_nothing_unless_it_may_stop(server_url: str) -> None:
    async with page(server_url) as (_helix, client):
        origin = {"Origin": str(client.base_url)}
        assert (await client.post("/api/stop?id=s", headers=origin)).status_code == 403
        assert (await client.get("/api/settings")).json() == {"allowStop": False, "health": False}
    async with page(server_url, allow_stop=True) as (helix, client):
        origin = {"Origin": str(client.base_url).rstrip("/")}
        assert (await client.post("/api/stop?id=s", headers=origin)).json() == {"stopped": False}
        async with await helix.streams.create_writer("s", "a") as writer:
            assert (await client.post("/api/stop?id=s")).status_code == 403, "another page asks"
            assert (await client.post("/api/stop?id=s", headers={"Origin": "http://evil.example"})).status_code == 403
            assert (await client.post("/api/stop?id=s", headers=origin)).json() == {"stopped": True}
            await asyncio.wait_for(writer.stop_requested.wait(), 30)


async def test_without_a_token_only_this_machine_by_its_own_name(server_url: str) -> None:
    async with page(server_url) as (_helix, client):
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 403
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["content-type"].startswith("text/html")
        for name in ("app.js", "charts.js", "style.css"):
            assert (await client.get(f"/{name}")).status_code == 200
        assert (await client.get("/app.py")).status_code == 404
        assert (await client.get("/..%2Fapp.py")).status_code == 404


async def test_with_a_token_only_who_knows_it(server_url: str) -> None:
    async with page(server_url, token="s3cret") as (_helix, client):
        for path in ("/", "/api/list", "/?token=wrong", "/api/events?id=s"):
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/api/list", headers={"Authorization": "Bearer s3cret"})).status_code == 200
        entered = await client.get("/?token=s3cret")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert (await client.get("/", headers={"Host": "any.example"})).status_code == 200
    async with connect(server_url) as helix:
        with pytest.raises(InvalidArgumentError):
            live_page(helix, token="")


async def test_thousands_of_sessions_are_listed_without_asking_for_all(server_url: str) -> None:
    async with page(server_url) as (helix, client):
        for wave in range(0, 1_200, 200):
            ids = (f"s-{number:05}" for number in range(wave, wave + 200))
            await asyncio.gather(*(helix.state.create_session(name, agent_type="a") for name in ids))
        found = (await client.get("/api/list")).json()
        assert (len(found["rows"]), found["total"]) == (200, 1_200)
        assert found["lookedAt"] == 500, "not all of them are asked for"
        rows = (await client.get("/api/list?q=s-01199")).json()["rows"]
        assert [row["id"] for row in rows] == ["s-01199"]


async def test_live_streams_are_first_among_many_and_a_look_asks_for_few(server_url: str) -> None:
    """What was found out is kept: a list costs a bounded number of requests, however many ids there are."""
    async with connect(server_url) as helix:
        lookups, asked = Lookups(helix), 0
        find = lookups._find

        async def counting(name: str) -> Row | None:
            nonlocal asked
            asked += 1
            return await find(name)

        lookups._find = counting  # type: ignore[method-assign]
        await asyncio.gather(*(helix.resumable.create(f"a-{number:04}") for number in range(1_200)))
        await asyncio.gather(*(helix.streams.end_stream(f"a-{number:04}") for number in range(1_200)))
        async with await helix.streams.create_writer("z-live", "agent") as writer:
            writer.send_text("a")
            await writer.flush()
            found = await lookups.listing("", "", 200)
            assert (found.rows[0].id, found.rows[0].live, found.total) == ("z-live", True, 1_201)
            assert asked <= AT_ONCE
            assert [row.id for row in (await lookups.listing("", "live", 200)).rows] == ["z-live"], "all are known now"
            assert asked <= 1_201
            asked = 0
            for _ in range(3):
                assert [row.id for row in (await lookups.listing("", "live", 200)).rows] == ["z-live"]
            assert asked <= 3 * (AT_ONCE + 200)
        await helix.streams.end_stream("z-live")
        await helix.streams.delete_stream("a-0000")
        lookups._read_at = -KEPT_SECONDS  # as after two seconds
        lookups._asked_at = dict.fromkeys(lookups._asked_at, -KEPT_SECONDS)
        found = await lookups.listing("", "", 2_000)
        assert (found.total, found.looked_at, len(found.rows)) == (1_200, 1_200, 1_200)
        assert not any(row.live or row.id == "a-0000" for row in found.rows)


async def test_next_run_of_a_session_is_seen_at_once(server_url: str) -> None:
    async with connect(server_url) as helix, AgentExecutor(helix, FunctionAdapter()) as executor:
        lookups = Lookups(helix)
        await (await executor.execute(agent, "hi", session_id="s")).result()
        assert [row.status for row in (await lookups.listing("", "", 10)).rows] == ["completed"]
        await executor.execute(agent, "wait", session_id="s")
        lookups._read_at = -KEPT_SECONDS  # as after two seconds, in which the row is not asked for again
        lookups._asked_at = {name: at + 3_600 for name, at in lookups._asked_at.items()}
        assert [row.live for row in (await lookups.listing("", "live", 10)).rows] == [True]
        await executor.drain(0)
