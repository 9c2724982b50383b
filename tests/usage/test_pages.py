"""Prefetched pages: a list that changes under them is never added up in part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.keys import UsageKeys
from helix_fast.testing.contract.usage_helpers import tokens
from helix_fast.usage import pages as usage_pages
from helix_fast.usage.store import RedisUsageStore
from helix_fast.usage.totals import Cursor
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.faults

KEYS = UsageKeys("helix", "s")
COUNT = 400
Change = Callable[[RedisUsageStore], Awaitable[Any]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_pages, "FIRST_PAGE", 10)
    monkeypatch.setattr(usage_pages, "PAGE", 50)
    monkeypatch.setattr(usage_pages, "PLAIN_BYTES", 4000)  # some 25 entries


@pytest.fixture
async def other(server_url: str) -> AsyncIterator[RedisUsageStore]:
    async with RedisUsageStore(server_url) as made:
        await made.record_entries([tokens(id=f"old-{n}", tokens={"total": 1}) for n in range(COUNT)])
        yield made


async def made_anew(other: RedisUsageStore) -> None:
    await other.delete("s")
    await other.record_entries([tokens(id=f"new-{n}", tokens={"total": 1000}) for n in range(COUNT)])


async def made_anew_by_a_program_that_knows_no_nonces(other: RedisUsageStore) -> None:
    entries = await other._requests.command("s", "LRANGE", KEYS.entries, 0, -1)
    await other._requests.command("s", "DEL", KEYS.entries)
    await other._requests.command("s", "RPUSH", KEYS.entries, *(entry.replace(b"old-", b"new-") for entry in entries))


async def cut_short(other: RedisUsageStore) -> None:
    await other._requests.command("s", "LTRIM", KEYS.entries, 0, -30)


async def cut_at_the_beginning(other: RedisUsageStore) -> None:
    await other._requests.command("s", "LTRIM", KEYS.entries, 7, -1)


async def gone(other: RedisUsageStore) -> None:
    await other.delete("s")


async def grown(other: RedisUsageStore) -> None:
    await other.record_entries([tokens(id=f"more-{n}", tokens={"total": 7}) for n in range(60)])


async def scripts_forgotten(other: RedisUsageStore) -> None:
    await other._requests.command("s", "SCRIPT", "FLUSH")


def changing(monkeypatch: pytest.MonkeyPatch, other: RedisUsageStore, change: Change, when: int) -> None:
    """Have the list changed just before a page is checked, with others in flight, and more to be requested."""
    read, count = usage_pages.Pages._next_prefetched, 0

    async def change_and_read(pages: usage_pages.Pages) -> Any:
        nonlocal count
        count += 1
        if count == when:
            await change(other)
        return await read(pages)

    monkeypatch.setattr(usage_pages.Pages, "_next_prefetched", change_and_read)


@pytest.mark.parametrize("when", [1, 4])
@pytest.mark.parametrize(
    "change",
    [
        made_anew, made_anew_by_a_program_that_knows_no_nonces, cut_short, cut_at_the_beginning, gone, grown,
        scripts_forgotten,
    ],
)  # fmt: skip
async def test_a_list_that_changes_while_its_pages_fly_is_read_as_it_is_then(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch, change: Change, when: int
) -> None:
    changing(monkeypatch, other, change, when)
    async with RedisUsageStore(server_url) as store:
        rollup = await store.get_rollup("s")
        expected = await other.get_rollup("s")
        assert rollup == expected


@pytest.mark.parametrize("change", [made_anew, made_anew_by_a_program_that_knows_no_nonces, cut_short, grown])
async def test_entries_are_those_of_one_list(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    changing(monkeypatch, other, change, 3)
    async with RedisUsageStore(server_url) as store:
        found = await store.get_entries("s")
        assert found == await other.get_entries("s")


async def test_an_entry_changed_at_the_seam_of_two_pages_is_noticed(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, seams = usage_pages.Pages._prefetch, []

    async with RedisUsageStore(server_url) as store:

        def ask_and_note(pages: usage_pages.Pages) -> None:
            ask(pages)
            seams.append(pages._next - 1)  # the last entry of the pages in flight: the page after begins with it

        async def change(other: RedisUsageStore) -> None:
            assert await store.exists("s")  # by the same connection: what was asked before has been read
            await other._requests.command(
                "s", "LSET", KEYS.entries, seams[0], b'{"kind":"custom","type":"t","value":1}'
            )

        monkeypatch.setattr(usage_pages.Pages, "_prefetch", ask_and_note)
        changing(monkeypatch, other, change, 1)
        rollup = await store.get_rollup("s")
    assert rollup == await other.get_rollup("s")


async def begun(store: RedisUsageStore, monkeypatch: pytest.MonkeyPatch) -> tuple[usage_pages.Pages, Cursor]:
    """Pages of which the first, of ten entries, has been read, and the next ones have not been asked for."""
    with monkeypatch.context() as patched:
        patched.setattr(usage_pages.Pages, "_prefetch", lambda _pages: None)
        pages, cursor = usage_pages.Pages(store._requests, "s", KEYS), Cursor()
        first = await pages.next(cursor)
    assert first is not None
    cursor.move(first.nonce, first.entries)
    return pages, cursor


@pytest.mark.parametrize("changed", ["nonce", "first"])
async def test_a_list_made_anew_with_the_same_seam_is_noticed(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    entries = await other._requests.command("s", "LRANGE", KEYS.entries, 0, -1)
    entries[15:25] = [entry.replace(b'"total":1', b'"total":5') for entry in entries[15:25]]
    async with RedisUsageStore(server_url) as store:
        pages, cursor = await begun(store, monkeypatch)
        if changed == "nonce":
            await other._requests.command("s", "HSET", KEYS.ids, "", "another")
        else:
            entries[0] = entries[0].replace(b"old-", b"new-")
        await other._requests.command("s", "DEL", KEYS.entries)
        await other._requests.command("s", "RPUSH", KEYS.entries, *entries)
        pages._prefetch()
        page = await pages.next(cursor)
        assert page is not None
        assert page.anew
        assert page.entries == entries[:50]


async def test_a_list_cut_short_is_read_on_from_what_there_is(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisUsageStore(server_url) as store:
        pages, cursor = await begun(store, monkeypatch)
        await other._requests.command("s", "LTRIM", KEYS.entries, 0, 14)
        pages._prefetch()
        found = []
        for _ in range(2):
            page = await pages.next(cursor)
            assert page is not None
            assert not page.anew
            found.append(page.entries)
            cursor.move(page.nonce, page.entries)
        assert [len(entries) for entries in found] == [5, 0]


async def test_all_pages_but_the_first_are_plain(
    server_url: str, other: RedisUsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisUsageStore(server_url) as store:
        run, scripts = store._requests.run, 0

        async def counted(*args: Any, **options: Any) -> Any:
            nonlocal scripts
            scripts += 1
            return await run(*args, **options)

        monkeypatch.setattr(store._requests, "run", counted)
        rollup = await store.get_rollup("s")
        assert rollup is not None
        assert (rollup.tokens.total, scripts) == (COUNT, 1)


@pytest.mark.parametrize("cut", [3000, 9000, 20_000, 33_333, 47_000])
async def test_a_connection_lost_with_pages_on_their_way_costs_no_entry(
    other: RedisUsageStore, fault_proxy: FaultProxy, cut: int
) -> None:
    async with RedisUsageStore(fault_proxy.url) as store:
        assert await store.exists("s")
        fault_proxy.cut_after_reply_bytes(cut)
        assert await store.get_rollup("s") == await other.get_rollup("s")
        fault_proxy.cut_after_reply_bytes(cut)
        assert await store.get_entries("s") == await other.get_entries("s")
