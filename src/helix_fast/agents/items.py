"""What an adapter yields, and what comes out of a run. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Union

from helix_fast.streams.chunks import StreamChunk
from helix_fast.usage.schema import UsageEntry


class Messages:
    """Messages that the run appends to the conversation when it ends: JSON objects, oldest first."""

    __slots__ = ("messages",)

    def __init__(self, messages: Sequence[Any]) -> None:
        self.messages: list[Any] = list(messages)

    def __repr__(self) -> str:
        return f"Messages({self.messages!r})"


class Output:
    """The run's output, any JSON value; of several the last one. Readers of the stream get an ``output`` chunk."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value

    def __repr__(self) -> str:
        return f"Output({self.value!r})"


RunItem = Union[StreamChunk, dict[str, Any], str, UsageEntry, Messages, Output]  # noqa: UP007  read on Python 3.10
"""A chunk or a usage entry, as a struct or as a dict in wire form; text, as a ``str``; Messages; Output."""


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
        status: ``completed``, ``interrupted``, or of a sub-agent also ``failed``.
        output: any JSON value; None where the run gave none.
        error: why it failed, or was interrupted; None otherwise.
        run_id: of the run.
    """

    status: str
    output: Any
    error: str | None
    run_id: str


def agent_type_of(agent: object) -> str:
    """The name of an agent: its ``agent_type``, its ``name``, the name of a function, or that of its class."""
    function = agent
    while hasattr(function, "func"):  # a functools.partial
        function = function.func
    for name in ("agent_type", "name", "__name__"):
        value = getattr(function, name, None)
        if isinstance(value, str) and value:
            return value
    return type(agent).__name__


def messages_of(message: object) -> list[Any]:
    """What ``execute`` appends to the conversation for its message: text as a user's message, objects as they are."""
    if message is None:
        return []
    if isinstance(message, str):
        return [{"role": "user", "content": message}]
    return list(message) if isinstance(message, (list, tuple)) else [message]
