"""Streams, sessions, usage and locks while a cluster's slots move and its primaries die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from helix_fast import Helix, connect
from helix_fast.errors import AcknowledgedDataLostError, SequenceGapError
from helix_fast.state.store import RedisStateStore
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.cluster import ClusterProcess
from tests.support.cluster_load import ClusterLoad
from tests.support.streams_under_fault import collect_errors, follow, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]
Start = Callable[[int], "asyncio.Future[ClusterProcess]"]
# A primary is voted down after a second of silence; then its replica is elected. The rest is a busy machine.
LONGEST_STALL = 15.0
# Nothing has to be found dead where a slot moves, or a primary hands over by itself: 0.2 s where there is room.
LONGEST_MOVE = 5.0


@pytest.fixture
async def replicated(short_path: Path) -> AsyncIterator[ClusterProcess]:
    """Three primaries with a replica each."""
    process = ClusterProcess(short_path, replicas=1)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


async def cut_off_replica(cluster: ClusterProcess, primary: ServerProcess) -> ServerProcess:
    replica = await cluster.replica_of(primary)
    await cluster.cut_off(primary)
    await until(lambda: b"master_link_status:down" in replica.ask(b"INFO replication"), what="the cut")
    return replica


async def other_primary(cluster: ClusterProcess, than: ServerProcess) -> ServerProcess:
    for slot in (0, 8_000, 16_000):
        node = await cluster.primary_of(slot)
        if node is not than:
            return node
    raise AssertionError("there is only one")


async def seconds_of(step: Awaitable[object]) -> float:
    started = time.monotonic()
    await step
    return time.monotonic() - started


@pytest.mark.timeout(300)
async def test_node_that_joins_and_takes_slots_under_load_costs_nothing(cluster: ClusterProcess) -> None:
    ids = [f"id-{n}" for n in range(6)]
    load = ClusterLoad(cluster.url, ids)
    moves: list[float] = []
    try:
        await load.start()
        await until(lambda: min(load.counts.get(("streams", name), 0) for name in ids) > 10)
        added = await cluster.add_primary()
        for name in ids:
            slot = await cluster.slot_of(name)
            moves.append(await seconds_of(cluster.move_slot(slot, await cluster.primary_of(slot), added)))
            assert load.failed == []
        before = dict(load.done)
        await until(lambda: all(load.done[area] > before[area] + 20 for area in before), seconds=30)
        # and back, to a node that has seen it before, until the new one is empty again
        home = cluster.nodes[0]
        moves += [await seconds_of(cluster.move_slot(await cluster.slot_of(name), added, home)) for name in ids]
        before = dict(load.done)
        await until(lambda: all(load.done[area] > before[area] + 20 for area in before), seconds=30)
        await load.finish()
        assert set(load.longest) == {"streams", "state", "usage", "locks"}
        print(f"\nslots moved under load: {load.report()}; longest move {max(moves):.2f} s")
        # A script waits for the end of the move where its keys are on two nodes; a busy machine draws that out.
        assert max(load.longest.values()) < LONGEST_MOVE + max(moves)
    finally:
        await load.close()


async def test_session_whose_keys_are_on_two_nodes_is_left_alone_until_they_are_on_one(cluster: ClusterProcess) -> None:
    source = await cluster.primary_for("s")
    target = await other_primary(cluster, source)
    slot = await cluster.slot_of("s")
    async with RedisStateStore(cluster.url) as store:
        await store.create_session("s", agent_type="a", initial_state={"x": 1})
        await store.append_messages("s", [{"n": 1}])
        keys = [f"helix:session:{{s}}{part}" for part in (":custom", ":subagents", ":checkpoints", ":checkpoint-data")]
        keys += [f"helix:session:{{s}}:{part}" for part in ("operations:0", "operations:1", "steps")]
        # every key that its scripts name is there: only the message log tells that the session is on its way
        for key in keys[1:3]:
            await cluster.ask(
                source,
                "ZADD" if key.endswith("checkpoints") else "HSET",
                key,
                *(("1", "c") if key.endswith("checkpoints") else ("sub", "{}")),
            )
        await cluster.ask(source, "HSET", keys[3], "c", "{}")
        for key in keys[4:6]:
            await cluster.ask(source, "HSET", key, "op", "[]")
        await cluster.ask(source, "SADD", keys[6], "step")
        log = "helix:session:{s}:messages:1"
        assert await cluster.ask(source, "EXISTS", log, "helix:session:{s}", *keys) == 9

        await cluster.begin_move(slot, source, target)
        await cluster.move_keys(source, target, log)
        appending = asyncio.create_task(store.append_messages("s", [{"n": 2}]))
        reading = asyncio.create_task(store.get_messages("s"))
        done, _ = await asyncio.wait([appending, reading], timeout=0.5)
        assert not done
        await cluster.move_keys(source, target, "helix:session:{s}", *keys)
        done, _ = await asyncio.wait([appending, reading], timeout=0.5)
        assert not done
        await cluster.end_move(slot, source, target)
        assert await appending == 2
        assert (await reading).messages[0]["n"] == 1
        assert [message["n"] for message in (await store.get_messages("s")).messages] == [1, 2]


async def test_primary_killed_under_load_loses_nothing_that_a_replica_confirmed(replicated: ClusterProcess) -> None:
    ids = [f"id-{n}" for n in range(4)]
    load = ClusterLoad(replicated.url, ids, wait_replicas=1, retry_timeout=30.0)
    try:
        await load.start()
        await until(lambda: min(load.counts.get(("streams", name), 0) for name in ids) > 10, seconds=20)
        primary = await replicated.primary_for(ids[0])
        replica = await replicated.replica_of(primary)
        primary.kill()
        await until(lambda: b"role:master" in replica.ask(b"INFO replication"), seconds=20, what="the promotion")
        # the new primary has no replica, so nothing is confirmed until the old one is back as that
        await primary.start()
        before = load.counts["streams", ids[0]]
        await until(lambda: load.counts["streams", ids[0]] > before + 20 or bool(load.failed), seconds=30)
        await load.finish()
        print(f"\nprimary killed, wait_replicas=1: {load.report()}")
        assert max(load.longest.values()) < LONGEST_STALL
    finally:
        await load.close()


async def test_what_a_killed_primary_had_not_replicated_is_reported(replicated: ClusterProcess) -> None:
    primary = await replicated.primary_for("s")
    async with storage(replicated.url, block_timeout=300) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        live = await follow(store, "s")
        for n in range(1, 11):
            await writer.write(text(n))
        replica = await replicated.replica_of(primary)
        await replicated.in_step(primary, replica)
        await cut_off_replica(replicated, primary)
        for n in range(11, 21):
            await writer.write(text(n))
        await until(lambda: len(live.chunks) == 20)
        primary.kill()
        assert await writer.write(text(21)) == 21
        assert [(type(error), error.first, error.last) for error in errors] == [(AcknowledgedDataLostError, 11, 20)]  # type: ignore[attr-defined]
        late = await store.create_resumable_reader("s", from_sequence=9)
        assert late is not None
        assert (await late.__anext__()).sequence == 10
        with pytest.raises(SequenceGapError) as gap:
            await late.__anext__()
        assert (gap.value.requested, gap.value.first_available) == (10, 21)
        assert await live.done() == [str(n) for n in range(1, 21)]
        assert isinstance(live.error, SequenceGapError)
        assert (live.error.requested, live.error.first_available) == (20, 11)


async def test_loss_is_reported_also_where_the_old_primary_lives_on_and_redirects(replicated: ClusterProcess) -> None:
    primary = await replicated.primary_for("s")
    async with storage(replicated.url) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        await writer.write(text(1))
        replica = await replicated.replica_of(primary)
        await replicated.in_step(primary, replica)
        replica = await cut_off_replica(replicated, primary)
        await writer.write_many([text(2), text(3)])
        await replicated.ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        await until(lambda: b"role:slave" in primary.ask(b"INFO replication"), what="the old primary following")
        assert await writer.write(text(4)) == 4
        assert [(type(error), error.first, error.last) for error in errors] == [(AcknowledgedDataLostError, 2, 3)]  # type: ignore[attr-defined]


async def test_cluster_that_is_named_by_a_replica_takes_writes_that_wait_for_replicas(
    replicated: ClusterProcess,
) -> None:
    replica = await replicated.replica_of(await replicated.primary_for("s"))
    async with connect(f"redis+cluster://127.0.0.1:{replica.port}", wait_replicas=1, retry_timeout=5) as helix:
        writer = await helix.streams.create_writer("s", "agent")
        assert await writer.write(text("confirmed")) == 1


async def test_replica_promoted_by_hand_under_load_costs_nothing(replicated: ClusterProcess) -> None:
    ids = [f"id-{n}" for n in range(4)]
    load = ClusterLoad(replicated.url, ids)
    try:
        await load.start()
        await until(lambda: min(load.counts.get(("streams", name), 0) for name in ids) > 10, seconds=20)
        primary = await replicated.primary_for(ids[0])
        replica = await replicated.replica_of(primary)
        await replicated.ask(replica, "CLUSTER", "FAILOVER")
        await until(lambda: b"role:master" in replica.ask(b"INFO replication"), seconds=20, what="the promotion")
        before = load.counts["streams", ids[0]]
        await until(lambda: load.counts["streams", ids[0]] > before + 20 or bool(load.failed), seconds=30)
        await load.finish()
        print(f"\nreplica promoted by hand: {load.report()}")
        assert max(load.longest.values()) < LONGEST_MOVE
    finally:
        await load.close()


async def test_reader_alone_follows_its_stream_to_another_node(cluster: ClusterProcess) -> None:
    source = await cluster.primary_for("s")
    target = await other_primary(cluster, source)
    slot = await cluster.slot_of("s")
    async with storage(cluster.url) as writing, storage(cluster.url, block_timeout=60_000) as reading:
        writer = await writing.create_writer("s", "agent")
        await writer.write(text(1))
        live = await follow(reading, "s")
        await until(lambda: len(live.chunks) == 1)
        await cluster.move_slot(slot, source, target)
        for n in range(2, 30):
            await writer.write(text(n))
        # pushed, and not found by looking: it looks by itself once a minute
        await until(lambda: len(live.chunks) == 29)
        await writing.end_stream("s")
        assert await live.done() == await logged(writing, "s")


async def test_a_node_that_hangs_keeps_no_lease_on_another_node_from_being_renewed(short_path: Path) -> None:
    cluster = ClusterProcess(short_path, node_timeout=60_000)  # nobody finds the node dead meanwhile
    try:
        await cluster.start()
        node, names = await cluster.primary_for("hangs"), [f"lives-{n}" for n in range(20)]
        primaries = {name: await cluster.primary_for(name) for name in names}
        other = next(name for name in names if primaries[name] is not node)
        async with connect(cluster.url, retry_timeout=60.0) as helix:
            for name in ("hangs", other):
                writer = await helix.streams.create_writer(name, "agent", lease_ms=9_000)
                await writer.write(text(0))
            first = expires = await lease_end(helix, other)
            node.pause()
            # The first renewal of all, after 3 s, is sent together with the one that hangs.
            while expires < first + 4_500:
                await asyncio.sleep(0.1)
                expires = await lease_end(helix, other)
            node.resume()
    finally:
        await cluster.stop()


async def lease_end(helix: Helix, stream_id: str) -> int:
    info = await helix.streams.get_info(stream_id)
    assert info is not None
    assert info.lease_expires_at is not None, "the lease ran out"
    return info.lease_expires_at


async def test_idle_writer_is_told_what_its_node_lost_when_anything_connects_to_it_again(
    cluster: ClusterProcess,
) -> None:
    async with storage(cluster.url) as store:
        errors = collect_errors(store)
        names = ["a", "b", "c", "d", "e", "f"]
        nodes = {name: await cluster.primary_of(await cluster.slot_of(name)) for name in names}
        writers = {name: await store.create_writer(name, "agent") for name in names}
        for name in names:
            await writers[name].write(text(1))
        for node in set(nodes.values()):
            assert node.ask(b"SAVE") == b"+OK\r\n"
        for name in names:
            await writers[name].write_many([text(2), text(3)])
        for node in set(nodes.values()):
            node.kill()
            await node.start()
        for name in names:
            await until(lambda name=name: bool(nodes[name].ask(b"CLUSTER INFO").count(b"cluster_state:ok")))  # type: ignore[misc]
            assert await store.get_info(name) is not None
        await until(lambda: len(errors) >= len(names), what="the reports")
        lost = [error for error in errors if isinstance(error, AcknowledgedDataLostError)]
        assert sorted((error.stream_id, error.first, error.last) for error in lost) == [(name, 2, 3) for name in names]
