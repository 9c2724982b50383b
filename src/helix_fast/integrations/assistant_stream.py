"""Resumable streams of assistant-stream, on any Redis or Valkey. Needs the extra ``assistant-stream``."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.keys import ByteStreamKeys
from helix_fast.lua import script

from .extras import needs
from .owned import OwnedHelix

with needs("assistant-stream 0.0.36 or newer", extra="assistant-stream"):
    from assistant_stream.resumable import (
        DEFAULT_TTL_MS,
        CancellationSignal,
        ResumableStreamEntry,
        ResumableStreamError,
        ResumableStreamRole,
        ResumableStreamStatus,
        validate_stream_id,
    )

__all__ = ["HelixResumableStreamStore"]

_ACQUIRE: Final = script("integrations", "assistant_acquire")
_APPEND: Final = script("integrations", "assistant_append")
_READ: Final = script("integrations", "assistant_read")
_CURSOR: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 200  # chunks in one reply
_LOOK_AGAIN: Final = 5.0  # seconds after which a reader looks whether its stream has expired


class HelixResumableStreamStore:
    """A ``ResumableStreamStore`` for ``create_resumable_stream_context(store=…)``; on a cluster, too.

    The bytes of a chunk come back as they were. Readers are woken by each append and do not poll. Each change is one
    script, made once however often its reply is lost.

    Args:
        target: a Helix, or what ``connect`` takes: then it opens at first use, and ``close`` closes it.
        default_ttl_ms: milliseconds that a stream is kept after its last change.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError: wrong options.
    """

    def __init__(
        self, target: Helix | str | Redis | RedisCluster, *, default_ttl_ms: int = DEFAULT_TTL_MS, **options: Any
    ) -> None:
        self._ttl_ms = arguments.integer(default_ttl_ms, "default_ttl_ms", 1)
        self._helix = OwnedHelix(target, **options)

    async def acquire(self, stream_id: str, *, ttl_ms: int | None = None) -> ResumableStreamRole:
        """Make the stream: "producer" for the one caller that has made it, "consumer" for others."""
        helix, keys = await self._keys(stream_id)
        ttl = self._ttl_ms if ttl_ms is None else arguments.integer(ttl_ms, "ttl_ms", 1)
        names = (keys.meta, keys.chunks)
        made = await helix.streams._requests.run(_ACQUIRE, stream_id, names, (secrets.token_hex(8), ttl))
        return "producer" if made else "consumer"

    async def append(self, stream_id: str, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            ResumableStreamError: the stream has ended. RuntimeError: there is none.
        """
        if await self._change(stream_id, "streaming", chunk) == b"finalized":
            raise ResumableStreamError("finalized", f"Stream already finalized: {stream_id}")

    async def finalize(self, stream_id: str, status: Literal["done", "error"], error: str | None = None) -> None:
        """End the stream; one that has ended stays as it is.

        Raises:
            RuntimeError: there is none.
        """
        text = "" if status == "done" else "Stream errored" if error is None else error
        await self._change(stream_id, status, text.encode("utf-8", "replace"))

    async def read(
        self, stream_id: str, cursor: str, signal: CancellationSignal
    ) -> AsyncIterator[ResumableStreamEntry]:
        """The chunks after a cursor, all for an empty one, until the stream ends, is deleted, or the signal is set.

        Raises:
            RuntimeError: the stream has ended with this error, or there is none.
        """
        helix, keys = await self._keys(stream_id)
        requests, wake = helix.streams._requests, _Wake()
        hub = requests.topology.hub(stream_id)
        start, first = (f"({cursor}" if _CURSOR.fullmatch(cursor) else "-"), True
        await requests.retrying(lambda: hub.subscribe(keys.channel, wake), stream_id)
        try:
            while not signal.is_set():
                wake.event.clear()
                reply = await requests.run(_READ, stream_id, (keys.meta, keys.chunks), (start, _PAGE))
                status, error, entries = reply[0].decode(), reply[1].decode(), reply[2]
                if first and status == "missing":
                    raise RuntimeError(f"Stream not found: {stream_id}")
                first = False
                for number, fields in entries:
                    if signal.is_set():
                        return
                    start = f"({number.decode()}"
                    yield ResumableStreamEntry(number.decode(), fields[1])
                if entries:
                    continue
                if status == "error":
                    raise RuntimeError(error or "Stream errored")
                if status != "streaming":
                    return
                await _first_of(wake.event, signal)
        finally:
            hub.unsubscribe(keys.channel, wake)

    async def status(self, stream_id: str) -> ResumableStreamStatus:
        """Whether it goes on, has ended, or is missing."""
        helix, keys = await self._keys(stream_id)
        status = await helix.streams._requests.command(stream_id, "HGET", keys.meta, "status")
        return "missing" if status is None else status.decode()

    async def delete(self, stream_id: str) -> None:
        """Delete the stream; its readers end."""
        helix, keys = await self._keys(stream_id)
        requests = helix.streams._requests
        await requests.command(stream_id, "DEL", keys.meta, keys.chunks)
        await requests.command(stream_id, await requests.publish_command(), keys.channel, "")

    async def close(self) -> None:
        """Close the connection if the store has made it. Safe to call twice."""
        await self._helix.close()

    async def _keys(self, stream_id: str) -> tuple[Helix, ByteStreamKeys]:
        validate_stream_id(stream_id)
        helix = await self._helix.get()
        return helix, ByteStreamKeys(helix.streams.key_prefix, stream_id)

    async def _change(self, stream_id: str, status: str, data: bytes) -> Any:
        helix, keys = await self._keys(stream_id)
        requests = helix.streams._requests
        names = (keys.meta, keys.chunks, keys.operation(secrets.token_hex(8)))
        args = (status, data, _REMEMBERED_MS, await requests.publish_command(), keys.channel)
        reply = await requests.run(_APPEND, stream_id, names, args)
        if reply == b"missing":
            raise RuntimeError(f"Stream not found: {stream_id}")
        return reply


class _Wake:
    """Sets an event at each message of a channel."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def pushed(self, _message: Any, /) -> None:
        self.event.set()

    def resync(self) -> None:
        self.event.set()


async def _first_of(*events: CancellationSignal) -> None:
    """Wait for the first of these, or until it is time to look again."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=_LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
