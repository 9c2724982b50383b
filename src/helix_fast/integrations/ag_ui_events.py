"""AG-UI 1.0 events: what is stored of what a producer yields, and what is sent of that. No HTTP.

A client checks the order of events: ``RUN_STARTED`` first, a start before each content, everything closed before
``RUN_FINISHED``. So one that does not know its position gets all of them from ``RUN_STARTED`` on.
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

from .ag_ui_mapping import AGUIMapping
from .chats import LOST_TEXT, ErrorText
from .deltas import WRAPPER, Form, frames_of, last_framed, unwrapped
from .items import ProducerItems
from .sse import WRITE_BYTES

VERSION: Final = 1
"""Version of what is stored; the first chunk of a run says which one it has."""
TYPES: Final = frozenset(
    {
        *("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "STEP_STARTED", "STEP_FINISHED"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "TEXT_MESSAGE_CHUNK"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_CHUNK", "TOOL_CALL_RESULT"),
        *("STATE_SNAPSHOT", "STATE_DELTA", "MESSAGES_SNAPSHOT", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA"),
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END"),
        *("REASONING_MESSAGE_CHUNK", "REASONING_END", "REASONING_ENCRYPTED_VALUE"),
        *("SUBAGENT_STARTED", "SUBAGENT_FINISHED", "SUBAGENT_ERROR", "RAW", "CUSTOM"),
    }
)
_PAIRS: Final = (
    ("STEP_STARTED", "STEP_FINISHED", "stepName"),
    ("TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "messageId"),
    ("TOOL_CALL_START", "TOOL_CALL_END", "toolCallId"),
    ("REASONING_START", "REASONING_END", "messageId"),
    ("REASONING_MESSAGE_START", "REASONING_MESSAGE_END", "messageId"),
    ("SUBAGENT_STARTED", "SUBAGENT_FINISHED", "subagentRunId"),
)
_OPENS: Final = {start: (end, key) for start, end, key in _PAIRS}
_CLOSES: Final = {end: (end, key) for _start, end, key in _PAIRS} | {
    "SUBAGENT_ERROR": ("SUBAGENT_FINISHED", "subagentRunId")
}
_TERMINAL: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})


class AGUIRecorder:
    """Makes AG-UI events that are stored of what a producer yields: in an order that clients accept."""

    def __init__(self, thread: str, run: str, error_text: ErrorText) -> None:
        self._ids = {"threadId": thread, "runId": run}
        self._error_text = error_text
        self._items = ProducerItems()
        self._open: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._started = self._over = False

    def header(self) -> dict[str, Any]:
        """The protocol, and the version of what is stored."""
        return {"type": WRAPPER, "protocol": "ag-ui", "version": VERSION, **self._ids}

    def items(self, item: Any) -> list[dict[str, Any]]:
        """The events of an item of the producer."""
        return [event for raw in self._items.read(item) for event in self._complete(raw)]

    def _complete(self, raw: dict[str, Any]) -> list[dict[str, Any]]:
        kind, event = raw["type"], raw
        if self._over:
            return []  # clients accept nothing behind the end
        if kind not in TYPES:
            event = {"type": "CUSTOM", "name": "helix.unknown", "value": raw}
        elif kind in {"RUN_STARTED", "RUN_FINISHED"}:
            event = {**raw, **self._ids}
        if kind in _OPENS or kind in _CLOSES:
            end, key = _OPENS.get(kind) or _CLOSES[kind]
            owner = (
                {}
                if key == "subagentRunId" or not raw.get("subagentRunId")
                else {"subagentRunId": raw["subagentRunId"]}
            )
            name = (end, str(raw.get(key)), str(owner.get("subagentRunId")))
            if kind in _OPENS:
                self._open[name] = {"type": end, key: raw.get(key), **owner}
            else:
                self._open.pop(name, None)
        self._over = kind in _TERMINAL
        events = [event]
        if not self._started and kind != "RUN_STARTED":
            events.insert(0, {"type": "RUN_STARTED", **self._ids})
        self._started = True
        return [{"type": WRAPPER, "chunk": each} for each in events]

    def end(self, *, stopped: bool, error: BaseException | None) -> list[dict[str, Any]]:
        """What tells the client that it is over, where the producer has not."""
        if error is not None:
            text = LOST_TEXT if isinstance(error, asyncio.CancelledError) else self._error_text(error)
            return self._complete({"type": "RUN_ERROR", "message": text})
        finished: dict[str, Any] = {"type": "RUN_FINISHED"}
        if stopped:
            finished["outcome"] = {"type": "cancelled"}
        return [event for raw in (*reversed(self._open.copy().values()), finished) for event in self._complete(raw)]


class AGUIEvents:
    """The codec of the protocol: what is sent to one client. Each event has the run and its position as ``id``.

    Args:
        token: the run's, which tells its ids from those of others.
        error_text: what the page is told of an error.
        after: the last event that the client has: the sequence of its chunk, and its number among that chunk's events.
        mapping: makes events of our chunks, for the runs of an executor.
    """

    cuts: bool = True
    retries: bool = True
    coalesce: bool = False
    END: Final = (1 << 62, 0)
    """The place after all events."""

    def __init__(
        self,
        token: str,
        error_text: ErrorText,
        *,
        after: tuple[int, int] = (0, 0),
        mapping: AGUIMapping | None = None,
    ) -> None:
        self._token = token
        self._error_text = error_text
        self._after = after
        self._mapping = mapping
        self.over: bool = False
        self.form: Form | None = None

    @classmethod
    def after(cls, text: str, token: str) -> tuple[int, int] | None:
        """The place that a client names by ``Last-Event-ID``; None: none, or in another run.

        Raises:
            InvalidArgumentError: it is no id of ours.
        """
        if not text:
            return None
        named, slash, place = text.partition("/")
        position, _, number = place.partition("+")
        if not slash or not (number.isdigit() or not number) or len(number) > 9:
            raise InvalidArgumentError(f"Last-Event-ID {text!r} is none of ours")
        found = cls.END if place == "end" else (StreamPosition.parse(position).sequence, int(number or 0))
        return found if named == token else None

    def opening(self) -> bytes:
        """How long a client waits before it reconnects."""
        return b"retry: 500\n\n"

    def chunks(self, stored: Lines) -> list[bytes]:
        """The frames of what is stored."""
        return frames_of(stored, self)

    def deltas(self, form: Form, lines: Lines) -> tuple[int, int, bytes]:
        """Frame text as it is stored."""
        if lines.after < self._after[0]:
            return lines.after + 1, 0, b""
        place = _place(lines, 0)[:-1]
        key = (
            form.line_head, form.line_tail, lines.body, lines.last, lines.after,
            b"id: %s/%s" % (self._token.encode(), place.encode()), b"\ndata: " + form.head, form.tail + b"\n\n",
            WRITE_BYTES,
        )  # fmt: skip
        return last_framed.of(lines.body, key, codec.frame_deltas)

    def other(self, chunk: StreamChunk, sequence: int, lines: Lines) -> bytes:
        """Frame any chunk."""
        inner = unwrapped(chunk)
        if inner is not None:
            events = [inner] if inner else []
        else:
            events = [] if self._mapping is None else self._mapping.map(chunk)
        place = _place(lines, sequence)
        found = []
        for number, event in enumerate(events):
            self.over = self.over or event.get("type") in _TERMINAL
            if (sequence, number) > self._after:
                found.append(self._frame(event, f"{place}+{number}" if number else place))
        return b"".join(found)

    def text_head(self) -> bytes | None:
        """What the content of a message has before its text, within a text message."""
        return None if self._mapping is None else self._mapping.text_head()

    def _frame(self, event: dict[str, Any], place: str) -> bytes:
        return b"id: %s/%s\ndata: %s\n\n" % (self._token.encode(), place.encode(), msgspec.json.encode(event))

    def moved(self, error: StreamResetError | SequenceGapError, position: StreamPosition) -> None:
        """A part of a run cannot be sent without its beginning."""

    def end(self) -> bytes:
        """What the run's end is to a client, where none is stored."""
        if self.over:
            return b""
        if self._mapping is None:
            return self._error("The run ended without an end.")
        *closing, last = self._mapping.end()
        # the last one alone has an id: a client that lacks some of them gets all of them
        return b"".join(b"data: %s\n\n" % msgspec.json.encode(event) for event in closing) + self._frame(last, "end")

    def failed(self, error: HelixError) -> bytes:
        """``RUN_ERROR``, where the run has none; nothing if the client should come back."""
        if error.retryable or isinstance(error, StoreClosedError):
            return b""
        if self.over:
            return b": over\n\n"
        return self._error(LOST_TEXT if isinstance(error, ProducerLostError) else self._error_text(error))

    def _error(self, message: str) -> bytes:
        return self._frame({"type": "RUN_ERROR", "message": message}, "end")


def _place(lines: Lines, sequence: int) -> str:
    """The position of a chunk, as a client sends it back."""
    place = str(StreamPosition(lines.epoch, sequence, lines.term))
    return place if place.isprintable() else f"-:{sequence}"  # an epoch that another program wrote may break lines
