"""Chunks as one writes them with msgspec alone: a tagged union, an encoder and a decoder, both made once."""

from __future__ import annotations

from typing import Any, Final, Union

import msgspec


class Chunk(msgspec.Struct, tag_field="type", rename="camel", omit_defaults=True, kw_only=True):
    """What every chunk carries."""

    agent_id: str | None = None
    agent_type: str | None = None
    timestamp: int | None = None
    step: int | None = None


class TextDelta(Chunk, tag="text_delta"):
    """A piece of text."""

    delta: str


class Thinking(Chunk, tag="thinking"):
    """A piece of reasoning."""

    content: str
    is_complete: bool = False


class ToolStart(Chunk, tag="tool_start"):
    """A tool call begins."""

    tool_call_id: str
    tool_name: str
    arguments: Any = None


class ToolEnd(Chunk, tag="tool_end"):
    """A tool call is over."""

    tool_call_id: str
    result: Any = None
    success: bool | None = None
    error: str | None = None


class Custom(Chunk, tag="custom"):
    """An event of the application."""

    event_name: str
    data: Any = None


class Failure(Chunk, tag="error"):
    """Something went wrong."""

    error: str
    recoverable: bool | None = None


class Output(Chunk, tag="output"):
    """The final output."""

    output: Any = None


AnyChunk = Union[TextDelta, Thinking, ToolStart, ToolEnd, Custom, Failure, Output]  # noqa: UP007  read at run time
encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(AnyChunk).decode
decode_text: Final = msgspec.json.Decoder(TextDelta).decode
