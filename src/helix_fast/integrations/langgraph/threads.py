"""Threads: the stored threads of one server, as bytes. Scripts, keys and the index; no LangGraph and no serializer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from helix_fast.errors import HelixError
from helix_fast.index import IdPage, Index
from helix_fast.keys import ThreadKeys, text_of, thread_index
from helix_fast.lua import Argument, script
from helix_fast.requests import Requests

from .parts import Record, Write, as_blob, as_text, namespace, take, text, writes

_PRODUCT: Final = "integrations/langgraph"
_PAGE_BYTES: Final = 1 << 20
_PORTION_BYTES: Final = 4 << 20
_THREADS_AT_ONCE: Final = 200


class Stored(NamedTuple):
    """A checkpoint as it is stored, with its writes.

    Attributes:
        blobs: value of each channel that has one, by channel.
    """

    namespace: str
    id: str
    record: Record
    blobs: dict[str, bytes]
    writes: list[Write]


class Threads:
    """The threads under one key prefix.

    Args:
        ttl: seconds from its last write until a thread expires; 0: never.
        refresh: whether reading a thread counts as a write does.
        report: gets errors of listing on a cluster: the write itself has succeeded.
    """

    def __init__(
        self, requests: Requests, prefix: str, ttl: int, refresh: bool, report: Callable[[HelixError], None]
    ) -> None:
        self._requests = requests
        self._prefix = prefix
        self._ttl = ttl
        self._renewal: Argument = ttl if refresh and ttl else ""
        self._index = Index(requests, partial(thread_index, prefix), ttl, "alist", report)

    def keys(self, thread: str) -> ThreadKeys:
        """The keys of a thread."""
        return _keys(self._prefix, thread)

    async def put(
        self, thread: str, space: str, checkpoint_id: str, record: bytes, blobs: Mapping[bytes, bytes | None]
    ) -> None:
        """Store a checkpoint.

        Args:
            blobs: values by their names within the namespace; None: the channel is empty.
        """
        head = namespace(space)
        stored: list[Argument] = []
        empty: list[Argument] = []
        for name, value in blobs.items():
            if value is None:
                empty.append(head + name)
            else:
                stored += (head + name, value)
        keys = self.keys(thread)
        args = (head + text(checkpoint_id), record, len(stored) // 2, *stored, *empty)
        lists = not self._index.lists(keys.tag)
        reply = await self._change("thread_put", keys, args, lists=lists)
        if not lists and reply == b"created":  # deleted elsewhere since this process has listed it
            await self._index.list_id(keys.tag, created=True)

    async def put_writes(self, thread: str, space: str, checkpoint_id: str, task: str, found: Iterable[Write]) -> None:
        """Store writes of a task."""
        args: list[Argument] = [namespace(space) + text(checkpoint_id), text(task)]
        for write in found:
            args += [b"%d" % write.idx, write.pack()]
        await self._change("thread_put_writes", self.keys(thread), args)

    async def get(self, thread: str, space: str, checkpoint_id: str) -> Stored | None:
        """A checkpoint; without an id the one with the largest."""
        keys = self.keys(thread)
        reply = await self._read("thread_get", keys, [namespace(space), text(checkpoint_id), self._renewal])
        if reply is None:
            return None
        place, packed, groups, named = reply
        await self._read_again(keys)
        return _stored(place, packed, groups, dict(zip(named[::2], named[1::2], strict=True)))

    async def page(
        self,
        thread: str,
        space: str | None,
        checkpoint_id: str,
        before: str,
        after: bytes,
        count: int,
    ) -> tuple[list[Stored], bool]:
        """Checkpoints of a thread, the newest first, and whether there may be more. Many bytes make a shorter page.

        Args:
            space: their namespace; None: all.
            checkpoint_id: the only one; empty: all.
            before: only smaller ids; empty: all.
            after: a namespace as it is stored; only those behind it, of the checkpoints with the id ``before``.
        """
        keys = self.keys(thread)
        head = b"" if space is None else namespace(space)
        args: list[Argument] = [head, text(checkpoint_id), text(before), after, count, _PAGE_BYTES, self._renewal]
        rows, named, more = await self._read("thread_list", keys, args)
        values = dict(zip(named[::2], named[1::2], strict=True))
        if rows:
            await self._read_again(keys)
        return [_stored(place, packed, groups, values) for place, packed, groups in rows], bool(more)

    async def delete(self, thread: str) -> None:
        """Delete everything of a thread."""
        keys = self.keys(thread)
        await self._drop("thread_delete", thread, [])
        self._index.forget(keys.tag)

    async def delete_runs(self, runs: Sequence[str]) -> None:
        """Delete the checkpoints that some runs have made, in all threads."""
        args = [text(run) for run in runs if run]
        if args:
            async for page in self.ids():
                await asyncio.gather(*(self._drop("thread_delete_runs", thread, args) for thread in page))

    async def prune(self, thread: str) -> None:
        """Keep the newest checkpoint of each namespace, and what its delta channels need."""
        await self._drop("thread_prune", thread, [])

    async def _drop(self, name: str, thread: str, args: Sequence[Argument]) -> None:
        await self._change(name, self.keys(thread), args, lists=True, remember=False)

    async def history(
        self,
        thread: str,
        space: str,
        checkpoint_id: str,
        channels: Sequence[str],
    ) -> list[tuple[list[Write], dict[str, bytes]]]:
        """Writes and blobs of each ancestor of a checkpoint, as far as some channel needs them."""
        keys = self.keys(thread)
        args: list[Argument] = [namespace(space), text(checkpoint_id), self._renewal, *map(text, channels)]
        steps = await self._read("thread_history", keys, args)
        return [
            (writes(groups), dict(zip(map(as_text, seeds[::2]), seeds[1::2], strict=True))) for groups, seeds in steps
        ]

    async def copy(self, source: str, target: str) -> None:
        """Copy everything of a thread into another, the newest checkpoints last."""
        if source == target:
            return
        keys = self.keys(source)
        names = (keys.all[0], *keys.all[2:4])
        checkpoints, blobs, found = await self._requests.run(script(_PRODUCT, "thread_dump"), keys.tag, names, [])
        rows = sorted(zip(checkpoints[::2], checkpoints[1::2], strict=True), key=_newest_last)
        keys = self.keys(target)
        for which, fields in ((3, blobs), (4, found), (1, [item for row in rows for item in row])):
            for portion in _portions(fields):
                await self._change("thread_fill", keys, [which, *portion])
        if rows:
            await self._index.list_id(keys.tag, created=True)

    async def ids(self) -> AsyncIterator[list[str]]:
        """The ids of all threads, in pages."""
        cursor: str | None = None
        while True:
            page: IdPage = await self._index.page(_THREADS_AT_ONCE, cursor, self._exists)
            yield list(map(text_of, page))
            cursor = page.cursor
            if cursor is None:
                return

    async def _exists(self, tag: str) -> bool:
        order = self.keys(text_of(tag)).order
        return bool(await self._requests.command(tag, b"EXISTS", order))

    async def _read(self, name: str, keys: ThreadKeys, args: Sequence[Argument]) -> Any:
        return await self._requests.run(script(_PRODUCT, name), keys.tag, keys.all[:4], args)

    async def _read_again(self, keys: ThreadKeys) -> None:
        """List a thread that a read has renewed."""
        if self._renewal and not self._index.lists(keys.tag):
            await self._index.list_id(keys.tag, created=False)

    async def _change(
        self, name: str, keys: ThreadKeys, args: Sequence[Argument], *, lists: bool = False, remember: bool = True
    ) -> bytes:
        """Run a script that includes ``thread_prelude``, under a new operation id, so that it may be retried."""
        index = self._index.key_beside(keys.all[0], keys.tag, lists=lists)
        head: tuple[Argument, ...] = (os.urandom(8), self._ttl)
        reply: bytes = await self._requests.run(script(_PRODUCT, name), keys.tag, (*keys.all, index), (*head, *args))
        if lists and remember:
            await self._index.listed(keys.tag, created=reply == b"created")
        return reply


@lru_cache(4096)  # a step of a graph is two calls for one thread
def _keys(prefix: str, thread: str) -> ThreadKeys:
    return ThreadKeys(prefix, thread)


def _stored(
    place: bytes,
    packed: bytes,
    groups: Iterable[bytes | None],
    values: Mapping[bytes, bytes | None],
) -> Stored:
    """One row of a reply. ``values`` has the blobs by their names in the hash."""
    record = Record.unpack(packed)
    space, at = take(place, 0)
    found = ((as_blob(name)[0], values.get(place[:at] + name)) for name in record.blobs)
    blobs = {channel: value for channel, value in found if value is not None}
    return Stored(as_text(space), as_text(place[at:]), record, blobs, writes(groups))


def _newest_last(row: tuple[bytes, bytes]) -> tuple[bool, bytes]:
    """Order of a copy: by id, the root namespace behind the others."""
    space, at = take(row[0], 0)
    return not space, row[0][at:]


def _portions(fields: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Fields and values, in turns, in portions of some megabytes."""
    portion: list[bytes] = []
    size = 0
    for i in range(0, len(fields), 2):
        portion += fields[i : i + 2]
        size += len(fields[i]) + len(fields[i + 1])
        if size >= _PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
