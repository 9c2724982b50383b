"""Conversations: messages as JSON and back, and which of them are stored. Long ones in slices. No I/O.

A conversation that is given is encoded in one step of the event loop, so what is stored is what it was at one moment.
All further work is on those bytes, which no caller can change, and is sliced.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from helix_fast import codec
from helix_fast.arguments import to_json
from helix_fast.errors import InvalidArgumentError, MalformedStateError
from helix_fast.slices import Slices

from .log import UNKNOWN_DIGEST, Log
from .schema import decode_json, encode_json

_PART: Final = 256  # messages that are encoded, hashed or decoded at once
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Conversation:
    """The messages of a caller, as they are when this is made.

    Args:
        messages: a list of JSON objects.
        known: messages that may be stored already: the first so many are hashed, and not encoded one by one.

    Raises:
        InvalidArgumentError: no list, or a message that is no JSON object. A message that is no object may show only
            when the messages are asked for.
    """

    def __init__(self, messages: Any, known: int = 0) -> None:
        if not isinstance(messages, (list, tuple)):
            raise InvalidArgumentError(f"messages must be a list, not {type(messages).__name__}")
        given = list(messages)
        self.count: int = len(given)
        self._slices = Slices()  # its first one is over with the encoding
        self._cut = min(known, self.count)
        self._parts: list[bytes] = []  # each a JSON array; none of them extends over the cut
        self._lines: list[bytes] | None = None
        if self.count > _PART:
            bounds = [*range(0, self._cut, _PART), *range(self._cut, self.count, _PART), self.count]
            try:
                for start, end in itertools.pairwise(bounds):
                    part = given[start:end]
                    codec.check_finite(part)  # part by part, while what it reads is in the processor's cache
                    self._parts.append(to_json(part))
            except (ValueError, TypeError, RecursionError, OverflowError):
                self._parts = []
                self._lines = encode_messages(given)  # names the message
        else:
            self._lines = encode_messages(given)

    async def begins(self, log: Log) -> bool:
        """Whether these messages begin with all messages of a log."""
        if log.count > self.count or log.digest == UNKNOWN_DIGEST:
            return False
        if log.text is not None and log.count == self._cut:
            return bool((await self._text_until(self._cut)).digest() == log.text.digest())
        return (await Log().extended((await self.messages())[: log.count])).digest == log.digest

    async def log(self, base: Log, rest: Sequence[bytes]) -> Log:
        """The log of all messages: those of ``base``, and ``rest``, which follow."""
        return Log(self.count, (await base.extended(rest)).digest, await self._text_until(self.count))

    async def messages(self, after: int = 0) -> list[bytes]:
        """Each message as JSON, without the first ones."""
        if self._lines is not None:
            return self._lines[after:] if after else self._lines
        if after and after == self._cut:
            return await self._split(-(-self._cut // _PART), after)
        self._lines = await self._split(0, 0)
        return self._lines[after:]

    async def _split(self, first_part: int, index: int) -> list[bytes]:
        lines: list[bytes] = []
        slices = self._slices
        for part in self._parts[first_part:]:
            try:
                found = [bytes(message) for message in _split(part)]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:  # somebody's Raw
                raise InvalidArgumentError(f"messages[{index + len(lines)}] or one after it is no JSON") from error
            _check_objects(found, index + len(lines))
            lines += found
            if slices.over:
                await slices.next()
        if len(lines) != self.count - index:
            raise InvalidArgumentError("a message is more than one JSON value")
        return lines

    async def _text_until(self, count: int) -> Any:
        """The SHA-1 of the first messages, as ``Log.text``."""
        text = hashlib.sha1(usedforsecurity=False)
        if not self._parts:
            add_text(text, (self._lines or [])[:count])
            return text
        slices = self._slices
        for part in self._parts if count == self.count else self._parts[: -(-count // _PART)]:
            text.update(memoryview(part)[1:-1])
            text.update(b",")
            if slices.over:
                await slices.next()
        return text


def add_text(text: Any, messages: Sequence[bytes]) -> None:
    """Add messages to a ``Log.text``."""
    if messages:
        text.update(b",".join(messages))
        text.update(b",")


def encode_messages(messages: Sequence[Any]) -> list[bytes]:
    """Messages as JSON, one each.

    Raises:
        InvalidArgumentError: a message that is no JSON object.
    """
    encoded = [encode_json(message, f"messages[{index}]") for index, message in enumerate(messages)]
    _check_objects(encoded, 0)
    return encoded


def _check_objects(encoded: Sequence[bytes], first: int) -> None:
    for index, data in enumerate(encoded, first):
        if data[:1] != b"{":
            raise InvalidArgumentError(f"messages[{index}] is no object")


async def decode_messages(stored: Sequence[bytes], key: str, text: Any = None) -> list[Any]:
    """Stored messages; MalformedStateError names a message that is no JSON object.

    Args:
        text: a ``Log.text`` to which the messages are added.
    """
    if len(stored) <= _PART:
        return _decode_part(stored, key, 0, text)
    messages: list[Any] = []
    slices = Slices()
    for first in range(0, len(stored), _PART):
        messages += _decode_part(stored[first : first + _PART], key, first, text)
        if slices.over:
            await slices.next()
    return messages


def _decode_part(stored: Sequence[bytes], key: str, first: int, text: Any) -> list[Any]:
    joined = b"[" + b",".join(stored) + b"]"
    messages: list[Any]
    try:
        messages = decode_json(joined, key, "messages")
    except MalformedStateError:
        messages = []
    if len(messages) != len(stored):  # some are no JSON value, although joined they may be
        messages = [decode_json(data, key, f"messages[{index}]") for index, data in enumerate(stored, first)]
    for index, message in enumerate(messages, first):
        if not isinstance(message, dict):
            raise MalformedStateError(key, f"messages[{index}]", "is no object")
    if text is not None:
        add_text(text, stored)
    return messages
