"""The store that one writes with pydantic models and redis-py: asyncio, a pool of 50 connections, hiredis.

Nothing here is slow on purpose. One XADD for a chunk, sequences counted by the writer, no script; pipelines where the
caller hands over many; one XRANGE or LRANGE for a read; `validate_json` on the bytes, never `json.loads` first; one
TypeAdapter, made once; decoded responses switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Union

import redis.asyncio as redis
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

POOL: Final = 50


class Wire(BaseModel):
    """camelCase on the wire, snake_case in Python."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Chunk(Wire):
    """What every chunk carries."""

    agent_id: str
    agent_type: str | None = None
    timestamp: int
    step: int | None = None


class TextDelta(Chunk):
    """A piece of text."""

    type: Literal["text_delta"] = "text_delta"
    delta: str


class Thinking(Chunk):
    """A piece of reasoning."""

    type: Literal["thinking"] = "thinking"
    content: str
    is_complete: bool = False


class ToolStart(Chunk):
    """A tool call begins."""

    type: Literal["tool_start"] = "tool_start"
    tool_call_id: str
    tool_name: str
    arguments: Any = None


class ToolEnd(Chunk):
    """A tool call is over."""

    type: Literal["tool_end"] = "tool_end"
    tool_call_id: str
    result: Any = None
    success: bool | None = None
    error: str | None = None


class Custom(Chunk):
    """An event of the application."""

    type: Literal["custom"] = "custom"
    event_name: str
    data: Any = None


class Failure(Chunk):
    """Something went wrong."""

    type: Literal["error"] = "error"
    error: str
    recoverable: bool | None = None


class Output(Chunk):
    """The final output."""

    type: Literal["output"] = "output"
    output: Any = None


AnyChunk = Annotated[
    Union[TextDelta, Thinking, ToolStart, ToolEnd, Custom, Failure, Output],  # noqa: UP007  read at run time
    Field(discriminator="type"),
]
CHUNKS: Final[TypeAdapter[Any]] = TypeAdapter(AnyChunk)


class Tokens(Wire):
    """Tokens of a model call."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0
    total: int = 0


class Entry(Wire):
    """What every usage entry carries."""

    id: str
    session_id: str
    step_count: int = 0
    timestamp: int


class TokenEntry(Entry):
    """A model call."""

    kind: Literal["tokens"] = "tokens"
    model: str
    tokens: Tokens


class ToolEntry(Entry):
    """A tool call."""

    kind: Literal["tool"] = "tool"
    tool_name: str
    duration_ms: float = 0
    success: bool = True


class CustomEntry(Entry):
    """Anything else."""

    kind: Literal["custom"] = "custom"
    type: str
    value: float


AnyEntry = Annotated[Union[TokenEntry, ToolEntry, CustomEntry], Field(discriminator="kind")]  # noqa: UP007
ENTRIES: Final[TypeAdapter[Any]] = TypeAdapter(AnyEntry)


class Sums:
    """What usage adds up to: the same sums as our rollup's."""

    def __init__(self) -> None:
        self.prompt = self.completion = self.reasoning = self.cached = self.total = 0
        self.by_model: dict[str, list[int]] = {}
        self.calls = self.successes = self.failures = 0
        self.duration_ms = 0.0
        self.by_tool: dict[str, list[float]] = {}
        self.custom: dict[str, float] = {}
        self.entries = 0
        self.first: int | None = None
        self.last: int | None = None

    def add(self, entry: TokenEntry | ToolEntry | CustomEntry) -> None:
        """Add an entry."""
        self.entries += 1
        stamp = entry.timestamp
        if self.first is None or stamp < self.first:
            self.first = stamp
        if self.last is None or stamp > self.last:
            self.last = stamp
        if isinstance(entry, TokenEntry):
            tokens = entry.tokens
            self.prompt += tokens.prompt
            self.completion += tokens.completion
            self.reasoning += tokens.reasoning
            self.cached += tokens.cached
            self.total += tokens.total
            model = self.by_model.setdefault(entry.model, [0, 0, 0, 0, 0])
            model[0] += tokens.prompt
            model[1] += tokens.completion
            model[2] += tokens.reasoning
            model[3] += tokens.cached
            model[4] += tokens.total
        elif isinstance(entry, ToolEntry):
            self.calls += 1
            if entry.success:
                self.successes += 1
            else:
                self.failures += 1
            self.duration_ms += entry.duration_ms
            tool = self.by_tool.setdefault(entry.tool_name, [0, 0.0])
            tool[0] += 1
            tool[1] += entry.duration_ms
        else:
            self.custom[entry.type] = self.custom.get(entry.type, 0.0) + entry.value


class Message(Wire):
    """A message of a conversation."""

    role: str
    content: str


class Session(Wire):
    """The state of a session."""

    session_id: str
    agent_type: str
    status: str = "active"
    step_count: int = 0
    custom_state: dict[str, Any] = {}
    messages: list[Message] = []


class PydanticStore:
    """Streams, usage and state; see the module.

    Args:
        socket_path: the server's unix socket.
        max_length: chunks that a stream keeps, about.
    """

    def __init__(self, socket_path: str, max_length: int = 10_000) -> None:
        pool = redis.ConnectionPool(
            connection_class=redis.UnixDomainSocketConnection, path=socket_path, max_connections=POOL
        )
        self.client = redis.Redis(connection_pool=pool)
        self._pool = pool
        # The pool raises where a 51st connection is asked for. A semaphore lets callers wait, for a third less CPU than
        # redis-py's BlockingConnectionPool with 1 000 of them.
        self._places = asyncio.Semaphore(POOL)
        self._max_length = max_length

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
        await self._pool.disconnect()

    # streams

    async def write(self, stream_id: str, chunk: Chunk, sequence: int) -> None:
        """Append one chunk."""
        async with self._places:
            await self.client.xadd(
                f"stream:{stream_id}",
                {"chunk": chunk.model_dump_json(by_alias=True, exclude_none=True), "sequence": sequence},
                maxlen=self._max_length,
                approximate=True,
            )

    async def write_many(self, stream_id: str, chunks: Sequence[Chunk], first: int) -> None:
        """Append chunks in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for sequence, chunk in enumerate(chunks, first):
            pipeline.xadd(
                f"stream:{stream_id}",
                {"chunk": chunk.model_dump_json(by_alias=True, exclude_none=True), "sequence": sequence},
                maxlen=self._max_length,
                approximate=True,
            )
        await pipeline.execute()

    async def read(self, stream_id: str) -> list[tuple[int, Any]]:
        """All stored chunks with their sequences."""
        validate = CHUNKS.validate_json
        entries: Any = await self.client.xrange(f"stream:{stream_id}")
        return [(int(fields[b"sequence"]), validate(fields[b"chunk"])) for _id, fields in entries]

    # usage

    async def record(self, session_id: str, entries: Sequence[bytes]) -> None:
        """Append usage entries, encoded already."""
        for start in range(0, len(entries), 1000):
            await self.client.rpush(f"usage:{session_id}", *entries[start : start + 1000])

    async def rollup(self, session_id: str) -> Sums:
        """Read and add up all entries of a session."""
        validate = ENTRIES.validate_json
        sums = Sums()
        for data in await self.client.lrange(f"usage:{session_id}", 0, -1):
            sums.add(validate(data))
        return sums

    # state

    async def save(self, session: Session) -> None:
        """Store a whole session."""
        await self.client.set(f"session:{session.session_id}", session.model_dump_json(by_alias=True))
