"""Usage over a link that breaks: counted once whatever replies are lost, and no entry lost in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast.errors import HelixError, StoreClosedError, StoreConnectionError, UsageNotRecordedError
from helix_fast.keys import UsageKeys
from helix_fast.testing.contract.lock_helpers import comes_true
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from helix_fast.transport.resolve import topology_for
from helix_fast.usage.store import RedisUsageStore
from tests.support.proxy import REPLY, REQUEST, FaultProxy

pytestmark = pytest.mark.faults


def through(proxy: FaultProxy, retry_timeout: float = 10.0) -> RedisUsageStore:
    store = RedisUsageStore(topology=topology_for(proxy.url, timeout=1.0, retry_timeout=retry_timeout))
    store._owns_topology = True
    return store


async def gone(store: RedisUsageStore) -> bool:
    return not await store.exists("s")


async def test_a_retry_after_a_lost_reply_adds_nothing_and_answers_the_same(fault_proxy: FaultProxy) -> None:
    async with through(fault_proxy) as store:
        await store.record_entry(tokens(id="first"))
        fault_proxy.cut_after_reply_bytes(0)
        assert await store.record_entry(tokens(id="a")) is True
        fault_proxy.cut_after_reply_bytes(0)
        assert await store.record_entries([tokens(id=name) for name in "abcb"]) == 2
        fault_proxy.cut_after_reply_bytes(0)
        assert await store.record_entry(tokens(id="a")) is False
        assert [entry.id for entry in await store.get_entries("s")] == ["first", "a", "b", "c"]


@pytest.mark.parametrize("cut", [0, 1, 40, 150, 300, 500])
async def test_a_request_cut_at_any_byte_counts_once(fault_proxy: FaultProxy, cut: int) -> None:
    async with through(fault_proxy) as store:
        await store.record_entry(tokens(id="first"))
        fault_proxy.cut_after_request_bytes(cut)
        assert await store.record_entries([tokens(id="a"), tokens(id="b")]) == 2
        fault_proxy.heal()
        assert await total(store) == 450


@pytest.mark.parametrize("cut", [0, 100_000, 1_500_000, 2_500_000])
async def test_a_long_request_cut_between_its_parts_counts_once(
    fault_proxy: FaultProxy, server_url: str, cut: int
) -> None:
    entries = [tokens(id=f"{n}", model="m" * 1000) for n in range(2_500)]
    async with through(fault_proxy) as store, RedisUsageStore(server_url) as other:
        await store.record_entry(tokens(id="first"))
        await other._requests.command("s", "SCRIPT", "FLUSH")
        fault_proxy.cut_after_request_bytes(cut)
        recording = asyncio.ensure_future(store.record_entries(entries))
        while not recording.done():
            assert await other.get_entry_count("s") in {1, 2_501}
        assert await recording == 2_500
        fault_proxy.heal()
        assert [entry.id for entry in await store.get_entries("s")] == ["first", *(f"{n}" for n in range(2_500))]


@pytest.mark.parametrize("others", [0, 1, 2])
async def test_a_deletion_whose_reply_is_lost_is_not_done_twice_whatever_others_delete(
    fault_proxy: FaultProxy, server_url: str, others: int
) -> None:
    async with through(fault_proxy) as store, RedisUsageStore(server_url) as other:
        await store.record_entry(tokens())
        fault_proxy.drop_replies()
        deleting = asyncio.create_task(store.delete("s"))
        await comes_true(lambda: gone(other))
        for _ in range(others):
            await other.delete("s")
        await other.record_entry(tokens(id="later"))
        fault_proxy.heal()
        fault_proxy.cut_all()
        assert await deleting is True
        assert [entry.id for entry in await store.get_entries("s")] == ["later"]


async def test_a_rollup_goes_on_after_a_break(fault_proxy: FaultProxy) -> None:
    async with through(fault_proxy) as store:
        await store.record_entry(tokens())
        assert await total(store) == 150
        fault_proxy.cut_after_reply_bytes(7)
        await store.record_entry(tokens())
        fault_proxy.cut_after_reply_bytes(30)
        assert await total(store) == 300


async def test_the_recorder_retries_what_was_not_acknowledged_and_doubles_nothing(fault_proxy: FaultProxy) -> None:
    async with through(fault_proxy) as store:
        async with store.recorder("s", max_batch=20, linger_ms=1) as recorder:
            for n in range(400):
                recorder.add(tokens(id=str(n)))
                if n % 60 == 59:
                    fault_proxy.cut_after_reply_bytes(0)
                if n % 70 == 69:
                    fault_proxy.cut_after_request_bytes(500)
                await asyncio.sleep(0.001)
            fault_proxy.heal()
        assert [entry.id for entry in await store.get_entries("s")] == [str(n) for n in range(400)]


async def test_batches_shrink_over_a_link_that_breaks_every_few_kilobytes(fault_proxy: FaultProxy) -> None:
    fault_proxy.cut_each_connection(REQUEST, 3000)
    async with through(fault_proxy, retry_timeout=60) as store:
        await store.exists("s")
        async with store.recorder("s") as recorder:
            for n in range(200):  # 40 kB in one batch
                recorder.add(tokens(id=str(n)))
            await recorder.flush()
        fault_proxy.heal()
        assert [entry.id for entry in await store.get_entries("s")] == [str(n) for n in range(200)]
        assert fault_proxy.accepted > 14


async def test_pages_shrink_over_a_link_that_breaks_every_few_kilobytes(
    fault_proxy: FaultProxy, server_url: str
) -> None:
    async with RedisUsageStore(server_url) as other:
        await other.record_entries([tokens(id=str(n)) for n in range(200)])
    fault_proxy.cut_each_connection(REPLY, 3000)
    async with through(fault_proxy, retry_timeout=60) as store:
        assert await total(store) == 200 * 150
        assert len(await store.get_entries("s")) == 200
        assert fault_proxy.accepted > 14


async def test_a_batch_that_failed_is_sent_again_without_lingering(fault_proxy: FaultProxy) -> None:
    async with through(fault_proxy) as store:
        await store.record_entry(tokens(id="first"))
        async with store.recorder("s", linger_ms=600_000, max_batch=3) as recorder:
            fault_proxy.cut_after_request_bytes(0)
            for n in range(3):
                recorder.add(tokens(id=str(n)))
            await until(lambda: recorder.pending == 0, what="all entries acknowledged")


async def test_the_recorder_keeps_entries_while_the_server_is_away(fault_proxy: FaultProxy) -> None:
    reported: list[HelixError] = []
    async with through(fault_proxy, retry_timeout=0.05) as store:
        store.on("error", reported.append)
        recorder = store.recorder("s", linger_ms=1)
        recorder.add(tokens(id="a"))
        await recorder.flush()
        fault_proxy.refuse()
        fault_proxy.cut_all()
        recorder.add(tokens(id="b"))
        with pytest.raises(StoreConnectionError):
            await recorder.flush()
        await until(lambda: bool(reported), what="a report")
        recorder.add(tokens(id="c"))
        assert recorder.pending == 2
        await fault_proxy.start()
        await until(lambda: recorder.pending == 0, what="all entries acknowledged")
        await recorder.close()
        assert [entry.id for entry in await store.get_entries("s")] == ["a", "b", "c"]
        assert all(isinstance(error, StoreConnectionError) for error in reported)


async def test_closing_while_the_server_is_away_gives_the_entries_back(
    fault_proxy: FaultProxy, server_url: str
) -> None:
    async with through(fault_proxy, retry_timeout=0.05) as store:
        recorder = store.recorder("s", linger_ms=60_000)
        recorder.add(tokens(id="a"))
        await recorder.flush()
        fault_proxy.refuse()
        fault_proxy.cut_all()
        made = [recorder.add(tokens()) for _ in range(3)]
        with pytest.raises(UsageNotRecordedError) as raised:
            await recorder.close()
        entries: list[Any] = list(raised.value.entries)
        assert [entry.id for entry in entries] == made
        assert isinstance(raised.value.__cause__, StoreConnectionError)
        assert recorder.pending == 0
        await recorder.close()
    async with RedisUsageStore(server_url) as other:
        assert await other.record_entries(entries) == 3
        assert await total(other) == 600


async def test_a_flush_that_begins_while_the_recorder_closes_does_not_hang(fault_proxy: FaultProxy) -> None:
    async with through(fault_proxy, retry_timeout=0.05) as store:
        await store.exists("s")
        recorder = store.recorder("s", linger_ms=60_000)
        fault_proxy.refuse()
        fault_proxy.cut_all()
        recorder.add(tokens())

        async def flush_twice() -> None:
            with pytest.raises(StoreConnectionError):
                await recorder.flush()
            with pytest.raises(StoreClosedError):
                await recorder.flush()

        flushing = asyncio.get_running_loop().create_task(flush_twice())
        closing = asyncio.get_running_loop().create_task(recorder.close())
        done, _ = await asyncio.wait([flushing], timeout=20)
        assert done
        await flushing
        with pytest.raises(UsageNotRecordedError):
            await closing


async def test_entries_are_reported_where_the_only_flush_was_cancelled(fault_proxy: FaultProxy) -> None:
    reported: list[HelixError] = []
    async with through(fault_proxy) as store:
        store.on("error", reported.append)
        await store._requests.command("", "SET", UsageKeys("helix", "s").entries, "no list")
        fault_proxy.stall()
        recorder = store.recorder("s")
        recorder.add(tokens(id="a"))
        flushing = asyncio.get_running_loop().create_task(recorder.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        fault_proxy.resume()
        await until(lambda: bool(reported), what="a report")
        assert isinstance(reported[0], UsageNotRecordedError)
        await recorder.close()


async def test_leaving_by_an_error_reports_the_entries_and_raises_that_error(fault_proxy: FaultProxy) -> None:
    reported: list[HelixError] = []
    async with through(fault_proxy, retry_timeout=0.05) as store:
        store.on("error", reported.append)
        await store.exists("s")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with store.recorder("s", linger_ms=60_000) as recorder:
                recorder.add(tokens(id="a"))
                fault_proxy.refuse()
                fault_proxy.cut_all()
                raise ZeroDivisionError
    (error,) = [one for one in reported if isinstance(one, UsageNotRecordedError)]
    assert [entry.id for entry in error.entries] == ["a"]  # type: ignore[attr-defined]


async def test_what_the_server_refuses_for_good_is_given_back(fault_proxy: FaultProxy) -> None:
    reported: list[HelixError] = []
    async with through(fault_proxy) as store:
        store.on("error", reported.append)
        await store._requests.command("", "SET", UsageKeys("helix", "s").entries, "no list")
        async with store.recorder("s", linger_ms=1) as recorder:
            recorder.add(tokens(id="a"))
            await until(lambda: bool(reported), what="a report")
            assert recorder.pending == 0
            recorder.add(tokens(id="b"))
            with pytest.raises(UsageNotRecordedError, match="WRONGTYPE") as raised:
                await recorder.flush()
            await recorder.flush()
            await store._requests.command("", "DEL", UsageKeys("helix", "s").entries)
            recorder.add(tokens(id="c"))
        (first,) = reported
        assert isinstance(first, UsageNotRecordedError)
        lost = [entry.id for error in (first, raised.value) for entry in error.entries]  # type: ignore[attr-defined]
        assert lost == ["a", "b"]
        assert [entry.id for entry in await store.get_entries("s")] == ["c"]


async def test_a_script_that_the_server_has_forgotten_is_sent_again(fresh_server: ServerProcess) -> None:
    async with RedisUsageStore(fresh_server.url) as store:
        await store.record_entry(tokens(id="a"))
        await store._requests.command("", "SCRIPT", "FLUSH")
        assert await store.record_entry(tokens(id="b")) is True
        await store._requests.command("", "SCRIPT", "FLUSH")
        assert await total(store) == 300


async def test_a_server_that_came_back_empty_counts_anew(fresh_server: ServerProcess) -> None:
    async with RedisUsageStore(fresh_server.url) as store:
        await store.record_entries([tokens(id="a"), tokens(id="b")])
        assert await total(store) == 300
        fresh_server.kill()
        await fresh_server.restart()
        assert await total(store) in (None, 300)
        await store._requests.command("", "FLUSHALL")
        assert await total(store) is None
        assert await store.record_entry(tokens(id="a")) is True
        assert await total(store) == 150
