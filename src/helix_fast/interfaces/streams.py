"""Protocols of the stores of streams, exported by :mod:`helix_fast.interfaces`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol, TypeVar, Union

from msgspec import UNSET, UnsetType

from helix_fast.errors import HelixError
from helix_fast.streams.chunks import StreamChunk
from helix_fast.streams.schema import StoredChunk, StreamInfo, StreamPosition

AnyChunk = Union[StreamChunk, dict[str, Any]]  # noqa: UP007  evaluated at run time on Python 3.10
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
SelfItems = TypeVar("SelfItems", bound="UntilStopped[Any]")
SelfStore = TypeVar("SelfStore", bound="Store")
SelfWriter = TypeVar("SelfWriter", bound="StreamWriter")
SelfReader = TypeVar("SelfReader", bound="StreamReader")
SelfResumable = TypeVar("SelfResumable", bound="ResumableReader")


class Store(Protocol):
    """The methods of every store. As an async context manager it closes when left."""

    def on(self, event: Literal["error"], callback: Callable[[HelixError], object]) -> None:
        """Register a callback for errors of background work."""

    async def close(self) -> None:
        """Close the store. Safe to call twice."""

    async def __aenter__(self: SelfStore) -> SelfStore: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...


class UntilStopped(Protocol[T_co]):
    """The items of a source, until a stop of the stream's writers is requested."""

    stopped: bool

    def __aiter__(self: SelfItems) -> SelfItems: ...
    async def __anext__(self) -> T_co: ...

    async def aclose(self) -> None:
        """Close the source."""

    async def __aenter__(self: SelfItems) -> SelfItems: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...


class StreamWriter(Protocol):
    """Writes one agent's chunks to a stream. As an async context manager it flushes and closes when left."""

    stream_id: str
    agent_id: str
    agent_type: str | None
    epoch: str

    @property
    def stop_requested(self) -> asyncio.Event:
        """Set when a stop of the stream's writers was requested."""

    @property
    def stop_reason(self) -> str | None:
        """The reason of the stop request."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are not acknowledged yet."""

    async def write(self, chunk: AnyChunk) -> int:
        """Write a chunk; its sequence, once it is stored."""

    async def write_many(self, chunks: Iterable[AnyChunk]) -> int:
        """Write chunks; the sequence of the last, once all are stored."""

    def send(self, chunk: AnyChunk) -> None:
        """Write a chunk without waiting."""

    def send_text(self, delta: str) -> None:
        """Write a ``text_delta`` without waiting."""

    def send_thinking(self, text: str, *, is_complete: bool = False) -> None:
        """Write a ``thinking`` chunk without waiting."""

    def until_stopped(self, source: AsyncIterable[T]) -> UntilStopped[T]:
        """The items of a source, until a stop is requested: then the source is cancelled and closed."""

    async def drain(self) -> None:
        """Wait while too many bytes are not acknowledged yet."""

    async def flush(self) -> None:
        """Wait until all sent chunks are stored."""

    async def end(self, output: Any = None) -> None:
        """Flush, end the stream, and close."""

    async def fail(self, error: str | BaseException) -> None:
        """Flush, end the stream with an error, and close."""

    async def close(self) -> None:
        """Flush, and release the lease."""

    async def __aenter__(self: SelfWriter) -> SelfWriter: ...
    async def __aexit__(self, kind: Any, value: Any, traceback: Any, /) -> None: ...


class StreamReader(Protocol):
    """Yields the chunks of a stream until it ends."""

    @property
    def stream_id(self) -> str:
        """The stream that is read."""

    @property
    def epoch(self) -> str:
        """The epoch of the stream that is read."""

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk returned."""

    def __aiter__(self) -> AsyncIterator[StreamChunk]: ...
    async def __anext__(self) -> StreamChunk: ...

    async def close(self) -> None:
        """Stop reading."""

    async def __aenter__(self: SelfReader) -> SelfReader: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...


class ResumableReader(Protocol):
    """Yields chunks with their sequences, from a position on, until the stream ends."""

    @property
    def stream_id(self) -> str:
        """The stream that is read."""

    @property
    def epoch(self) -> str:
        """The epoch of the stream that is read."""

    @property
    def position(self) -> StreamPosition:
        """The position after the last chunk returned."""

    def __aiter__(self) -> AsyncIterator[StoredChunk]: ...
    async def __anext__(self) -> StoredChunk: ...

    async def read_batch(self) -> Sequence[StoredChunk]:
        """All chunks that can be read now, at least one; empty when the stream has ended."""

    async def close(self) -> None:
        """Stop reading."""

    async def __aenter__(self: SelfResumable) -> SelfResumable: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...


class StreamIds(Protocol):
    """A page of stream ids; ``cursor`` is that of the next page, None at the end."""

    cursor: str | None

    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


class StreamManager(Store, Protocol):
    """Opens writers and readers of streams; ends, pauses, resets and deletes streams."""

    async def create_writer(
        self,
        stream_id: str,
        agent_id: str,
        agent_type: str | None = None,
        *,
        fencing_token: int | None = None,
        lease_ms: int | None = None,
        max_length: int | UnsetType | None = UNSET,
    ) -> StreamWriter:
        """Open a stream for writing; create it if it does not exist."""

    def read(
        self,
        stream_id: str,
        *,
        from_sequence: int | str | StreamPosition = 0,
        epoch: str | None = None,
        wait_ms: float | None = None,
        on_gap: str = "raise",
    ) -> ResumableReader:
        """A reader that opens with its first step, which raises StreamNotFoundError if the stream does not exist."""

    async def create_reader(self, stream_id: str, *, wait_ms: float | None = None) -> StreamReader | None:
        """A reader that begins with the first chunk still kept; None if the stream does not exist."""

    async def create_resumable_reader(
        self,
        stream_id: str,
        *,
        from_sequence: int | str | StreamPosition = 0,
        epoch: str | None = None,
        on_gap: str = "raise",
        wait_ms: float | None = None,
    ) -> ResumableReader | None:
        """A reader of everything after ``from_sequence``; None if the stream does not exist."""

    async def exists(self, stream_id: str) -> bool:
        """Whether there is such a stream."""

    async def list_streams(self, *, limit: int | None = None, cursor: str | None = None) -> StreamIds:
        """Ids of the streams that exist, a page at a time."""

    async def end_stream(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream."""

    async def fail_stream(
        self, stream_id: str, error: str | BaseException, *, fencing_token: int | None = None
    ) -> None:
        """End a stream with an error."""

    async def pause_stream(self, stream_id: str) -> None:
        """Mark a stream paused."""

    async def resume_stream(self, stream_id: str) -> None:
        """Mark a paused stream active."""

    async def request_stop(self, stream_id: str, reason: str | None = None) -> None:
        """Ask the writers of a stream to stop."""

    async def seal_stream(self, stream_id: str) -> bool:
        """Rewrite the log of an ended stream in less memory; whether it is as small as it gets."""

    async def reset_stream(self, stream_id: str, *, fencing_token: int | None = None) -> str:
        """Delete a stream's chunks and begin a new epoch; the new epoch."""

    async def delete_stream(self, stream_id: str) -> bool:
        """Delete a stream; whether it existed."""

    async def get_info(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream; None if it does not exist."""


class ResumableStorage(Store, Protocol):
    """Chunks stored and read by sequence."""

    async def create(self, stream_id: str, *, fencing_token: int | None = None) -> StreamInfo:
        """Create a stream; an existing one is left unchanged."""

    async def append(self, stream_id: str, chunk: AnyChunk, sequence: int, *, fencing_token: int | None = None) -> None:
        """Append a chunk as ``sequence``."""

    async def append_many(
        self, stream_id: str, chunks: Sequence[AnyChunk], first_sequence: int, *, fencing_token: int | None = None
    ) -> None:
        """Append chunks from ``first_sequence`` on, all or none."""

    async def read_from(
        self, stream_id: str, from_sequence: int | str | StreamPosition = 0, limit: int | None = None
    ) -> list[StoredChunk]:
        """The stored chunks after ``from_sequence``."""

    def subscribe(
        self,
        stream_id: str,
        callback: Callable[[StreamChunk, int], object],
        *,
        from_sequence: int | str | StreamPosition | None = None,
    ) -> Callable[[], Awaitable[Any]]:
        """Call back for each chunk. The returned callable ends the subscription; its result may be awaited."""

    async def get_metadata(self, stream_id: str) -> StreamInfo | None:
        """Status, epoch, sequences and lease of a stream; None if it does not exist."""

    async def end(self, stream_id: str, output: Any = None, *, fencing_token: int | None = None) -> None:
        """End a stream."""

    async def fail(self, stream_id: str, error: str, *, fencing_token: int | None = None) -> None:
        """End a stream with an error."""

    async def delete(self, stream_id: str) -> bool:
        """Delete a stream."""
