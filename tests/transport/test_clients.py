"""Clients that the caller made, and TLS: all stores work the same over each of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from helix_fast import RedisStateStore, connect
from helix_fast.errors import InvalidArgumentError, InvalidUrlError, StoreConnectionError, StoreResponseError
from helix_fast.testing.servers import ServerProcess
from tests.support.sentinel import MASTER
from tests.support.tls import TlsFront
from tests.support.tour import tour

pytestmark = pytest.mark.faults


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
    async def test_cluster(self, cluster_url: str, decode: bool, protocol: int) -> None:
        url = cluster_url.replace("+cluster", "", 1)
        async with redis.asyncio.RedisCluster.from_url(url, decode_responses=decode, protocol=protocol) as client:
            await all_stores_over(client)

    async def test_made_by_a_sentinel(self, sentinel_url: str) -> None:
        hosts = [(host, int(port)) for host, port in re.findall(r"([\d.]+):(\d+)", sentinel_url)]
        manager = redis.asyncio.Sentinel(hosts)  # type: ignore[no-untyped-call]
        async with manager.master_for(MASTER, decode_responses=True) as client:
            await all_stores_over(client)
        for sentinel in manager.sentinels:
            await sentinel.aclose()

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

    @pytest.mark.parametrize("given", ["URL", "client"])
    async def test_plain_url_or_client_of_a_cluster_is_told_at_once(self, cluster_url: str, given: str) -> None:
        url = cluster_url.replace("+cluster", "", 1)
        async with redis.asyncio.Redis.from_url(url) as client:
            with pytest.raises(StoreResponseError, match="node of a cluster") as caught:
                await connect(url if given == "URL" else client)
        assert "redis+cluster://" in caught.value.hint
        assert not caught.value.retryable

    async def test_store_of_its_own_with_a_plain_url_of_a_cluster(self, cluster_url: str) -> None:
        async with RedisStateStore(cluster_url.replace("+cluster", "", 1)) as store:
            replies = await asyncio.gather(*map(store.load_state, "abcdef"), return_exceptions=True)
        failures = [reply for reply in replies if reply is not None]
        assert failures
        assert all(isinstance(one, StoreResponseError) and "redis+cluster://" in one.hint for one in failures)

    async def test_cluster_client_of_a_server_that_is_none(self, fresh_server: ServerProcess) -> None:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=fresh_server.port)
        with pytest.raises(StoreResponseError, match="not part of a cluster"):
            await connect(client)

    @pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
    async def test_url_of_a_sentinel_in_place_of_a_server(self, sentinel_url: str, scheme: str) -> None:
        first = sentinel_url.partition("://")[2].partition(",")[0]
        with pytest.raises(StoreResponseError, match="seems to be a Sentinel") as caught:
            await connect(f"{scheme}://{first}")
        assert "redis+sentinel://" in caught.value.hint

    async def test_sentinel_url_of_a_server_that_is_none(self, fresh_server: ServerProcess) -> None:
        with pytest.raises(StoreResponseError, match="is no Sentinel") as caught:
            await connect(f"redis+sentinel://127.0.0.1:{fresh_server.port}/main")
        assert "redis://" in caught.value.hint

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("redis+sentinel://h", "names hosts and a master"),
            ("redis+sentinel://h/main?db=x", "db must be a number"),
            ("redis+sentinel://h/main?nonsense=1", "nonsense"),
            ("redis+cluster://h/1", "no databases but 0"),
        ],
    )
    async def test_url_that_cannot_be_one(self, url: str, said: str) -> None:
        with pytest.raises(InvalidUrlError, match=said) as caught:
            await connect(url)
        assert caught.value.hint

    @pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
    async def test_setting_that_no_connection_has(self, scheme: str) -> None:
        with pytest.raises(InvalidArgumentError, match="nonsense"):
            await connect(f"{scheme}://localhost/{'main' if 'sentinel' in scheme else ''}", nonsense=1)

    @pytest.mark.parametrize("url", ["http://localhost", "redis+nothing://h", "localhost:6379", ""])
    def test_unknown_scheme(self, url: str) -> None:
        with pytest.raises(InvalidUrlError):
            connect(url)
