"""Copies all threads of a LangGraph checkpointer into Redis or Valkey. It can be run again, or after it was broken off.

    python examples/copy_threads.py postgresql://localhost/app redis://localhost
    python examples/copy_threads.py sqlite:checkpoints.db redis://localhost
    python examples/copy_threads.py redis-stack:redis://localhost redis://elsewhere

Needs: pip install 'helix-fast[langgraph]', and langgraph-checkpoint-postgres, -sqlite or -redis for the source. Threads
of a MemorySaver are in one process: await copy_threads(saver, target) there.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from helix_fast.integrations.langgraph import HelixSaver

ALL = 1_000_000  # without a limit, the official Redis saver lists the newest 10 000


def open_source(url: str) -> Any:
    """The checkpointer at a URL, as an async context manager. For others, add theirs here."""
    if url.startswith(("postgres://", "postgresql://")):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        return AsyncPostgresSaver.from_conn_string(url)
    if url.startswith("sqlite:"):
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        return AsyncSqliteSaver.from_conn_string(url.removeprefix("sqlite:"))
    if url.startswith("redis-stack:"):
        from langgraph.checkpoint.redis.aio import AsyncRedisSaver

        return AsyncRedisSaver.from_conn_string(url.removeprefix("redis-stack:"))
    return HelixSaver.from_url(url)


async def copy_threads(source: Any, target: Any) -> int:
    """Copy every thread, the oldest checkpoint first; returns how many checkpoints there were."""
    threads = {found.config["configurable"]["thread_id"] async for found in source.alist(None, limit=ALL)}
    count = 0
    for thread in sorted(threads, key=str):
        found = [each async for each in source.alist({"configurable": {"thread_id": thread}}, limit=ALL)]
        # subgraphs before the graph: whoever sees the newest checkpoint of the graph sees all of the thread
        found.sort(key=lambda each: (not each.config["configurable"]["checkpoint_ns"], each.checkpoint["id"]))
        stored: set[tuple[str, str, Any]] = set()
        for each in found:
            await copy_checkpoint(target, each, stored)
        count += len(found)
    return count


async def copy_checkpoint(target: Any, found: Any, stored: set[tuple[str, str, Any]]) -> None:
    """Copy one checkpoint and its pending writes. ``stored`` has the values that the target has already."""
    ids = found.config["configurable"]
    space, versions = ids["checkpoint_ns"], found.checkpoint["channel_versions"]
    where: dict[str, Any] = {"thread_id": ids["thread_id"], "checkpoint_ns": space}
    if found.parent_config is not None:
        where["checkpoint_id"] = found.parent_config["configurable"]["checkpoint_id"]
    new = {name: version for name, version in versions.items() if (space, name, version) not in stored}
    stored |= {(space, name, version) for name, version in new.items()}
    written = await target.aput({"configurable": where}, found.checkpoint, found.metadata, new)
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes or ():
        tasks.setdefault(task, []).append((channel, value))
    for number, (task, writes) in enumerate(tasks.items()):
        # no checkpointer returns the paths of tasks: these keep the order in which it returns the writes
        await target.aput_writes(written, writes, task, f"{number:06}")


async def main(source: str, target: str) -> None:
    async with open_source(source) as old, HelixSaver.from_url(target) as new:
        print(f"{await copy_threads(old, new)} checkpoints copied")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
