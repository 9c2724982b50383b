"""HelixSaver beyond LangGraph's suite: round trips, lost replies, expiry, event loops and threads, odd ids."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.base import empty_checkpoint

from helix_fast import InvalidArgumentError, StoreClosedError, connect
from helix_fast.integrations.langgraph import AsyncRedisSaver, HelixSaver, RedisSaver
from helix_fast.integrations.langgraph.threads import Threads
from helix_fast.keys import ThreadKeys, thread_index
from tests.support.backends import Backend
from tests.support.proxy import FaultProxy

Make = Callable[..., Awaitable[HelixSaver]]


def config(thread: Any = "t", checkpoint: str | None = None, space: str = "") -> dict[str, Any]:
    where = {"thread_id": thread, "checkpoint_ns": space}
    return {"configurable": where | ({"checkpoint_id": checkpoint} if checkpoint else {})}


def checkpoint(name: str = "1", versions: dict[str, Any] | None = None, **values: Any) -> Any:
    return {**empty_checkpoint(), "id": name, "channel_values": values, "channel_versions": versions or {}}


async def put(saver: HelixSaver, name: str = "1", thread: Any = "t", parent: str | None = None, **more: Any) -> Any:
    versions = {"a": name, "b": 1}
    stored = checkpoint(name, versions, a=f"a{name}", b="b")
    return await saver.aput(
        config(thread, parent), stored, {"step": 1, **more}, versions if name == "1" else {"a": name}
    )


async def ids(saver: HelixSaver, *args: Any, **options: Any) -> list[str]:
    return [found.checkpoint["id"] async for found in saver.alist(*args, **options)]


async def test_every_operation_on_a_thread_is_one_round_trip(make_saver: Make) -> None:
    saver = await make_saver()
    topology = saver._connection.requests.topology
    await put(saver)
    await put(saver, "2", parent="1")

    async def counted(work: Awaitable[Any]) -> int:
        before = topology.requests
        await work
        return topology.requests - before

    assert await counted(put(saver, "3", parent="2")) == 1
    with contextlib.suppress(Exception):  # the first run of a script loads it
        await saver.aput_writes(config("t", "3"), [("a", 1)], "task")
    assert await counted(saver.aput_writes(config("t", "3"), [("a", 1), ("b", 2)], "task")) == 1
    for where in (config(), config("t", "1")):
        await saver.aget_tuple(where)
        assert await counted(saver.aget_tuple(where)) == 1
    for channels in (["a"], ["a", "nothing"]):
        await saver.aget_delta_channel_history(config=config(), channels=channels)
        assert await counted(saver.aget_delta_channel_history(config=config(), channels=channels)) == 1
    for options in ({}, {"limit": 2}, {"before": config("t", "3")}, {"filter": {"step": 1}}):
        await ids(saver, config(), **options)
        assert await counted(ids(saver, config(), **options)) == 1
    await saver.aprune(["t"])
    await put(saver, "4", parent="3")
    assert await counted(saver.aprune(["t"])) == 1
    await saver.adelete_thread("t")
    await put(saver)
    assert await counted(saver.adelete_thread("t")) == 1


@pytest.mark.faults
@pytest.mark.parametrize("name", ["put", "put_writes", "delete_thread", "prune", "delete_for_runs"])
async def test_an_operation_whose_reply_is_lost_takes_effect_once(
    server_url: str, fault_proxy: FaultProxy, name: str
) -> None:
    """Another client changes the thread before the operation is sent again."""
    async with HelixSaver(server_url) as other, HelixSaver(fault_proxy.url) as saver:
        await put(other, run_id="r")
        await put(other, "2", parent="1", run_id="r")
        await saver.aget_tuple(config())
        operations: dict[str, Callable[[HelixSaver, str], Awaitable[Any]]] = {
            "put": lambda by, thread: put(by, "3", thread, parent="2"),
            "put_writes": lambda by, thread: by.aput_writes(config(thread, "2"), [("__resume__", "mine")], "task"),
            "delete_thread": lambda by, thread: by.adelete_thread(thread),
            "prune": lambda by, thread: by.aprune([thread]),
            "delete_for_runs": lambda by, thread: by.adelete_for_runs(["r" if thread == "t" else "warm"]),
        }
        await put(other, thread="warm", run_id="warm")
        await operations[name](other, "warm")  # the server knows the script now
        threads: Threads = saver._threads
        sent = asyncio.Event()
        change = threads._change

        async def changed(*args: Any, **options: Any) -> bytes:
            sent.set()
            fault_proxy.drop_replies()  # the server does it, and nobody hears of it
            return await change(*args, **options)

        threads._change = changed  # type: ignore[method-assign]
        work = asyncio.ensure_future(operations[name](saver, "t"))
        await sent.wait()

        async def applied() -> Any:
            found = await ids(other, config())
            there = await other.aget_tuple(config())
            return {
                "put": "3" in found,
                "put_writes": bool(there and there.pending_writes),
                "delete_thread": not found,
                "prune": found == ["2"],
                "delete_for_runs": not found,
            }[name]

        while not await applied():  # noqa: ASYNC110  each look is a request
            await asyncio.sleep(0.01)
        if name == "put_writes":
            await other.aput_writes(config("t", "2"), [("__resume__", "theirs")], "task")
        elif name == "put":
            await other.adelete_thread("t")
        else:
            await put(other, run_id="r")
        threads._change = change  # type: ignore[method-assign]
        fault_proxy.cut_all()
        fault_proxy.heal()
        await work
        there = await other.aget_tuple(config())
        if name == "put_writes":
            assert there is not None
            assert there.pending_writes == [("task", "__resume__", "theirs")]
        elif name == "put":
            assert there is None
        else:
            assert "1" in await ids(other, config())


@pytest.mark.faults
@pytest.mark.parametrize("nth", range(4))
async def test_a_copy_whose_replies_are_lost_is_whole(server_url: str, fault_proxy: FaultProxy, nth: int) -> None:
    async with HelixSaver(server_url) as other, HelixSaver(fault_proxy.url) as saver:
        for number in range(20):
            stored = await put(other, str(number))
            await other.aput_writes(stored, [("a", number)], "task")
        await saver.acopy_thread("t", "warm")
        fault_proxy.cut_after_reply_bytes(0 if nth == 0 else 15_000 + 5 * nth)
        await saver.acopy_thread("t", "u")
        mine = [found async for found in other.alist(config("t"))]
        copied = [found async for found in other.alist(config("u"))]
        assert [found[1:3] + found[4:] for found in copied] == [found[1:3] + found[4:] for found in mine]
        assert len(copied) == 20


async def test_threads_are_found_without_looking_at_all_keys_of_the_server(server_url: str) -> None:
    async with HelixSaver(server_url) as saver:
        command = saver._connection.requests.command
        await put(saver)
        await command("", "CONFIG", "RESETSTAT")
        assert await ids(saver, None) == ["1"]
        await saver.adelete_for_runs(["r"])
        used = (await command("", "INFO", "commandstats")).decode()
        assert "cmdstat_evalsha" in used
        assert not {"cmdstat_scan", "cmdstat_keys"} & {line.partition(":")[0] for line in used.splitlines()}


async def test_a_thread_lives_for_its_ttl_from_the_last_write(backend: Backend, make_saver: Make) -> None:
    saver = await make_saver(ttl=1000)
    await put(saver)
    await saver.aput_writes(config("t", "1"), [("a", 1)], "task")
    keys = ThreadKeys(saver._connection.key_prefix, "t")
    requests = saver._connection.requests

    async def left() -> list[int]:
        return [await requests.command(keys.tag, "TTL", key) for key in keys.all[:4]]

    assert all(900 < each <= 1000 for each in await left())
    patient = await make_saver(ttl={"default_ttl": 100, "refresh_on_read": True})
    await patient.aget_tuple(config())
    assert all(5900 < each <= 6000 for each in await left())
    await saver.aget_tuple(config())
    assert all(each > 5900 for each in await left())
    await put(saver, "2")
    assert all(each <= 1000 for each in await left())
    for read in (
        lambda: ids(patient, config()),
        lambda: patient.aget_delta_channel_history(config=config(), channels=["x"]),
    ):
        await put(saver, "2")
        await read()
        assert all(each > 5900 for each in await left())
    await put(await make_saver(), "3")
    assert await left() == [-1] * 4
    assert await ids(patient, None) == ["3", "2", "1"]


async def test_a_thread_that_another_process_deleted_is_listed_again(make_saver: Make) -> None:
    mine, other = await make_saver(), await make_saver()
    await put(mine)
    await other.adelete_thread("t")
    assert await ids(other, None) == []
    await put(mine)
    assert await ids(other, None) == ["1"]
    await mine.adelete_for_runs(["no such run"])
    await put(mine, "2", run_id="r")
    await other.adelete_for_runs(["r"])
    assert await ids(mine, None) == ["1"]


async def test_an_expired_thread_is_not_listed(make_saver: Make) -> None:
    saver = await make_saver()
    await put(saver)
    keys = ThreadKeys(saver._connection.key_prefix, "t")
    for key in keys.all[:4]:
        await saver._connection.requests.command(keys.tag, "DEL", key)
    assert await ids(saver, None) == []
    shards = [thread_index(saver._connection.key_prefix, shard) for shard in range(64)]
    members = [await saver._connection.requests.command(f"{n:02d}", "ZCARD", key) for n, key in enumerate(shards)]
    assert sum(members) == 0


async def test_a_page_ends_early_where_checkpoints_are_large(make_saver: Make) -> None:
    saver = await make_saver()
    for number in range(8):
        value = checkpoint(f"{number}", {"a": number}, a="x" * 400_000)
        await saver.aput(config(), value, {}, {"a": number})
    topology = saver._connection.requests.topology
    before = topology.requests
    assert await ids(saver, config()) == [f"{number}" for number in reversed(range(8))]
    assert 3 <= topology.requests - before <= 4


async def test_ids_that_are_no_text_are_taken_as_text(saver: HelixSaver) -> None:
    stored = await put(saver, thread=42)
    assert stored["configurable"]["thread_id"] == 42
    assert (await saver.aget_tuple(config("42"))) is not None
    surrogate = "\ud800"
    await put(saver, thread=surrogate)
    assert (await saver.aget_tuple(config(surrogate))) is not None
    assert {found.config["configurable"]["thread_id"] async for found in saver.alist(None)} == {"42", surrogate}


async def test_writes_of_a_thousand_tasks_keep_their_order(saver: HelixSaver) -> None:
    await put(saver)
    where = config("t", "1")
    numbers = [f"{number:04d}" for number in range(1000)]
    await asyncio.gather(
        *(saver.aput_writes(where, [("a", n), ("b", n)], f"task-{n[::-1]}", f"~path, {n}") for n in reversed(numbers))
    )
    found = await saver.aget_tuple(where)
    assert found is not None
    assert found.pending_writes is not None
    assert [value for _, channel, value in found.pending_writes if channel == "a"] == numbers


async def test_stored_bytes_of_a_step_do_not_grow_with_the_thread(make_saver: Make) -> None:
    saver = await make_saver()
    keys = ThreadKeys(saver._connection.key_prefix, "t")
    requests = saver._connection.requests

    async def step(number: int) -> None:
        versions = {"a": f"{number:032}", "same": "0"}
        value = checkpoint(f"{number:06}", versions, a="x" * 100, same="y" * 10_000)
        new = versions if number == 1 else {"a": versions["a"]}
        stored = await saver.aput(config("t", f"{number - 1:06}"), value, {"step": 1}, new)
        await saver.aput_writes(stored, [("a", "x" * 100)], "task")

    async def size() -> int:
        hashes = [keys.all[0], *keys.all[2:4]]
        return sum([sum(map(len, await requests.command(keys.tag, "HGETALL", key))) for key in hashes])

    sizes = []
    for number in range(1, 302):
        await step(number)
        if number in {10, 11, 300, 301}:
            sizes.append(await size())
    assert sizes[3] - sizes[2] == sizes[1] - sizes[0] < 2_000


async def test_arguments_that_are_wrong_are_refused(make_saver: Make) -> None:
    saver = await make_saver()
    for work in (saver.aprune("t"), saver.adelete_for_runs("r"), saver.aprune(["t"], strategy="all")):
        with pytest.raises(InvalidArgumentError):
            await work
    with pytest.raises(InvalidArgumentError):
        HelixSaver("redis://localhost", ttl=-1)
    with pytest.raises(InvalidArgumentError, match="passwort"):
        HelixSaver.from_url("redis://localhost", passwort="x")


async def test_a_saver_that_is_not_open_says_so(server_url: str) -> None:
    saver = HelixSaver.from_url(server_url)
    with pytest.raises(StoreClosedError, match="not open"):
        await saver.aget_tuple(config())
    with pytest.raises(StoreClosedError, match="not open"):
        await HelixSaver(connect(server_url)).aget_tuple(config())
    await saver.asetup()
    await saver.asetup()
    assert await saver.aget_tuple(config()) is None
    await saver.aclose()
    await saver.aclose()


async def test_a_shallow_copy_shares_the_connection(make_saver: Make) -> None:
    saver = await make_saver()
    await put(saver)
    clone = copy.copy(saver)
    assert (await clone.aget_tuple(config())) == (await saver.aget_tuple(config()))
    assert (await saver.with_allowlist({("a", "B")}).aget_tuple(config())) is not None


# blocking


def test_blocking_methods_do_as_the_others(server_url: str) -> None:
    assert RedisSaver is AsyncRedisSaver is HelixSaver
    with RedisSaver.from_conn_string(server_url) as saver:
        saver.setup()
        versions = {"a": 1}
        stored = saver.put(config(), checkpoint("1", versions, a=1), {"run_id": "r"}, versions)
        saver.put_writes(stored, [("a", 2)], "task", "path")
        found = saver.get_tuple(config())
        assert found is not None
        assert found.pending_writes == [("task", "a", 2)]
        assert found.checkpoint["channel_values"] == {"a": 1}
        assert saver.get(config()) == found.checkpoint
        saver.put(config("t", "1"), checkpoint("2", versions), {"run_id": "s"}, {})
        assert [each.checkpoint["id"] for each in saver.list(config())] == ["2", "1"]
        assert next(saver.list(None, limit=1)).checkpoint["id"] == "2"
        history = saver.get_delta_channel_history(config=config(), channels=["a", "b"])
        assert history == {"a": {"writes": [("task", "a", 2)], "seed": 1}, "b": {"writes": []}}
        saver.copy_thread("t", "u")
        saver.delete_for_runs(["s"])
        assert [each.checkpoint["id"] for each in saver.list(config())] == ["1"]
        saver.prune(["u"])
        assert [each.checkpoint["id"] for each in saver.list(config("u"))] == ["1"]
        saver.delete_thread("u")
        assert saver.get_tuple(config("u")) is None


def test_a_list_of_many_is_read_in_portions_and_can_be_left(server_url: str) -> None:
    with HelixSaver(server_url) as saver:
        for number in range(130):
            saver.put(config(), checkpoint(f"{number:03}"), {}, {})
        assert [each.checkpoint["id"] for each in saver.list(config())] == [f"{n:03}" for n in reversed(range(130))]
        rows = saver.list(config())
        assert next(rows).checkpoint["id"] == "129"
        del rows


async def test_blocking_methods_work_in_other_threads_and_say_why_not_in_this_one(make_saver: Make) -> None:
    saver = await make_saver()
    await put(saver)
    found = await asyncio.gather(*(asyncio.to_thread(saver.get_tuple, config()) for _ in range(20)))
    assert {each.checkpoint["id"] for each in found if each} == {"1"}
    with pytest.raises(InvalidArgumentError, match="event loop"):
        saver.get_tuple(config())


async def test_async_methods_work_on_the_event_loop_of_another_thread(make_saver: Make) -> None:
    saver = await make_saver()
    await put(saver)
    found: list[Any] = []

    async def elsewhere() -> None:
        await put(saver, "2", parent="1")
        found.append(await saver.aget_tuple(config()))
        found.append(await ids(saver, config()))

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found[0].checkpoint["id"] == "2"
    assert found[1] == ["2", "1"]


def test_a_saver_goes_on_with_the_next_event_loop(server_url: str) -> None:
    saver = HelixSaver(server_url)

    async def use(number: int) -> Any:
        await saver.asetup()
        await put(saver, str(number))
        return await ids(saver, config())

    assert asyncio.run(use(1)) == ["1"]
    assert asyncio.run(use(2)) == ["2", "1"]
    assert [each.checkpoint["id"] for each in saver.list(config())] == ["2", "1"]
    saver.close()
