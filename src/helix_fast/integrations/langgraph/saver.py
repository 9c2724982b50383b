"""HelixSaver: LangGraph's checkpointer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.errors import InvalidArgumentError

from .connection import Connected
from .listing import first_of, newest_first, of_thread
from .parts import Record, Write, as_blob, as_typed, blob, typed
from .threads import Stored, Threads

_AT_ONCE: Final = 50  # threads, checkpoints


class HelixSaver(Connected, BaseCheckpointSaver[str]):
    """A checkpointer for LangGraph on Redis or Valkey: one server, Sentinel or a cluster, without modules.

    Every operation on a thread is one script and one round trip, takes effect as a whole, and once, however often it is
    sent. All keys of a thread are in one slot of a cluster. The value of a channel is stored once for each of its
    versions, as the serializer's bytes.

    ```python
    async with HelixSaver.from_url("redis://localhost:6379", ttl=7 * 86400) as saver:
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": "42"}})
    ```

    Args:
        target: an open Helix, or what ``connect`` takes: then ``async with``, ``with`` or ``setup`` opens it.
        key_prefix: put before every key; default: that of the Helix.
        ttl: seconds from its last write until a thread expires; None or 0: kept until deleted. Or a mapping, as the
            official Redis saver has it: ``{"default_ttl": minutes, "refresh_on_read": True}``.
        refresh_on_read: whether reading a thread counts as a write does for ``ttl``.
        serde: serializer of values; default: LangGraph's.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError, InvalidUrlError: an option is out of range or unknown.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        key_prefix: str | None = None,
        ttl: int | Mapping[str, Any] | None = None,
        refresh_on_read: bool = False,
        serde: SerializerProtocol | None = None,
        **options: Any,
    ) -> None:
        if isinstance(ttl, Mapping):
            refresh_on_read = bool(ttl.get("refresh_on_read", refresh_on_read))
            minutes = ttl.get("default_ttl")
            ttl = None if minutes is None else round(minutes * 60)
        self._ttl = arguments.ttl_seconds(ttl, "ttl")
        self._refresh = refresh_on_read
        Connected.__init__(self, target, key_prefix, options)
        BaseCheckpointSaver.__init__(self, serde=serde)
        self._stored: Threads | None = None

    @property
    def _threads(self) -> Threads:
        if self._stored is None:
            connection = self._connection
            self._stored = Threads(
                connection.requests, connection.key_prefix, self._ttl, self._refresh, connection.report
            )
        return self._stored

    # the methods of every saver

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or without a ``checkpoint_id`` the one with the largest id.

        Its pending writes are in the order in which a run applies them: by task path, task id and index.
        """
        thread, space = _thread(config), _namespace(config)
        found = await self._connection.at_home(self._threads.get(thread, space, get_checkpoint_id(config) or ""))
        return None if found is None else self._tuple(config["configurable"]["thread_id"], found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[CheckpointTuple, None]:
        """Checkpoints, those with the largest id first.

        Args:
            config: names the thread; with ``checkpoint_ns`` only that namespace, with ``checkpoint_id`` only that
                checkpoint. None: all threads.
            filter: metadata that must be equal.
            before: only checkpoints with an id smaller than its ``checkpoint_id``.
            limit: checkpoints at most.
        """
        if limit is not None and limit <= 0:
            return
        below = (get_checkpoint_id(before) if before else None) or ""
        first = limit if limit is not None and not filter else None
        if config is None:
            rows = newest_first(self._connection, self._threads, below)
        else:
            space: str | None = config["configurable"].get("checkpoint_ns")
            thread: Any = config["configurable"]["thread_id"]
            only = get_checkpoint_id(config) or ""
            rows = of_thread(self._connection, self._threads, thread, space, only, below, first)
        left = limit
        async with contextlib.aclosing(rows):
            async for thread, stored in rows:
                if filter:
                    metadata = self.serde.loads_typed(stored.record.metadata)
                    if any(metadata.get(name) != value for name, value in filter.items()):
                        continue
                yield self._tuple(thread, stored)
                if left is not None:
                    left -= 1
                    if not left:
                        return

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the values of the channels in ``new_versions``.

        Args:
            config: its thread and namespace; ``checkpoint_id`` is the parent.

        Returns:
            The config that names the checkpoint.
        """
        thread, space = _thread(config), _namespace(config)
        rest: dict[str, Any] = dict(checkpoint)
        values: dict[str, Any] = rest.pop("channel_values")
        versions: ChannelVersions = rest.pop("channel_versions")
        dumps = self.serde.dumps_typed
        full = get_checkpoint_metadata(config, metadata)
        counters: Mapping[str, Any] = full.get("counters_since_delta_snapshot") or {}
        record = Record(
            parent=get_checkpoint_id(config) or "",
            run=str(full.get("run_id") or ""),
            blobs=[*map(blob, versions, versions.values())],
            deltas=[channel for channel in counters if channel in versions and channel not in values],
            checkpoint=dumps(rest),
            metadata=dumps(full),
        )
        blobs = {
            blob(channel, version): typed(dumps(values[channel])) if channel in values else None
            for channel, version in new_versions.items()
        }
        await self._connection.at_home(self._threads.put(thread, space, checkpoint["id"], record.pack(), blobs))
        return _config(config["configurable"]["thread_id"], space, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written, at a checkpoint that may be stored later than it.

        A repetition changes nothing, but for errors, interrupts and what resumes them, where the last one counts.
        """
        thread, space = _thread(config), _namespace(config)
        found = {}
        for place, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, place)
            found[index] = Write(task_path, task_id, index, channel, self.serde.dumps_typed(value))
        id_ = config["configurable"]["checkpoint_id"]
        await self._connection.at_home(self._threads.put_writes(thread, space, id_, task_id, found.values()))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints and writes of a thread."""
        await self._connection.at_home(self._threads.delete(str(thread_id)))

    # the extended ones

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that runs have made (``run_id`` of their metadata), with their writes.

        It looks into all threads, and changes each in one step. Delta channels of later checkpoints may need what is
        deleted.
        """
        runs = [str(run) for run in _several(run_ids, "run_ids")]
        await self._connection.at_home(self._threads.delete_runs(runs))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread into another, which keeps what it has.

        The source is read in one step. The newest checkpoint is written last, so a copy that breaks off shows nothing
        that is incomplete, and can be repeated.
        """
        await self._connection.at_home(self._threads.copy(str(source_thread_id), str(target_thread_id)))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete old checkpoints. Each thread is changed in one step.

        Args:
            strategy: ``"keep_latest"`` keeps the newest checkpoint of each namespace, and its ancestors as far as the
                last snapshot of its delta channels. ``"delete"`` deletes the threads.

        Raises:
            InvalidArgumentError: another strategy, or a str in the place of a sequence.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise InvalidArgumentError(f"strategy must be 'keep_latest' or 'delete', not {arguments.shown(strategy)}")
        prune = self._threads.prune if strategy == "keep_latest" else self._threads.delete
        threads = [str(thread) for thread in _several(thread_ids, "thread_ids")]
        for first in range(0, len(threads), _AT_ONCE):
            some = threads[first : first + _AT_ONCE]
            await asyncio.gather(*(self._connection.at_home(prune(thread)) for thread in some))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What was written to channels on the way from a checkpoint back to the last stored value of each of them.

        One round trip, however long that way is.
        """
        if not channels:
            return {}
        thread, space, id_ = _thread(config), _namespace(config), get_checkpoint_id(config) or ""
        steps = await self._connection.at_home(self._threads.history(thread, space, id_, channels))
        loads = self.serde.loads_typed
        found: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        for ancestor, blobs in steps:  # from the checkpoint on: what was written last comes first
            for write in reversed(ancestor):
                entry = found.get(write.channel)
                if entry is not None and "seed" not in entry:
                    entry["writes"].append((write.task, write.channel, loads(write.value)))
            for channel, value in blobs.items():
                found[channel]["seed"] = loads(as_typed(value))
        for entry in found.values():
            entry["writes"].reverse()
        return found

    # the same, blocking

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As :meth:`aget_tuple`."""
        return self._connection.wait_for(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """As :meth:`alist`."""
        found = self.alist(config, filter=filter, before=before, limit=limit)
        try:
            while some := self._connection.wait_for(first_of(found, _AT_ONCE)):
                yield from some
        finally:
            self._connection.wait_for(found.aclose())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As :meth:`aput`."""
        return self._connection.wait_for(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As :meth:`aput_writes`."""
        self._connection.wait_for(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """As :meth:`adelete_thread`."""
        self._connection.wait_for(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As :meth:`adelete_for_runs`."""
        self._connection.wait_for(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As :meth:`acopy_thread`."""
        self._connection.wait_for(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As :meth:`aprune`."""
        self._connection.wait_for(self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As :meth:`aget_delta_channel_history`."""
        return self._connection.wait_for(self.aget_delta_channel_history(config=config, channels=channels))

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        """The next version of a channel, in the format of LangGraph's own savers.

        The random half keeps the branches of a thread apart: two of them may count the same number.
        """
        if current is None:
            number = 0
        elif isinstance(current, str):
            number = int(current.split(".", 1)[0])
        else:
            number = int(current)
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311  no secret

    def _tuple(self, thread: Any, stored: Stored) -> CheckpointTuple:
        loads = self.serde.loads_typed
        record = stored.record
        checkpoint: Any = {
            **loads(record.checkpoint),
            "channel_values": {channel: loads(as_typed(value)) for channel, value in stored.blobs.items()},
            "channel_versions": dict(map(as_blob, record.blobs)),
        }
        return CheckpointTuple(
            config=_config(thread, stored.namespace, stored.id),
            checkpoint=checkpoint,
            metadata=loads(record.metadata),
            parent_config=_config(thread, stored.namespace, record.parent) if record.parent else None,
            pending_writes=[(write.task, write.channel, loads(write.value)) for write in stored.writes],
        )


RedisSaver = HelixSaver
AsyncRedisSaver = HelixSaver


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns") or "")


def _config(thread: Any, space: str, id: str) -> RunnableConfig:  # noqa: A002
    return {"configurable": {"thread_id": thread, "checkpoint_ns": space, "checkpoint_id": id}}


def _several(ids: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(ids, str):
        raise InvalidArgumentError(f"{what} must be a sequence of ids, not a str")
    return ids
