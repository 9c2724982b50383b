"""A user with the rights that docs/operations.md names: enough for every store, and none is too much."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from helix_fast import connect
from helix_fast.errors import HelixError, NotReplicatedError
from helix_fast.testing.contract.chunk_helpers import sequences, take
from helix_fast.testing.contract.lock_helpers import comes_true
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.backends import documented_rights
from tests.support.cluster import ClusterProcess
from tests.support.sentinel import SentinelSet
from tests.support.streams_under_fault import text
from tests.support.tour import byways, tour

pytestmark = pytest.mark.faults

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
CLUSTER_RIGHTS = ("+cluster|slots", "+asking", "+spublish", "+ssubscribe", "+sunsubscribe", "+pubsub|shardnumsub")
OLD_CLUSTER_RIGHTS = ("+cluster", "+asking")  # of Redis 6.2


def as_helix(url: str) -> str:
    """The URL with the documented user in it."""
    return url.replace("//", "//helix:password@", 1)


async def allow(server: ServerProcess, *more: str) -> None:
    """Make the documented user, and begin to count anew what commands are used."""
    async with redis.asyncio.Redis.from_url(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", *documented_rights(), *more)  # type: ignore[no-untyped-call]
        await admin.execute_command("ACL", "LOG", "RESET")  # type: ignore[no-untyped-call]
        await admin.config_resetstat()


async def used(*servers: ServerProcess) -> set[str]:
    """The commands that were run, by themselves or by scripts, as rights are written."""
    found: set[str] = set()
    for server in servers:
        async with redis.asyncio.Redis.from_url(server.url) as admin:
            stats = await admin.info("commandstats")
        found |= {"+" + name.removeprefix("cmdstat_") for name, stat in stats.items() if stat["calls"]}
    if "+pubsub" in found:  # Redis 6.2 counts no subcommands
        found = found - {"+pubsub"} | {"+pubsub|numsub"}
    return found


async def refused(*servers: ServerProcess) -> list[Any]:
    """What the servers refused, except CLIENT SETINFO, which redis-py sends while it connects."""
    objects: list[Any] = []
    for server in servers:
        async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as admin:
            log: Any = await admin.acl_log()
        objects += [(entry["object"], entry["reason"]) for entry in log]
    return [one for one in objects if not one[0].lower().startswith("client")]


def named(rights: Iterable[str]) -> set[str]:
    """Those of them that are commands."""
    return {word for word in rights if word.startswith("+")}


async def pinged(server: ServerProcess) -> bool:
    return "+ping" in await used(server)


async def test_documented_user_is_enough_for_every_store_and_has_nothing_that_is_not_used(
    fresh_server: ServerProcess,
) -> None:
    await allow(fresh_server)
    async with connect(as_helix(fresh_server.url), timeout=2) as helix:
        await tour(helix)
        await byways(helix)
        # a subscription without a message for half the timeout pings the server
        await comes_true(lambda: pinged(fresh_server))
    commands = await used(fresh_server)
    assert await refused(fresh_server) == []
    assert named(documented_rights()) - commands == set()
    # AUTH and HELLO need no right; the others are the test's own. Redis 6.2 counts no subcommands
    others = {name.partition("|")[0] for name in commands - named(documented_rights())}
    assert others <= {"+auth", "+hello", "+client", "+config"}


async def test_documented_user_is_enough_on_a_cluster_and_each_of_its_further_rights_is_used(
    cluster: ClusterProcess,
) -> None:
    sharded = b"redis_version:6" not in cluster.nodes[0].ask(b"INFO server")
    rights = CLUSTER_RIGHTS if sharded else OLD_CLUSTER_RIGHTS
    for node in cluster.nodes:
        await allow(node, *rights)
    async with connect(as_helix(cluster.url)) as helix:
        await tour(helix)
        await byways(helix)
        source = await cluster.primary_for("on its way")
        target = next(node for node in cluster.nodes if node is not source)
        slot = await cluster.slot_of("on its way")
        await cluster.begin_move(slot, source, target)
        assert not await helix.state.session_exists("on its way")  # the source says ASK
        await cluster.end_move(slot, source, target)
    assert await refused(*cluster.nodes) == []
    # What is subscribed to without being sharded is so for good, where there is sharded pub/sub. Where there is none, a
    # node counts its own subscribers alone, and is not asked.
    unused = {"+unsubscribe", "+pubsub|numsub"} if sharded else {"+pubsub|numsub"}
    assert named((*documented_rights(), *rights)) - await used(*cluster.nodes) == unused
    assert set(rights) <= set(re.split(r"[\s`)]+", PAGE))


async def test_who_may_not_count_listeners_publishes_everything(fresh_server: ServerProcess) -> None:
    await allow(fresh_server, "-pubsub|numsub")
    url = as_helix(fresh_server.url)
    async with connect(url) as here, connect(url, streams={"block_timeout": 60_000}) as there:
        here.streams._requests.topology.presence.poll_seconds = 0.05
        writer = await here.streams.create_writer("s", "agent")
        for last in range(1, 6):
            await writer.write(text(last))  # no subscriber is left: the server is polled, and refuses
        await until(lambda: here.streams._requests.topology.presence.counts_unreliable)
        reader = await there.streams.create_resumable_reader("s", from_sequence=5)
        waiting = asyncio.ensure_future(take(reader, 1))
        await asyncio.sleep(0)
        await writer.write(text(6))
        assert sequences(await waiting) == [6]
    assert set(await refused(fresh_server)) == {("pubsub|numsub", "command")}


async def use_database(server: ServerProcess) -> None:
    async with connect(as_helix(server.url).removesuffix("/0") + "/1") as helix:
        await tour(helix)


async def wait_for_replicas(server: ServerProcess) -> None:
    with pytest.raises(NotReplicatedError):
        await connect(as_helix(server.url), wait_replicas=1, timeout=0.5, retry_timeout=0)


@pytest.mark.parametrize(("right", "use"), [("+select", use_database), ("+wait", wait_for_replicas)])
async def test_right_that_only_some_need_is_enough_and_needed(
    fresh_server: ServerProcess, right: str, use: Any
) -> None:
    assert f"`{right}`" in PAGE
    await allow(fresh_server)
    with contextlib.suppress(HelixError):
        await use(fresh_server)
    assert set(await refused(fresh_server)) == {(right[1:], "command")}
    await allow(fresh_server, right)
    await use(fresh_server)
    assert await refused(fresh_server) == []
    assert right in await used(fresh_server)


async def test_role_is_asked_for_behind_sentinels_and_can_be_done_without(short_path: Path) -> None:
    assert "`+role`" in PAGE
    watched = SentinelSet(short_path, replicas=0, sentinels=1)
    try:
        await watched.start()
        (server,) = watched.servers
        for rights in ((), ("+role",)):
            await allow(server, *rights)
            async with connect(as_helix(watched.url)) as helix:
                await tour(helix)
            assert set(await refused(server)) == (set() if rights else {("role", "command")})
    finally:
        await watched.stop()


@pytest.mark.parametrize("key", ["other", "helix"])
async def test_documented_user_reaches_nothing_else(fresh_server: ServerProcess, key: str) -> None:
    await allow(fresh_server)
    async with redis.asyncio.Redis.from_url(as_helix(fresh_server.url)) as client:
        for command in (("GET", key), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await client.execute_command(*command)  # type: ignore[no-untyped-call]
