"""Clients that the caller made, and TLS: all stores work the same over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from helix_fast import connect
from helix_fast.errors import InvalidUrlError, StoreConnectionError, StoreResponseError
from tests.support.cluster import ClusterProcess
from tests.support.sentinel import MASTER, SentinelSet
from tests.support.servers import ServerProcess
from tests.support.tls import TlsFront
from tests.support.tour import tour


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
