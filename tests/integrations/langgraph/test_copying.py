"""examples/copy_threads.py: threads of another checkpointer go on in ours."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph.graph")

from langgraph.checkpoint.memory import InMemorySaver

from examples.copy_threads import copy_threads, main
from helix_fast.integrations.langgraph import HelixSaver
from tests.integrations.langgraph.test_graphs import conversation, play, shown
from tests.integrations.langgraph.test_saver import checkpoint, config, put

Make = Callable[..., Awaitable[Any]]


async def history(graph: Any, thread: str) -> list[Any]:
    return [shown(state) async for state in graph.aget_state_history({"configurable": {"thread_id": thread}})]


async def played(saver: Any) -> list[Any]:
    graph = conversation(saver)
    await play(graph, "sync", "t")
    return await history(graph, "t")


async def test_copied_threads_read_and_go_on_as_before(make_saver: Make) -> None:
    source, target = InMemorySaver(), await make_saver()
    old, new = conversation(source), conversation(target)
    for thread in ("a", "b:{c}"):
        await play(old, "sync", thread)
    count = len(list(source.list(None)))
    assert await copy_threads(source, target) == count
    assert await copy_threads(source, target) == count  # again: nothing comes twice
    for thread in ("a", "b:{c}"):
        assert await history(new, thread) == await history(old, thread)
    mine = [found async for found in target.alist(None)]
    assert len(mine) == count
    theirs = {(each.config["configurable"]["thread_id"], each.checkpoint["id"]): each for each in source.list(None)}
    for found in mine:
        other = theirs[found.config["configurable"]["thread_id"], found.checkpoint["id"]]
        assert found.checkpoint == other.checkpoint
        assert found.metadata == other.metadata
        assert found.pending_writes == other.pending_writes
    config: Any = {"configurable": {"thread_id": "a"}}
    from langgraph.types import Command

    assert await new.ainvoke(Command(resume="x"), config) == await old.ainvoke(Command(resume="x"), config)


async def test_the_program_copies_from_sqlite(
    server_url: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite.aio")
    path = tmp_path / "checkpoints.db"
    async with sqlite.AsyncSqliteSaver.from_conn_string(str(path)) as source:
        before = await played(source)
    await main(f"sqlite:{path}", server_url)
    assert "checkpoints copied" in capsys.readouterr().out
    async with HelixSaver(server_url) as target:
        assert await history(conversation(target), "t") == before


@pytest.mark.slow
async def test_the_program_copies_from_postgres(server_url: str) -> None:
    theirs = pytest.importorskip("langgraph.checkpoint.postgres.aio")
    if shutil.which("initdb") is None:
        pytest.skip("needs initdb on PATH")
    from benchmarks.langgraph_savers import postgres

    with postgres() as url:
        async with theirs.AsyncPostgresSaver.from_conn_string(url) as source:
            await source.setup()
            before = await played(source)
        await main(url, server_url)
    async with HelixSaver(server_url) as target:
        assert await history(conversation(target), "t") == before


async def test_a_copy_that_breaks_off_shows_only_whole_checkpoints_and_the_newest_last(
    make_saver: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = await make_saver()
    for number in "123":
        stored = await put(saver, number)
        await saver.aput_writes(stored, [("a", number)], "task")
    inner = checkpoint("9", {"a": 1}, a="inner")
    await saver.aput(config(space="inner"), inner, {}, {"a": 1})
    monkeypatch.setattr("helix_fast.integrations.langgraph.threads._PORTION_BYTES", 1)  # a request each field
    whole = [found[1:3] + found[4:] async for found in saver.alist(config())]
    threads = saver._threads
    change, left = threads._change, 0

    async def breaks(*args: Any, **options: Any) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("broken off")
        return await change(*args, **options)

    for requests in itertools.count():
        left = requests
        threads._change = breaks  # type: ignore[method-assign]
        with contextlib.suppress(ConnectionError):
            await saver.acopy_thread("t", "u")
        threads._change = change  # type: ignore[method-assign]
        copied = [found[1:3] + found[4:] async for found in saver.alist(config("u"))]
        assert all(found in whole for found in copied)
        if left >= 0:
            break
        assert "3" not in [found[0]["id"] for found in copied]
        await saver.adelete_thread("u")
    assert requests > 10
    assert copied == whole
