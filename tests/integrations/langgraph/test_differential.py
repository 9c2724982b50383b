"""Random histories on two savers of one server, and on LangGraph's InMemorySaver: both must show the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.memory import InMemorySaver

THREADS = ("t", "a:b*{c}", "", "%", "ü {} ü", "line\nbreak\x00", "x" * 700, "42")
NAMESPACES = ("", "child:1", "child:1|grand:2", "ä", "a\x00b")
IDS = tuple(f"1f0{n:02d}-{'é' if n % 5 == 0 else 'e'}" for n in range(24))
CHANNELS = ("messages", "branch:to:x", "naïve", "d1", "d2")
DELTAS = ("d1", "d2")
TASKS = ("b2", "a1", "c3:x", "00000000-0000-0000-0000-000000000000")
PATHS = ("", "~__pregel_pull, a", "~__pregel_push, 0000000001", "é")
SPECIAL = ("__error__", "__scheduled__", "__interrupt__", "__resume__")
VALUES: tuple[Any, ...] = (None, 0, "text", b"\x00:12:\xff", [1, (2, 3)], {"k": {"é": 2**60}}, "x" * 5000, "")
RUNS = ("r1", "r2", "r:{3}", "")


def config(thread: str, space: str | None = None, checkpoint: str | None = None) -> dict[str, Any]:
    names = {"thread_id": thread, "checkpoint_ns": space, "checkpoint_id": checkpoint}
    return {"configurable": {name: value for name, value in names.items() if value is not None}}


def shown(found: Any) -> Any:
    """A tuple, without what a caller has put into its config beside the ids."""
    if found is None:
        return None
    ids = ("thread_id", "checkpoint_ns", "checkpoint_id")
    own = {name: found.config["configurable"].get(name) or "" for name in ids}
    parent = found.parent_config and found.parent_config["configurable"]
    return own, found.checkpoint, found.metadata, parent, found.pending_writes


def place(found: Any) -> tuple[str, str, str]:
    own = shown(found)[0]
    return own["thread_id"], own["checkpoint_ns"], own["checkpoint_id"]


class Model(InMemorySaver):
    """LangGraph's own saver, and the extended methods that it lacks."""

    def checkpoints(self, thread: str) -> list[tuple[str, str]]:
        return [(space, each) for space, stored in self.storage.get(thread, {}).items() for each in stored]

    def drop(self, thread: str, space: str, checkpoint: str) -> None:
        del self.storage[thread][space][checkpoint]
        self.writes.pop((thread, space, checkpoint), None)

    def delete_for_runs(self, run_ids: Any) -> None:
        for thread in list(self.storage):
            for space, each in self.checkpoints(thread):
                metadata = self.serde.loads_typed(self.storage[thread][space][each][1])
                if metadata.get("run_id") and metadata["run_id"] in run_ids:
                    self.drop(thread, space, each)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        for space, each in self.checkpoints(source_thread_id):
            self.storage[target_thread_id][space][each] = self.storage[source_thread_id][space][each]
        for (thread, space, each), writes in list(self.writes.items()):
            if thread == source_thread_id:
                self.writes[target_thread_id, space, each].update(writes)
        for (thread, *name), value in list(self.blobs.items()):
            if thread == source_thread_id:
                self.blobs[(target_thread_id, *name)] = value  # type: ignore[index]

    def keep_latest(self, thread: str) -> None:
        for space, stored in self.storage.get(thread, {}).items():
            if not stored:
                continue
            head = max(stored)
            found = self.get_tuple(config(thread, space, head))
            assert found is not None
            open_ = {
                channel
                for channel in found.metadata.get("counters_since_delta_snapshot", {})
                if channel in found.checkpoint["channel_versions"] and channel not in found.checkpoint["channel_values"]
            }
            keep = {head}
            while open_ and found is not None and found.parent_config is not None:
                found = self.get_tuple(found.parent_config)
                if found is not None:
                    keep.add(found.checkpoint["id"])
                    open_ -= found.checkpoint["channel_values"].keys()
            for each in stored.keys() - keep:
                self.drop(thread, space, each)


class History:
    """One random history."""

    def __init__(self, seed: int, savers: list[Any]) -> None:
        self.random = random.Random(seed)
        self.savers = savers
        self.model = Model()
        self.versions = 0

    @property
    def saver(self) -> Any:
        return self.random.choice(self.savers)

    def place(self) -> tuple[str, str, str]:
        pick = self.random.choice
        return pick(self.threads), pick(NAMESPACES), pick(IDS)

    @property
    def threads(self) -> tuple[str, ...]:
        return THREADS[:4] if self.versions % 2 else THREADS[4:]

    def version(self) -> Any:
        self.versions += 1
        return self.random.choice([f"{self.versions:032}.{self.random.random():016}", self.versions, self.versions / 2])

    def put(self) -> tuple[str, tuple[Any, ...]]:
        thread, space, checkpoint = self.place()
        parent = self.random.choice([None, *(each for each in IDS if each < checkpoint)])
        versions: dict[str, Any] = {}
        before = self.model.get_tuple(config(thread, space, parent)) if parent else None
        if before is not None:
            versions = dict(before.checkpoint["channel_versions"])
        new = {channel: self.version() for channel in self.random.sample(CHANNELS, self.random.randrange(4))}
        versions.update(new)
        if self.random.random() < 0.1:
            versions.pop(self.random.choice(CHANNELS), None)
        values = {
            channel: self.random.choice(VALUES)
            for channel in versions
            if self.random.random() < (0.2 if channel in DELTAS else 0.8)
        }
        metadata: dict[str, Any] = {"source": "loop", "step": self.random.randrange(3), "parents": {}}
        counters = {channel: (1, 2) for channel in DELTAS if channel in versions and channel not in values}
        if counters:
            metadata["counters_since_delta_snapshot"] = counters
        where = config(thread, space, parent)
        where["metadata"] = {"run_id": self.random.choice(RUNS), "user": self.random.choice(["u", 1, 2.5])}
        stored = {
            "v": 4, "id": checkpoint, "ts": "now", "channel_values": values, "channel_versions": versions,
            "versions_seen": {"n": dict(versions)}, "updated_channels": None,
        }  # fmt: skip
        return "put", (where, stored, metadata, new)

    def put_writes(self) -> tuple[str, tuple[Any, ...]]:
        pick = self.random.choice
        writes = [(pick(CHANNELS + SPECIAL), pick(VALUES)) for _ in range(self.random.randrange(5))]
        return "put_writes", (config(*self.place()), writes, pick(TASKS), pick(PATHS))

    async def change(self, name: str, args: tuple[Any, ...]) -> None:
        getattr(self.model, name)(*args)
        if self.random.random() < 0.2:  # the blocking method, in another thread
            await asyncio.to_thread(getattr(self.saver, name), *args)
        else:
            await getattr(self.saver, f"a{name}")(*args)

    async def step(self) -> None:
        number = self.random.random()
        thread = self.random.choice(self.threads)
        if number < 0.4:
            await self.change(*self.put())
        elif number < 0.75:
            await self.change(*self.put_writes())
        elif number < 0.85:
            await self.at_once()
        elif number < 0.88:
            await self.change("delete_thread", (thread,))
        elif number < 0.92:
            await self.change("delete_for_runs", (self.random.sample(RUNS, 2),))
        elif number < 0.96:
            target = self.random.choice(self.threads)
            await self.change("copy_thread", (thread, target))
        else:
            self.model.keep_latest(thread)
            await self.saver.aprune([thread])
        await self.look(thread)

    async def at_once(self) -> None:
        """Changes whose order makes no difference: a checkpoint, and the writes of several tasks there."""
        name, args = self.put()
        where = config(args[0]["configurable"]["thread_id"], args[0]["configurable"]["checkpoint_ns"], args[1]["id"])
        changes = [(name, args)]
        for task in TASKS:
            _, (_, writes, _, path) = self.put_writes()
            changes.append(("put_writes", (where, writes, task, path)))
        for name, args in changes:
            getattr(self.model, name)(*args)
        self.random.shuffle(changes)
        # each twice, as after a lost reply that a caller does not wait for
        await asyncio.gather(*(getattr(self.saver, f"a{name}")(*args) for name, args in changes * 2))

    async def look(self, thread: str) -> None:
        """Read in a few ways what is there."""
        space, checkpoint = self.random.choice(NAMESPACES), self.random.choice(IDS)
        for where in (config(thread, space), config(thread, space, checkpoint), config(thread)):
            assert shown(await self.saver.aget_tuple(where)) == shown(self.model.get_tuple(where)), where
            channels = self.random.sample(CHANNELS, self.random.randrange(4))
            mine = await self.saver.aget_delta_channel_history(config=where, channels=channels)
            assert mine == self.model.get_delta_channel_history(config=where, channels=channels), where
        options: dict[str, Any] = {}
        if self.random.random() < 0.3:
            options["filter"] = self.random.choice([{"step": 1}, {"user": 1}, {"step": 0, "run_id": "r1"}, {"no": 1}])
        if self.random.random() < 0.3:
            options["before"] = config(thread, None, checkpoint)
        for where in (config(thread, space), config(thread, space, self.random.choice(IDS))):
            most = self.random.choice([None, 0, 1, 3])
            mine = [found async for found in self.saver.alist(where, **options, limit=most)]
            theirs = list(self.model.list(where, **options, limit=most))
            assert list(map(shown, mine)) == list(map(shown, theirs)), (where, options, most)
        for where in (config(thread), config(thread, None, checkpoint)):
            mine = [found async for found in self.saver.alist(where, **options)]
            theirs = list(self.model.list(where, **options))
            assert list(map(place, mine)) == list(map(place, newest(theirs))), (where, options)
            assert list(map(shown, mine)) == list(map(shown, newest(theirs))), (where, options)

    async def look_at_all(self) -> None:
        """Read the whole server."""
        mine = [found async for found in self.saver.alist(None)]
        theirs = list(self.model.list(None))
        assert [each.checkpoint["id"] for each in mine] == [each.checkpoint["id"] for each in newest(theirs)]
        assert sorted(map(shown, mine), key=repr) == sorted(map(shown, theirs), key=repr)
        some = [found async for found in self.saver.alist(None, limit=5)]
        assert [each.checkpoint["id"] for each in some] == [each.checkpoint["id"] for each in mine[:5]]


def newest(found: list[Any]) -> list[Any]:
    """By id, downwards; equal ids by namespace as it is stored: its length first."""
    size = lambda each: (b"%d:" % len(place(each)[1].encode())) + place(each)[1].encode()  # noqa: E731
    return sorted(sorted(found, key=size), key=lambda each: place(each)[2], reverse=True)


async def run(make_saver: Callable[..., Awaitable[Any]], seed: int, steps: int) -> None:
    history = History(seed, [await make_saver(key_prefix=f"h{seed}:") for _ in range(2)])
    print(f"HELIX_TEST_SEED={seed}")
    for _ in range(steps):
        await history.step()
    await history.look_at_all()


@pytest.mark.parametrize("round_", range(3))
async def test_a_random_history_reads_as_in_langgraphs_own_saver(
    make_saver: Callable[..., Awaitable[Any]], round_: int
) -> None:
    await run(make_saver, int(os.environ.get("HELIX_TEST_SEED", "0")) or random.randrange(2**32), 60)


@pytest.mark.thorough
async def test_many_random_histories_read_as_in_langgraphs_own_saver(
    make_saver: Callable[..., Awaitable[Any]],
) -> None:
    for _ in range(40):
        await run(make_saver, random.randrange(2**32), 150)
