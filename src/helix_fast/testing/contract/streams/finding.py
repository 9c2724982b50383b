"""``list_streams``: the streams that exist, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import InvalidArgumentError
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number
from helix_fast.testing.contract.fixtures import MakeStreams
from helix_fast.testing.contract.lock_helpers import comes_true


async def listed(streams: StreamManager, **options: Any) -> list[str]:
    """All pages, one after another."""
    found: list[str] = []
    cursor = None
    while True:
        page = await streams.list_streams(cursor=cursor, **options)
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


async def test_streams_are_listed_while_they_exist(make_streams: MakeStreams) -> None:
    first, second, other = make_streams(), make_streams(), make_streams(key_prefix="other:")
    assert list(await first.list_streams()) == []
    ids = [f"stream {n}" for n in range(30)] + ["日本", "07"]
    for streams, some in ((first, ids[::2]), (second, ids[1::2])):
        for one in some:
            await (await streams.create_writer(one, "agent")).close()
    await other.create_writer("elsewhere", "agent")
    for limit in (None, 1, 7, 100):
        assert sorted(await listed(second, limit=limit)) == sorted(ids)
    page = await first.list_streams(limit=5)
    assert len(page) == 5
    for one in ids[:20]:
        await second.delete_stream(one)
    assert sorted(await listed(first, limit=3)) == sorted(ids[20:])
    await first.create_writer(ids[0], "agent")
    assert sorted(await listed(second)) == sorted([ids[0], *ids[20:]])
    assert list(await other.list_streams()) == ["elsewhere"]


async def test_streams_that_are_over_or_reset_are_listed(streams: StreamManager) -> None:
    for one in ("ended", "failed", "reset", "paused"):
        async with await streams.create_writer(one, "agent") as writer:
            await writer.write(number(1))
    await streams.end_stream("ended")
    await streams.fail_stream("failed", "why")
    await streams.reset_stream("reset")
    await streams.pause_stream("paused")
    assert sorted(await streams.list_streams()) == ["ended", "failed", "paused", "reset"]


async def test_streams_that_are_kept_are_listed_beside_those_that_expire(make_streams: MakeStreams) -> None:
    keeping, brief = make_streams(ttl=None), make_streams(ttl=1)
    await (await brief.create_writer("brief", "agent")).close()
    await (await keeping.create_writer("kept", "agent")).close()

    async def expired() -> bool:
        return not await brief.exists("brief")

    await comes_true(expired)
    assert "brief" not in await listed(keeping, limit=1)
    assert "kept" in await listed(brief, limit=1)


async def test_a_page_has_a_limit_and_a_cursor_of_list_streams(streams: StreamManager) -> None:
    for wrong in ({"limit": 0}, {"limit": "1"}, {"cursor": "no cursor"}, {"cursor": 5}):
        with pytest.raises(InvalidArgumentError) as caught:
            await streams.list_streams(**wrong)
        assert "limit" in str(caught.value) or "list_streams" in str(caught.value)
