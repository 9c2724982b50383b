"""Two walks through all five stores: on the way every script and every command of theirs is used."""

from __future__ import annotations

import asyncio
from typing import Any

from helix_fast import MergeChanges, RedisResumableStorage, RedisStateStore, RedisUsageStore, StagedChanges
from helix_fast.connect import Helix
from helix_fast.testing.contract.usage_helpers import sub_agent, tokens
from helix_fast.testing.waiting import until
from tests.support.streams_under_fault import Following, delta, text


async def tour(helix: Helix) -> None:
    """Use everything, and check what comes back. Nothing stays behind but what deleting leaves."""
    await _streams(helix)
    await _resumable(helix)
    await _state(helix)
    await _usage(helix)
    await _locks(helix)


async def byways(helix: Helix) -> None:
    """Use what the tour leaves out: what only some settings, or some things that were there before, lead to."""
    shared: Any = {"topology": helix.state._requests.topology}
    endless = RedisStateStore(ttl=None, **shared)
    await helix.state.create_session("byway", agent_type="a")
    await endless.update_status("byway", "kept from now on")
    assert await helix.state._requests.command("byway", "TTL", "helix:session:{byway}") == -1
    assert await endless.delete_session("byway")
    short = RedisResumableStorage(max_stream_length=10, **shared)
    await short.create("byway")
    for first in range(1, 60, 2):
        await short.append_many("byway", [text(first), text(first + 1)], first)
    info = await short.get_metadata("byway")
    assert info is not None
    assert info.first_sequence > 1
    assert await short.delete("byway")
    lasting = RedisUsageStore(ttl_seconds=None, **shared)
    for number in range(2):
        assert await lasting.record_entry(tokens("byway", id=str(number)))
        rollup = await lasting.get_rollup("byway")
        assert rollup is not None
        assert rollup.tokens.total == 150 * (number + 1)
    assert await lasting.delete("byway")
    lock = await helix.locks.acquire("byway")
    assert lock is not None
    ahead = lock.fencing_token + 10**12  # the clock of the server that gave it was fast
    await lock.release()
    await helix.locks._requests.command("byway", "SET", "helix:lock:{byway}:fence", ahead)
    after = await helix.locks.acquire("byway")
    assert after is not None
    assert after.fencing_token == ahead + 1
    assert await after.release()
    await _unheard(helix)


async def _unheard(helix: Helix) -> None:
    """Write what nobody listens to, and wait until the server has been asked whether somebody does."""
    async with await helix.streams.create_writer("unheard", "agent") as writer:
        appender = writer._appender
        await writer.write(text(1))
        presence = helix.streams._requests.topology.presence
        presence.poll_seconds = 0.05
        if not presence.counts_unreliable:
            await until(lambda: not appender.subscribers.present, what="the answer that nobody listens")
            await writer.write(text(2))
            assert appender.silent
            await until(lambda: not appender.silent, what="the question whether somebody does")
    assert await helix.streams.delete_stream("unheard")


async def _streams(helix: Helix) -> None:
    streams = helix.streams
    async with await streams.create_writer("tour", "agent", fencing_token=1, lease_ms=60_000) as writer:
        live = await streams.create_resumable_reader("tour")
        following = Following(live)
        await writer.write_many([text(n) for n in range(1, 400)])
        writer.send_text("400")
        await writer.flush()
        await streams.request_stop("tour", "enough")
        await asyncio.wait_for(writer.stop_requested.wait(), 10)
        async with await streams.create_writer("tour", "other", fencing_token=2) as successor:
            assert await successor.write(text(401)) == 401
    await streams.pause_stream("tour")
    await streams.resume_stream("tour")
    await streams.end_stream("tour", {"done": True})
    assert await following.done() == [str(n) for n in range(1, 402)]
    reader = await streams.create_reader("tour")
    assert reader is not None
    assert [delta(chunk) async for chunk in reader] == [str(n) for n in range(1, 402)]
    info = await streams.get_info("tour")
    assert info is not None
    assert info.status == "ended"
    assert await streams.seal_stream("tour")
    reader = await streams.create_reader("tour")
    assert reader is not None
    assert [delta(chunk) async for chunk in reader] == [str(n) for n in range(1, 402)]
    await streams.reset_stream("tour")
    assert await streams.list_streams(limit=10) == ["tour"]
    assert await streams.delete_stream("tour")


async def _resumable(helix: Helix) -> None:
    storage = helix.resumable
    await storage.create("tour-2")
    heard: list[int] = []
    told = asyncio.Event()

    def hear(_chunk: Any, sequence: int) -> None:
        heard.append(sequence)
        if sequence == 3:
            told.set()

    unsubscribe = storage.subscribe("tour-2", hear, from_sequence=0)
    await storage.append("tour-2", text(1), 1)
    await storage.append_many("tour-2", [text(2), text(3)], 2)
    await asyncio.wait_for(told.wait(), 10)
    await unsubscribe()
    assert heard == [1, 2, 3]
    assert [stored.sequence for stored in await storage.read_from("tour-2", 1)] == [2, 3]
    await storage.fail("tour-2", "over")
    assert await storage.delete("tour-2")


async def _state(helix: Helix) -> None:
    state = helix.state
    await state.create_session("tour", agent_type="a", initial_state={"list": [1], "gone": 1})
    assert await state.session_exists("tour")
    assert await state.append_messages("tour", [{"n": n} for n in range(5)]) == 5
    first = await state.create_checkpoint("tour")
    await state.begin_run("tour", "run", agent_type="a")
    assert (await state.finish_run("tour", "run", messages=[], output=1, status="completed")).run_id == "run"
    assert (await state.get_run("tour")) is not None
    await state.merge_custom_state("tour", MergeChanges({"list": [2], "x": 1}, deletes=("gone",)))
    await state.add_sub_agent_refs("tour", [{"subSessionId": "child", "agentType": "b"}])
    await state.update_sub_agent_ref("tour", {"subSessionId": "child", "status": "completed"})
    assert len(await state.get_sub_agent_refs("tour")) == 1
    await state.update_status("tour", "paused")
    assert await state.compare_and_set_status("tour", {"paused"}, "running")
    assert await state.increment_step_count("tour") == 1
    assert await state.increment_resume_count("tour") == 1
    merge = {"list": [3]}
    for _ in range(2):
        await state.stage_changes("tour", "step", StagedChanges("call", [], merge, 1))
    assert len(await state.get_staged_changes("tour", "step")) == 1
    assert (await state.promote_staging("tour", "step")).applied == 1
    await state.stage_changes("tour", "other", StagedChanges("call", [], merge, 1))
    assert await state.discard_staging("tour", "other") == 1
    await state.truncate_messages("tour", 3)
    loaded = await state.load_state("tour")
    assert loaded is not None
    assert loaded.custom_state == {"list": [1, 2, 3], "x": 1}
    loaded.messages.append({"n": 9})
    await state.save_state("tour", loaded)
    loaded.messages[0] = {"n": "another"}
    await state.save_state("tour", loaded)
    assert (await state.get_messages("tour", newest_first=True, limit=1)).messages == [{"n": 9}]
    assert await state.get_message_count("tour") == 4
    second = await state.create_checkpoint("tour")
    listed = (await state.list_checkpoints("tour")).items
    assert [(one.id, one.run_id) for one in (listed[0], *listed[2:])] == [(second.id, None), (first.id, None)]
    assert listed[1].run_id == "run"
    assert await state.get_latest_checkpoint("tour") is not None
    assert (await state.restore_checkpoint("tour", first.id)).messages == [{"n": n} for n in range(5)]
    await state.append_messages("tour", [{"n": 5}])
    await state.restore_checkpoint("tour", first.id)
    assert await state.pop_messages("tour", 2) == [{"n": 3}, {"n": 4}]
    assert await state.delete_checkpoints("tour", keep_last=1) == 2
    assert await state.touch("tour", ttl=1000)
    await state.create_session("gone", agent_type="a")
    await state._requests.command("gone", "DEL", "helix:session:{gone}")
    assert await state.list_sessions(limit=10) == ["tour"]
    assert await state.delete_session("tour", fencing_token=1)


async def _usage(helix: Helix) -> None:
    usage = helix.usage
    assert await usage.record_entry(tokens("tour", id="1"))
    assert await usage.record_entries([sub_agent("tour", "child", id="3")]) == 1
    assert await usage.record_entry(tokens("child", id="2"))
    rollup = await usage.get_rollup("tour", include_sub_agents=True)
    assert rollup is not None
    assert rollup.tokens.total == 300
    assert len(await usage.get_entries("tour", kinds=["tokens"], limit=1)) == 1
    assert await usage.get_entry_count("tour") == 2
    assert await usage.exists("tour")
    assert sorted(await usage.find_session_ids(limit=10)) == ["child", "tour"]
    assert await usage.record_entries([tokens("tour", id=f"many-{n}") for n in range(600)]) == 600
    rollup = await usage.get_rollup("tour")
    assert rollup is not None
    totals = "helix:usage:totals:{tour}"
    assert await usage._requests.command("tour", "HGET", totals, "place") == b"602"
    unread = RedisUsageStore(topology=usage._requests.topology)
    assert await unread.get_rollup("tour") == rollup
    assert await usage.delete("tour")
    assert not await usage._requests.command("tour", "EXISTS", totals)
    assert await usage.delete("child")


async def _locks(helix: Helix) -> None:
    async with helix.locks.hold("tour", ttl_ms=60_000) as lock:
        waiting = asyncio.create_task(helix.locks.acquire("tour", wait_ms=10_000))
        assert await lock.refresh()
        assert await helix.locks.is_locked("tour")
        holder = await helix.locks.get_holder("tour")
        assert holder is not None
        assert holder.fencing_token == lock.fencing_token
    second = await waiting
    assert second is not None
    assert second.fencing_token > lock.fencing_token
    assert await second.release()
