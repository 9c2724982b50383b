"""Clients that the caller made, TLS, and a user with few rights: all stores work the same over each of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from helix_fast import connect
from helix_fast.errors import InvalidUrlError, StoreConnectionError, StoreResponseError
from tests.support.backends import documented_rights
from tests.support.cluster import ClusterProcess
from tests.support.sentinel import MASTER, SentinelSet
from tests.support.servers import ServerProcess
from tests.support.tls import TlsFront
from tests.support.tour import tour

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def cluster(short_path: Path) -> AsyncIterator[ClusterProcess]:
    process = ClusterProcess(short_path)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


async def all_stores_over(client: Any) -> None:
    """The stores work over the client's settings, and the client itself is left as it was."""
    async with connect(client) as helix:
        await tour(helix)
    await client.set("still", "here")
    assert await client.get("still") in {"here", b"here"}


class TestClientsGiven:
    @pytest.mark.parametrize("decode", [False, True])
    @pytest.mark.parametrize("protocol", [2, 3])
    async def test_redis(self, server_url: str, decode: bool, protocol: int) -> None:
        async with redis.asyncio.Redis.from_url(server_url, decode_responses=decode, protocol=protocol) as client:
            await all_stores_over(client)

    @pytest.mark.parametrize("decode", [False, True])
    @pytest.mark.parametrize("protocol", [2, 3])
    async def test_cluster(self, cluster: ClusterProcess, decode: bool, protocol: int) -> None:
        url = cluster.url.replace("+cluster", "", 1)
        async with redis.asyncio.RedisCluster.from_url(url, decode_responses=decode, protocol=protocol) as client:
            await all_stores_over(client)

    async def test_made_by_a_sentinel(self, short_path: Path) -> None:
        watched = SentinelSet(short_path)
        try:
            await watched.start()
            hosts = [("127.0.0.1", each.port) for each in watched.sentinels]
            manager = redis.asyncio.Sentinel(hosts)  # type: ignore[no-untyped-call]
            async with manager.master_for(MASTER, decode_responses=True) as client:
                await all_stores_over(client)
            for sentinel in manager.sentinels:
                await sentinel.aclose()
        finally:
            await watched.stop()

    async def test_sentinels_of_a_client_that_are_gone_are_one_short_line(self) -> None:
        manager = redis.asyncio.Sentinel([("127.0.0.1", 1), ("127.0.0.1", 2)])  # type: ignore[no-untyped-call]
        async with manager.master_for("main") as client:
            with pytest.raises(StoreConnectionError) as caught:
                await connect(client)
            assert len(str(caught.value)) < 120
        for sentinel in manager.sentinels:
            await sentinel.aclose()


class TestTls:
    async def test_private_authority(self, server_url: str, tmp_path: Path) -> None:
        async with TlsFront(server_url, tmp_path) as front, connect(front.url, ssl_ca_certs=front.authority) as helix:
            await tour(helix)

    async def test_client_given(self, server_url: str, tmp_path: Path) -> None:
        async with (
            TlsFront(server_url, tmp_path) as front,
            redis.asyncio.Redis.from_url(front.url, ssl_ca_certs=front.authority) as client,
        ):
            await all_stores_over(client)

    async def test_client_certificate(self, server_url: str, tmp_path: Path) -> None:
        async with TlsFront(server_url, tmp_path, client_certificates=True) as front:
            own = {"ssl_certfile": front.client_certificate, "ssl_keyfile": front.client_key}
            async with connect(front.url, ssl_ca_certs=front.authority, **own) as helix:
                await tour(helix)
            with pytest.raises(StoreConnectionError):
                await connect(front.url, ssl_ca_certs=front.authority)

    async def test_authority_that_is_not_known_is_refused(self, server_url: str, tmp_path: Path) -> None:
        async with TlsFront(server_url, tmp_path) as front:
            with pytest.raises(StoreConnectionError, match="certificate verify failed"):
                await connect(front.url)

    async def test_certificate_for_another_host_is_refused(self, server_url: str, tmp_path: Path) -> None:
        async with TlsFront(server_url, tmp_path, name="elsewhere.example") as front:
            with pytest.raises(StoreConnectionError, match="certificate verify failed"):
                await connect(front.url, ssl_ca_certs=front.authority)


CLUSTER_RIGHTS = ["+cluster|slots", "+asking", "+spublish", "+ssubscribe", "+sunsubscribe"]


async def refused(client: redis.asyncio.Redis) -> list[Any]:
    """What the server refused, but for what redis-py tells of itself while it connects."""
    log: Any = await client.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
    entries = [entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]
    objects = [
        (entry.get("object") or entry.get(b"object"), entry.get("reason") or entry.get(b"reason")) for entry in entries
    ]
    return [one for one in objects if not str(one[0]).lower().strip("b'").startswith("client")]


class TestRights:
    async def test_documented_user_is_enough_for_every_store(self, fresh_server: ServerProcess) -> None:
        async with redis.asyncio.Redis.from_url(fresh_server.url) as admin:
            await admin.execute_command("ACL", "SETUSER", *documented_rights())  # type: ignore[no-untyped-call]
            url = fresh_server.url.replace("//", "//helix:password@", 1)
            async with connect(url) as helix:
                await tour(helix)
            assert await refused(admin) == []

    async def test_documented_user_is_enough_on_a_cluster(self, cluster: ClusterProcess) -> None:
        for node in cluster.nodes:
            await cluster.ask(node, "ACL", "SETUSER", *documented_rights(), *CLUSTER_RIGHTS)
        async with connect(cluster.url.replace("//", "//helix:password@", 1)) as helix:
            await tour(helix)
        for node in cluster.nodes:
            async with cluster.client(node) as admin:
                assert await refused(admin) == []

    async def test_nothing_is_documented_that_is_not_used(self) -> None:
        source = ROOT / "src" / "helix_fast"
        scripts = " ".join(path.read_text("utf-8") for path in (source / "lua").glob("*.lua"))
        called = {name.lower() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", scripts)}
        called |= {name.lower() for name in re.findall(r"push\('([A-Z]+)'", scripts)}
        code = " ".join(
            path.read_text("utf-8")
            for path in [*source.glob("redis/*.py"), *source.glob("transport/*.py"), *source.glob("*.py")]
        )
        called |= {name.lower() for name in re.findall(r"[\"']([A-Z]{3,})[\"']", code)}
        named = {word[1:] for word in documented_rights() if word.startswith("+")}
        assert named - called == set()

    @pytest.mark.parametrize("key", ["other", "helix"])
    async def test_documented_user_reaches_nothing_else(self, fresh_server: ServerProcess, key: str) -> None:
        async with redis.asyncio.Redis.from_url(fresh_server.url) as admin:
            await admin.execute_command("ACL", "SETUSER", *documented_rights())  # type: ignore[no-untyped-call]
        url = fresh_server.url.replace("//", "//helix:password@", 1)
        async with redis.asyncio.Redis.from_url(url) as client:
            for command in (("GET", key), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    await client.execute_command(*command)  # type: ignore[no-untyped-call]


class TestWrongServers:
    async def test_cluster_url_of_a_server_that_is_none(self, fresh_server: ServerProcess) -> None:
        with pytest.raises(StoreResponseError, match="not part of a cluster") as caught:
            await connect(fresh_server.url.replace("redis", "redis+cluster", 1).removesuffix("/0"))
        assert "redis://" in caught.value.hint

    async def test_plain_url_of_a_cluster(self, cluster: ClusterProcess) -> None:
        async with connect(cluster.url.replace("+cluster", "", 1)) as helix:
            replies = await asyncio.gather(*map(helix.state.load_state, "abcdef"), return_exceptions=True)
        failures = [reply for reply in replies if reply is not None]
        assert failures
        assert all(isinstance(one, StoreResponseError) and "redis+cluster://" in one.hint for one in failures)

    @pytest.mark.parametrize("url", ["http://localhost", "redis+nothing://h", "localhost:6379", ""])
    def test_unknown_scheme(self, url: str) -> None:
        with pytest.raises(InvalidUrlError):
            connect(url)
