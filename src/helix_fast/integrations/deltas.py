"""Text on its way from the log into another protocol: as it is stored, neither decoded nor encoded again. No HTTP.

Most of a stream is text. Its lines differ in their text alone, and the text is written in JSON in the log and in the
protocol alike: what stands before and after it is learned from one line, and the codec does the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

import msgspec

from helix_fast import codec
from helix_fast.errors import MalformedChunkError
from helix_fast.streams.chunks import StreamChunk, UnknownChunk, decode_chunk, text_encoder
from helix_fast.streams.lines import Lines

WRAPPER: Final = "ui"
"""Type of the chunks that are stored: the wrapper of another protocol's chunk, whose types may collide with ours."""
T = TypeVar("T")
_TEXT_HEAD: Final = b'{"type":"text_delta","delta":"'
_WRAPPER_HEAD: Final = b'{"type":"%s","chunk":' % WRAPPER.encode()


class LastFramed:
    """What was made of the entry that came last. All clients of a stream get the same entry in turn: one frames it.

    Its one slot is replaced as a whole, so threads may share it.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[Any, ...], Any] = (b"", (), None)

    def of(self, body: bytes, key: tuple[Any, ...], make: Callable[..., T]) -> T:
        """What ``make(*key)`` returns for this very ``body``: made now, or for the client before."""
        last, known, framed = self._last
        if last is body and known == key:
            return cast("T", framed)
        made = make(*key)
        self._last = (body, key, made)
        return made


last_framed: Final = LastFramed()


class Form(NamedTuple):
    """How lines of text are stored, and what the data of their events is: ``head``, the text, ``tail``."""

    line_head: bytes
    line_tail: bytes
    head: bytes
    tail: bytes = b'"}'


class Framing(Protocol):
    """What a protocol does with the chunks that are decoded, and with text that is not."""

    form: Form | None
    """That of the text which probably follows; None: decode what follows."""
    coalesce: bool
    """Whether ``deltas`` makes one event of all text."""

    def deltas(self, form: Form, lines: Lines) -> tuple[int, int, bytes]:
        """Frame leading lines of text; returns the sequence of the first one, their number, and the frames."""

    def other(self, chunk: StreamChunk, sequence: int, lines: Lines) -> bytes:
        """Frame any chunk."""

    def text_head(self) -> bytes | None:
        """What the data of the next event has before its text, where our next ``text_delta`` only adds to its part."""


def frames_of(stored: Lines, framing: Framing) -> list[bytes]:
    """The frames of a batch. What is no chunk is left out: protocols have no event for it."""
    found: list[bytes] = []
    learned = False  # the form, from the line that has made the last frame
    lines: list[bytes] | None = None
    first, after = stored.after + 1, stored.after
    while after < stored.last:
        if framing.form is not None:
            begin, count, frames = framing.deltas(framing.form, stored._replace(after=after))
            if count:
                if learned and framing.coalesce:
                    form = framing.form
                    found[-1] = found[-1][: -len(form.tail + b"\n\n")] + frames.partition(form.head)[2]
                else:
                    found.append(frames)
                after, learned = begin + count - 1, False
                continue
        if lines is None:
            first, lines = codec.split_lines(stored.body, stored.last, after)
        after = max(after, first - 1)
        if after >= stored.last:
            break
        line = lines[after + 1 - first]
        after += 1
        try:
            chunk = decode_chunk(line, after)
        except MalformedChunkError:
            continue
        frames = framing.other(chunk, after, stored)
        framing.form = _form(line, chunk, framing)
        learned = bool(frames) and framing.form is not None
        if frames:
            found.append(frames)
    return found


def unwrapped(chunk: StreamChunk) -> dict[str, Any] | None:
    """The chunk of another protocol in its wrapper, empty for the first one of a run; None: it is a chunk of ours."""
    if isinstance(chunk, UnknownChunk) and chunk.type == WRAPPER:
        inner = chunk.data.get("chunk")
        return inner if isinstance(inner, dict) else {}
    return None


def _form(line: bytes, chunk: StreamChunk, framing: Framing) -> Form | None:
    """The form of lines like this one."""
    inner = unwrapped(chunk)
    if inner:
        *_others, (name, text) = inner.items()
        data = msgspec.json.encode(inner)
        if name != "delta" or not isinstance(text, str) or line != _WRAPPER_HEAD + data + b"}":
            return None
        head = data[: -len(msgspec.json.encode(text)) - 1] + b'"'
        return Form(_WRAPPER_HEAD + head, b'"}', head)
    head_of_ours = framing.text_head()
    encoder = None if head_of_ours is None else text_encoder(line)
    if encoder is None or head_of_ours is None:
        return None
    return Form(_TEXT_HEAD, encoder.encode_text("", 0)[len(_TEXT_HEAD) : -len(b"0}")], head_of_ours)
