"""Vercel's UI message chunks: what is stored of what a producer yields, and what is sent of that. No HTTP.

Facts that the code follows, of the npm packages ``ai``: an unknown ``type`` ends the client's stream; a delta needs
its start, so that a replay begins with the first chunk; a ``start`` has the same ``messageId`` in every replay.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from helix_fast import codec
from helix_fast.errors import (
    HelixError,
    InvalidArgumentError,
    ProducerLostError,
    SequenceGapError,
    StoreClosedError,
    StreamResetError,
)
from helix_fast.streams.chunks import StreamChunk
from helix_fast.streams.lines import Lines
from helix_fast.streams.schema import StreamPosition

from .chats import LOST_TEXT, ErrorText
from .deltas import WRAPPER, Form, frames_of, last_framed, unwrapped
from .items import ProducerItems
from .sse import WRITE_BYTES
from .vercel_mapping import VercelMapping

HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
MAPPING: Final = 1
"""Version of what is stored; the first chunk of a run says which one it has."""
DONE: Final = b"data: [DONE]\n\n"

_V5: Final = frozenset(
    {
        *("start", "finish", "abort", "error", "message-metadata", "start-step", "finish-step"),
        *("text-start", "text-delta", "text-end", "reasoning-start", "reasoning-delta", "reasoning-end"),
        *("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error"),
        *("tool-output-available", "tool-output-error", "source-url", "source-document", "file"),
    }
)
_V6: Final = _V5 | {"tool-approval-request", "tool-output-denied"}
_V7: Final = _V6 | {"reset-step", "custom", "reasoning-file", "steering-message", "tool-approval-response"}
TYPES: Final = {5: _V5, 6: _V6, 7: _V7}
_REASONS: Final = frozenset({"stop", "length", "content-filter", "tool-calls", "error", "other"})
REASONS: Final = {5: _REASONS | {"unknown"}, 6: _REASONS, 7: _REASONS | {"interrupted"}}


class UIRecorder:
    """Makes UI message chunks that are stored of what a producer yields: complete, and of types that the SDK knows."""

    def __init__(self, sdk_version: int, message_id: str, error_text: ErrorText, *, fixed: bool) -> None:
        self._version = sdk_version
        self._message_id = message_id
        self._fixed = fixed
        self._error_text = error_text
        self._started = False
        self._over = False
        self._items = ProducerItems(sdk_version)

    def header(self) -> dict[str, Any]:
        """The protocol, and the versions of what is stored and of the SDK that it was written for."""
        return {"type": WRAPPER, "protocol": "vercel", "version": MAPPING, "sdkVersion": self._version}

    def items(self, item: Any) -> list[dict[str, Any]]:
        """The chunks of an item of the producer."""
        return [{"type": WRAPPER, "chunk": chunk} for raw in self._items.read(item) for chunk in self._complete(raw)]

    def _complete(self, raw: dict[str, Any]) -> list[dict[str, Any]]:
        kind, chunk = raw["type"], raw
        if kind not in TYPES[self._version] and not kind.startswith("data-"):
            chunk = {"type": "data-helix-chunk", "data": raw, "transient": True}  # an unknown type ends the client
        elif kind == "start":
            if not (self._started or self._fixed):
                self._message_id = raw.get("messageId") or self._message_id
            chunk = {**raw, "messageId": self._message_id}
        elif kind == "finish":
            self._over = True
            if raw.get("finishReason") not in {None, *REASONS[self._version]}:
                chunk = {**raw, "finishReason": "other"}
        if self._started or kind == "start":
            self._started = True
            return [chunk]
        self._started = True
        return [{"type": "start", "messageId": self._message_id}, chunk]

    def end(self, *, stopped: bool, error: BaseException | None) -> list[dict[str, Any]]:
        """What tells the client why it is over, where the producer has not."""
        if self._over:
            return []
        chunks: list[dict[str, Any]] = []
        reason = "stop"
        if error is not None:
            text = LOST_TEXT if isinstance(error, asyncio.CancelledError) else self._error_text(error)
            chunks, reason = [{"type": "error", "errorText": text}], "error"
        elif stopped:
            chunks, reason = [{"type": "abort"}], "interrupted"
        finish = {"type": "finish"} if self._version == 5 else {"type": "finish", "finishReason": reason}
        return [{"type": WRAPPER, "chunk": each} for chunk in (*chunks, finish) for each in self._complete(chunk)]


class VercelEvents:
    """The codec of the protocol: what is sent to one client.

    Args:
        sdk_version: that of the pages.
        error_text: what the page is told of an error.
        skip: UI chunks that the client has.
        mapping: makes UI chunks of ours, for the runs of an executor.
        coalesce: deltas of a part that are read together become one. A client that counts chunks must get each of them.

    Attributes:
        count: UI chunks so far, the skipped ones among them.
    """

    cuts: bool = True  # a response that ends would count as the whole answer
    retries: bool = True

    def __init__(
        self,
        sdk_version: int,
        error_text: ErrorText,
        *,
        skip: int = 0,
        coalesce: bool = False,
        mapping: VercelMapping | None = None,
    ) -> None:
        self._version = sdk_version
        self._error_text = error_text
        self._skip = skip
        self.coalesce: bool = coalesce
        self._mapping = mapping
        self.count: int = 0
        self.form: Form | None = None
        self._failed = self._over = False

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def chunks(self, stored: Lines) -> list[bytes]:
        """The frames of what is stored."""
        return frames_of(stored, self)

    def deltas(self, form: Form, lines: Lines) -> tuple[int, int, bytes]:
        """Frame text as it is stored."""
        if self.count < self._skip:
            return lines.after + 1, 0, b""
        key = (
            form.line_head, form.line_tail, lines.body, lines.last, lines.after,
            b"data: " + form.head, None, form.tail + b"\n\n", WRITE_BYTES, self.coalesce,
        )  # fmt: skip
        first, count, frames = last_framed.of(lines.body, key, codec.frame_deltas)
        self.count += count
        return first, count, frames

    def other(self, chunk: StreamChunk, sequence: int, lines: Lines) -> bytes:
        """Frame any chunk."""
        inner = unwrapped(chunk)
        found: list[dict[str, Any]] = []
        if inner:
            self._add(found, inner)
        elif inner is None and self._mapping is not None:
            for mapped in self._mapping.map(chunk):
                self._add(found, mapped)
        return b"".join(b"data: %s\n\n" % msgspec.json.encode(each) for each in found)

    def text_head(self) -> bytes | None:
        """What a text delta has before its text, within a part of text."""
        return None if self._mapping is None else self._mapping.text_head()

    def _add(self, found: list[dict[str, Any]], chunk: dict[str, Any]) -> None:
        kind = chunk.get("type")
        if kind == "error":
            self._failed = True
        elif kind == "finish":
            self._over = True
        self.count += 1
        if self.count <= self._skip:
            return
        found.append(chunk)

    def moved(self, error: StreamResetError | SequenceGapError, position: StreamPosition) -> None:
        """A part of an answer cannot be sent without its beginning."""

    def end(self) -> bytes:
        """``finish``, where the run has none, and the end."""
        return self._closing([])

    def failed(self, error: HelixError) -> bytes:
        """``error``, where the run has none, and the end; nothing if the client should come back."""
        if error.retryable or isinstance(error, StoreClosedError):
            return b""
        if self._failed:
            return self._closing([])
        text = LOST_TEXT if isinstance(error, ProducerLostError) else self._error_text(error)
        return self._closing([{"type": "error", "errorText": text}])

    def _closing(self, chunks: list[dict[str, Any]]) -> bytes:
        found: list[dict[str, Any]] = []
        if not self._over:
            if self._mapping is not None:
                for chunk in self._mapping.end():
                    self._add(found, chunk)
            finish = {"type": "finish"}
            if (chunks or self._failed) and self._version > 5:
                finish["finishReason"] = "error"
            for chunk in (*chunks, finish):
                self._add(found, chunk)
        return b"".join(b"data: %s\n\n" % msgspec.json.encode(chunk) for chunk in found) + DONE


def start_index(text: str | None) -> int:
    """``startIndex`` of a request; 0 without one. Raises InvalidArgumentError."""
    if text is None:
        return 0
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise InvalidArgumentError(f"startIndex must be a whole number, not {text!r}")
    return int(text)
