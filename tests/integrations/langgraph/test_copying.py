"""examples/copy_threads.py: threads of another checkpointer go on in ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph.graph")

from langgraph.checkpoint.memory import InMemorySaver

from examples.copy_threads import copy_threads, main
from helix_fast.integrations.langgraph import HelixSaver
from tests.integrations.langgraph.test_graphs import conversation, play, shown

Make = Callable[..., Awaitable[Any]]


async def history(graph: Any, thread: str) -> list[Any]:
    return [shown(state) async for state in graph.aget_state_history({"configurable": {"thread_id": thread}})]


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
        graph = conversation(source)
        await play(graph, "sync", "t")
        before = await history(graph, "t")
    await main(f"sqlite:{path}", server_url)
    assert "checkpoints copied" in capsys.readouterr().out
    async with HelixSaver(server_url) as target:
        assert await history(conversation(target), "t") == before
