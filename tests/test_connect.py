"""connect(): which URLs and clients lead to a server, and what is said about those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

import helix_fast
from helix_fast import (
    HelixError,
    InvalidArgumentError,
    InvalidUrlError,
    StoreAuthenticationError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    connect,
    options,
)
from helix_fast.testing.servers import ServerProcess, free_port

CHUNK = {"type": "text_delta", "delta": "a"}


async def use(helix: helix_fast.Helix) -> None:
    """Every store of a Helix answers."""
    await helix.state.create_session("s", agent_type="a")
    writer = await helix.streams.create_writer("s", "agent")
    assert await writer.write(CHUNK) == 1
    await writer.close()
    assert len(await helix.resumable.read_from("s")) == 1
    assert await helix.usage.get_rollup("s") is None
    async with helix.locks.hold("s") as lock:
        assert lock.fencing_token > 0


@pytest.mark.parametrize("url", ["memory://", "embedded://"])
async def test_all_stores_share_one_helix(url: str) -> None:
    async with connect(url) as helix:
        await use(helix)


async def test_helix_may_be_awaited_and_closed_twice() -> None:
    helix = await connect("memory://")
    async with helix:
        await use(helix)
    await helix.close()
    with pytest.raises(StoreClosedError):
        await helix.state.load_state("s")


async def test_embedded_directory_keeps_what_was_written(short_path: Path) -> None:
    async with connect(f"embedded://{short_path}/data") as helix:
        await use(helix)
    async with connect(f"embedded://{short_path}/data") as helix:
        assert len(await helix.resumable.read_from("s")) == 1


@pytest.mark.parametrize("decode_responses", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_settings_of_a_callers_client_are_taken_over(
    server_url: str, decode_responses: bool, protocol: int
) -> None:
    client = redis.asyncio.Redis.from_url(server_url, decode_responses=decode_responses, protocol=protocol)
    async with connect(client) as helix:
        await use(helix)
    assert await client.ping()  # never closed by us
    await client.aclose()


async def test_options_reach_their_store() -> None:
    async with connect(
        "memory://", streams={"max_stream_length": 7}, state={"ttl": 5}, usage={"ttl_seconds": 6}
    ) as helix:
        assert helix.streams.max_stream_length == 7
        await helix.state.create_session("s", agent_type="a")


async def test_two_prefixes_do_not_see_each_other(server_url: str) -> None:
    async with connect(server_url, key_prefix="a:") as one, connect(server_url, key_prefix="a:b:") as two:
        await use(one)
        assert await two.state.load_state("s") is None
        assert await two.streams.get_info("s") is None
        assert not await two.usage.exists("s")
        await use(two)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "http://localhost",
        "redis:/localhost",
        "redis+cluster:x",
        "redis://localhost:port",
        "embedded://host/x",
        "memory://host",
        "memory:///path",
    ],
)
async def test_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(InvalidUrlError) as caught:
        async with connect(url):
            pass
    assert caught.value.hint


@pytest.mark.parametrize("client", [None, 5, redis.Redis(), object()])
async def test_thing_that_is_no_asyncio_client(client: object) -> None:
    with pytest.raises(InvalidArgumentError):
        async with connect(client):
            pass


@pytest.mark.parametrize("name", ["key_prefix", "topology", "host"])
def test_store_options_cannot_name_what_the_helix_shares(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        connect("memory://", streams={name: "x"})


@pytest.mark.parametrize("prefix", ["{x}:", "a\n", 5])
def test_key_prefix_that_cannot_be_one(prefix: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        connect("memory://", key_prefix=prefix)
    assert "'helix:'" in caught.value.hint


async def test_memory_lives_by_the_clock_that_it_is_given() -> None:
    now = [1_700_000_000.0]
    async with connect("memory://", state={"ttl": 60}, clock=lambda: now[0]) as helix:
        await helix.state.create_session("s", agent_type="a")
        lock = await helix.locks.acquire("s", ttl_ms=60_000)
        assert lock is not None
        now[0] += 59
        assert lock.held
        assert await helix.state.exists("s")
        now[0] += 1.1
        assert not lock.held
        assert not await helix.locks.is_locked("s")
        assert not await helix.state.exists("s")


async def test_memory_takes_the_options_that_mean_something_there() -> None:
    async with connect("memory://", timeout=3, retry_timeout=2.5, wait_replicas=0) as helix:
        assert helix.state._requests.retry_timeout == 2.5
        await use(helix)


@pytest.mark.parametrize(
    "options", [{"wait_replicas": 1}, {"host": "h"}, {"ssl_ca_certs": "ca.pem"}, {"db": 1}, {"timeout": 0}]
)
async def test_memory_refuses_options_of_a_connection(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await connect("memory://", **options)
    assert next(iter(options)) in f"{caught.value} {caught.value.hint}"


def test_a_clock_is_for_memory_alone() -> None:
    with pytest.raises(InvalidArgumentError, match="memory://"):
        connect("redis://localhost", clock=lambda: 0.0)


async def test_unreachable_server_is_told_at_once() -> None:
    with pytest.raises(StoreConnectionError) as caught:
        async with connect(f"redis://127.0.0.1:{free_port()}"):
            pass
    assert caught.value.retryable
    assert caught.value.__cause__ is not None


async def test_wrong_password_is_told_and_never_shown(short_path: Path) -> None:
    server = ServerProcess(short_path, options={"requirepass": "the right one"})
    await server.start()
    try:
        with pytest.raises(StoreAuthenticationError) as caught:
            async with connect(server.url, password="a wrong one"):
                pass
        assert "wrong one" not in str(caught.value) + caught.value.hint
        with pytest.raises(StoreAuthenticationError):
            async with connect(server.url):
                pass
        async with connect(server.url, password="the right one") as helix:
            await use(helix)
    finally:
        await server.stop()


async def test_cluster_url_to_a_server_that_is_none(fresh_server: ServerProcess) -> None:
    with pytest.raises(StoreResponseError) as caught:
        async with connect(f"redis+cluster://127.0.0.1:{fresh_server.port}"):
            pass
    assert "not part of a cluster" in str(caught.value)
    assert "redis://" in caught.value.hint


@pytest.mark.parametrize("url", ["memory://", "embedded://", "redis://localhost", "redis+cluster://localhost"])
@pytest.mark.parametrize(
    ("given", "near"),
    [
        ({"passwort": "p"}, "password"),
        ({"time_out": 1}, "timeout"),
        ({"stream": {}}, "streams"),
        ({"zzz": 1}, "there are"),
        ({"streams": {"max_len": 1}}, "max_stream_length"),
        ({"state": {"ttl_seconds": 1}}, "ttl"),
        ({"usage": {"ttl": 1}}, "ttl_seconds"),
        ({"locks": {"default_ttl": 1}}, "default_ttl_ms"),
    ],
)
def test_unknown_option_is_told_with_the_nearest_known_one(url: str, given: dict[str, Any], near: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        connect(url, **given)
    assert near in caught.value.hint


def test_options_of_a_store_must_be_a_dict() -> None:
    with pytest.raises(InvalidArgumentError, match="streams"):
        connect("memory://", streams=["max_stream_length"])  # type: ignore[arg-type]


STORES: dict[type[Any], type[Any]] = {
    helix_fast.RedisStateStore: options.StateOptions,
    helix_fast.RedisStreamManager: options.StreamOptions,
    helix_fast.RedisUsageStore: options.UsageOptions,
    helix_fast.RedisLockManager: options.LockOptions,
    helix_fast.InMemoryStateStore: options.StateOptions,
    helix_fast.InMemoryStreamManager: options.StreamOptions,
    helix_fast.InMemoryUsageStore: options.UsageOptions,
    helix_fast.InMemoryLockManager: options.LockOptions,
}


@pytest.mark.parametrize("store", [*STORES, helix_fast.RedisResumableStorage, helix_fast.InMemoryResumableStorage])
def test_unknown_option_of_a_store_is_told_with_the_nearest_known_one(store: type[Any]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        store(key_prefx="p:")
    assert caught.value.hint == "did you mean key_prefix?"


@pytest.mark.parametrize("store", STORES)
def test_typed_options_are_those_that_a_store_has(store: type[Any]) -> None:
    shared = {"key_prefix", "server", "clock", *options.ConnectionOptions.__annotations__} - {"logger"}
    assert options.keyword_options(store) - shared == set(STORES[store].__annotations__)


@pytest.mark.parametrize("name", ["state", "streams", "resumable", "usage", "locks"])
def test_helix_that_is_not_open_says_so(name: str) -> None:
    with pytest.raises(StoreClosedError, match="not open") as caught:
        getattr(connect("memory://"), name)
    assert "async with connect" in caught.value.hint


def test_helix_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="stat"):
        _ = connect("memory://").stat


@pytest.mark.parametrize("huge", [10**400, 10**5000], ids=["400", "5000"])
async def test_numbers_beyond_all_measure_are_refused(huge: int) -> None:
    for make in (
        lambda: connect("redis://localhost", locks={"default_ttl_ms": huge}).__aenter__(),
        lambda: connect("memory://", timeout=huge).__aenter__(),
        lambda: connect("memory://", streams={"block_timeout": huge}).__aenter__(),
        lambda: connect("memory://", streams={"linger_ms": huge}).__aenter__(),
        lambda: connect("memory://", state={"ttl": huge}).__aenter__(),
    ):
        with pytest.raises(HelixError):
            await make()
    async with connect("memory://") as helix:
        for name in ("wait_ms", "ttl_ms"):
            with pytest.raises(InvalidArgumentError, match=name):
                await helix.locks.acquire("s", **{name: huge})
            with pytest.raises(InvalidArgumentError, match=name):
                helix.locks.hold("s", **{name: huge})
