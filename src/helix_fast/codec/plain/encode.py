"""Chunks as JSON lines, and the batch that gathers them, in plain Python."""

from __future__ import annotations

import re
from typing import final

from .arguments import require_bytes, u64

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
SHORT_ESCAPES = {
    b'"': rb"\"",
    b"\\": rb"\\",
    b"\b": rb"\b",
    b"\f": rb"\f",
    b"\n": rb"\n",
    b"\r": rb"\r",
    b"\t": rb"\t",
}


def escape(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    return _ESCAPED.sub(
        lambda match: SHORT_ESCAPES.get(match[0]) or b"\\u%04x" % ord(match[0]), str.encode(text, "utf-8")
    )


@final
class ChunkEncoder:
    """Encodes one agent's `text_delta` chunks. Immutable; may be shared between threads."""

    __slots__ = ("_tail", "agent_id", "agent_type")

    def __init__(self, agent_id: str, agent_type: str | None = None) -> None:
        self.agent_id: str = agent_id
        self.agent_type: str | None = agent_type
        tail = b'","agentId":"' + escape(agent_id, "agent_id")
        if agent_type is not None:
            tail += b'","agentType":"' + escape(agent_type, "agent_type")
        self._tail = tail + b'","timestamp":'

    def encode_text(self, delta: str, timestamp: int) -> bytes:
        """One `text_delta` as one line of JSON."""
        return b'{"type":"text_delta","delta":"%b%b%d}' % (
            escape(delta, "delta"),
            self._tail,
            u64(timestamp, "timestamp"),
        )


@final
class BatchBuilder:
    """Builds the body of one stream entry from chunks, newline separated. Owned by one thread at a time."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def count(self) -> int:
        """Chunks gathered."""
        return len(self._chunks)

    @property
    def size(self) -> int:
        """Bytes of the body so far, separators included."""
        return self._size

    def add_text(self, encoder: ChunkEncoder, delta: str, timestamp: int) -> int:
        """Append one `text_delta`; returns the new size."""
        if type(encoder) is not ChunkEncoder:
            raise TypeError(f"encoder must be ChunkEncoder, not {type(encoder).__name__}")
        return self._append(encoder.encode_text(delta, timestamp))

    def add(self, chunk: bytes) -> int:
        """Append one encoded chunk; returns the new size."""
        require_bytes(chunk, "chunk")
        if not chunk:
            raise ValueError("chunk is empty")
        if b"\n" in chunk:
            raise ValueError("chunk has a newline inside: it would be read as two")
        return self._append(chunk)

    def take(self) -> bytes:
        """Return the body and empty the batch."""
        body = b"\n".join(self._chunks)
        self._chunks = []
        self._size = 0
        return body

    def _append(self, chunk: bytes) -> int:
        self._size += len(chunk) + (1 if self._chunks else 0)
        self._chunks.append(chunk)
        return self._size
