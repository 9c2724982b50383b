"""Pump: what an adapter yields, into the run's stream and usage. Many times faster than a task or a queue an item."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from helix_fast.errors import InvalidArgumentError
from helix_fast.interfaces import StreamWriter, UsageStore
from helix_fast.streams.chunks import Chunk, OutputChunk, TextDeltaChunk, UnknownChunk
from helix_fast.usage.schema import KNOWN_KINDS, UnknownUsage, Usage, UsageSource

from .context import RunContext
from .items import Messages, Output

# Unacknowledged bytes of a run at which its adapter waits. Chunks are not awaited one by one: they gather in batches
# while one is in flight. This bounds them.
MAX_BUFFERED: Final = 16 << 10
# Bytes between two looks at what is buffered, which cost as much as a chunk; and what a chunk has beside its text.
_UNCHECKED: Final = 4 << 10
_AROUND_TEXT: Final = 128
Partial = Callable[[str], Messages]
"""Makes messages of text that an agent has said without an end."""


class Pump:
    """Takes the items of one run.

    Attributes:
        messages: those to append at the end.
        output: the last one given.
        stopping: set by the run before it cancels ``run``.
    """

    def __init__(
        self, writer: StreamWriter, usage: UsageStore | None, context: RunContext, partial: Partial | None = None
    ) -> None:
        self.messages: list[Any] = []
        self.output: Any = None
        self.stopping = False
        self._writer = writer
        self._usage = usage
        self._context = context
        self._partial = partial
        self._said: list[str] = []  # since the last Messages
        self._head = {"agentId": context.session_id, "agentType": context.agent_type}

    async def run(self, source: AsyncIterator[Any]) -> None:
        """Take all items; returns when the adapter has ended, also where it was cancelled because the run stops."""
        writer, said = self._writer, self._said if self._partial is not None else None
        send_text = writer.send_text
        unchecked = _UNCHECKED
        waiting = True  # in the adapter, and not in one of ours
        try:
            async for item in source:
                if type(item) is str:
                    text = item
                elif type(item) is TextDeltaChunk and _is_plain(item):
                    text = item.delta
                else:
                    waiting = False
                    await self._take(item)
                    waiting, unchecked = True, unchecked - _AROUND_TEXT * 8
                    text = ""
                if text:
                    send_text(text)
                    unchecked -= len(text) + _AROUND_TEXT
                    if said is not None:
                        said.append(text)
                if unchecked < 0:
                    unchecked, waiting = _UNCHECKED, False
                    if writer.buffered_bytes > MAX_BUFFERED:
                        await writer.flush()
                    else:
                        await asyncio.sleep(0)  # an adapter that never waits lets nobody else run
                    waiting = True
        except asyncio.CancelledError:
            if not self.stopping:
                raise
            if not waiting:
                await self._wind_down(source)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
            if self.stopping and self._partial is not None and self._said:
                self.messages += self._partial("".join(self._said)).messages

    async def _wind_down(self, source: Any) -> None:
        """Cancel an adapter that is at a ``yield``, and take what it has left to say."""
        if not hasattr(source, "athrow"):
            return
        with contextlib.suppress(StopAsyncIteration, asyncio.CancelledError):
            item = await source.athrow(asyncio.CancelledError())
            while True:
                await self._take(item)
                item = await source.__anext__()

    async def _take(self, item: Any) -> None:
        if isinstance(item, (Chunk, UnknownChunk)):
            self.send(item)
        elif isinstance(item, Messages):
            self.messages += item.messages
            self._said.clear()
        elif isinstance(item, Output):
            self.send(OutputChunk(output=item.value))
        elif isinstance(item, (Usage, UnknownUsage)) or (isinstance(item, dict) and _is_usage(item)):
            await self._record(item)
        elif isinstance(item, dict):
            self.send(item)
        elif isinstance(item, str):
            self._writer.send_text(item)
            self._said.append(item)
        else:
            raise InvalidArgumentError(
                f"an adapter yields chunks, text, usage entries, Messages and Output, not {type(item).__name__}"
            )

    def send(self, chunk: Any) -> None:
        """Write a chunk without waiting."""
        if isinstance(chunk, TextDeltaChunk):
            self._said.append(chunk.delta)
        elif isinstance(chunk, OutputChunk):
            self.output = chunk.output
        elif isinstance(chunk, dict) and chunk.get("type") == "output":
            self.output = chunk.get("output")
        if isinstance(chunk, dict):
            if chunk.get("type") == "text_delta" and isinstance(chunk.get("delta"), str):
                self._said.append(chunk["delta"])
            chunk = {**self._head, "timestamp": self._context.now(), **chunk}
        self._writer.send(chunk)

    async def _record(self, entry: Any) -> None:
        """Record a usage entry, as one of this run where it does not say."""
        if self._usage is None:
            return
        context = self._context
        source: dict[str, Any] = {"type": "agent", "name": context.agent_type}
        if isinstance(entry, Usage):
            changes: dict[str, Any] = {"run_id": entry.run_id or context.run_id}
            changes["step_count"] = entry.step_count or context.step
            changes["source"] = entry.source or UsageSource(**source)
            entry = msgspec.structs.replace(entry, **changes)
        elif isinstance(entry, dict):
            own = {"sessionId": context.session_id, "runId": context.run_id, "stepCount": context.step}
            entry = {**own, "source": source, **entry}
        await self._usage.record_entry(entry)


def _is_plain(chunk: TextDeltaChunk) -> bool:
    return chunk.agent_id is None and chunk.agent_type is None and chunk.timestamp is None and chunk.step is None and (
        chunk.extra is UNSET
    )  # fmt: skip


def _is_usage(item: dict[str, Any]) -> bool:
    """Whether a dict is a usage entry. One of kind ``custom`` has a ``type`` too, and a chunk may have a ``kind``."""
    kind = item.get("kind")
    return kind is not None and ("type" not in item or (kind in KNOWN_KINDS and "value" in item))
