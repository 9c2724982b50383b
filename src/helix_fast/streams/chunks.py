"""Chunk structs, tagged by ``type``, in the wire form of the reference page: JSON with camelCase keys.

Fields that the wire carries and a struct does not know are kept in ``extra`` and written back; a type that is not
known becomes :class:`UnknownChunk`. Wrong data is refused here, with MalformedChunkError, before anything is sent.
"""

# No `from __future__ import annotations` where there are many structs or named tuples: with it, msgspec and typing
# compile the text of each annotation, of each base as well, and the import takes twice as long.
import functools
from collections.abc import Callable
from typing import Any, Final, Union, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

from helix_fast import codec
from helix_fast.arguments import reason, snake_case, to_json, without_lone_surrogates
from helix_fast.errors import MalformedChunkError

# Wire name of `extra`: never a field of anybody's chunk, and never written.
_EXTRA: Final = "~helix_fast.extra"


class Chunk(
    msgspec.Struct, tag_field="type", rename="camel", omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What every chunk carries.

    A writer fills ``agent_id``, ``agent_type`` and ``timestamp`` (Unix milliseconds) where they are None.
    ``step`` is the agent's step. ``extra`` holds fields that this version does not know, by their wire names.
    """

    agent_id: str | None = None
    agent_type: str | None = None
    timestamp: int | None = None
    step: int | None = None
    extra: dict[str, Any] | UnsetType = msgspec.field(default=UNSET, name=_EXTRA)

    @property
    def type(self) -> str:
        """The chunk's ``type`` on the wire."""
        return str(self.__struct_config__.tag)


class TextDeltaChunk(Chunk, tag="text_delta", gc=False):
    """A piece of the text that the model writes. Not seen by the garbage collector: JSON has no cycles."""

    delta: str


class ThinkingChunk(Chunk, tag="thinking"):
    """A piece of the model's reasoning."""

    content: str
    is_complete: bool = msgspec.field(default_factory=bool)


class ToolStartChunk(Chunk, tag="tool_start"):
    """A tool call begins."""

    tool_call_id: str
    tool_name: str
    arguments: Any = None


class ToolEndChunk(Chunk, tag="tool_end"):
    """A tool call is over."""

    tool_call_id: str
    result: Any = None
    success: bool | None = None
    error: str | None = None


class SubAgentStartChunk(Chunk, tag="subagent_start"):
    """A sub-agent begins."""

    sub_session_id: str | None = None
    sub_agent_type: str | None = None
    tool_call_id: str | None = None


class SubAgentEndChunk(Chunk, tag="subagent_end"):
    """A sub-agent is over."""

    sub_session_id: str | None = None
    sub_agent_type: str | None = None
    tool_call_id: str | None = None
    result: Any = None
    success: bool | None = None
    error: str | None = None


class StatePatchChunk(Chunk, tag="state_patch"):
    """The custom state changed: RFC 6902 operations."""

    patches: list[dict[str, Any]]


class CustomChunk(Chunk, tag="custom"):
    """An event of the application."""

    event_name: str
    data: Any = None


class ErrorChunk(Chunk, tag="error"):
    """Something went wrong; ``recoverable`` says whether the run goes on."""

    error: str
    recoverable: bool | None = None


class OutputChunk(Chunk, tag="output"):
    """The agent's final output."""

    output: Any = None


class RunInterruptedChunk(Chunk, tag="run_interrupted"):
    """The run was interrupted."""

    reason: str | None = None
    checkpoint_id: str | None = None


class RunResumedChunk(Chunk, tag="run_resumed"):
    """The run goes on."""

    checkpoint_id: str | None = None
    mode: str | None = None


class CheckpointCreatedChunk(Chunk, tag="checkpoint_created"):
    """A checkpoint was made."""

    checkpoint_id: str | None = None
    step_count: int | None = None


class StreamResyncChunk(Chunk, tag="stream_resync"):
    """The reader must load the state anew: the stream goes on from somewhere else."""

    reason: str | None = None
    checkpoint_id: str | None = None
    from_sequence: int | None = None


class UnknownChunk(msgspec.Struct, frozen=True):
    """A chunk of a type that this version does not know; ``data`` is the whole wire object, ``type`` included."""

    data: dict[str, Any]

    @property
    def type(self) -> str:
        """The chunk's ``type`` on the wire."""
        return cast("str", self.data["type"])

    def __getattr__(self, name: str) -> Any:
        """Fields by their wire name or its snake_case form, where that is no name of this class."""
        if not name.startswith("__"):
            data = self.data
            if name in data:
                return data[name]
            head, *rest = name.split("_")
            camel = head + "".join(part.capitalize() for part in rest)
            if camel in data:
                return data[camel]
        raise AttributeError(name)


AnyKnownChunk = Union[  # noqa: UP007  msgspec reads it at run time on Python 3.10
    TextDeltaChunk,
    ThinkingChunk,
    ToolStartChunk,
    ToolEndChunk,
    SubAgentStartChunk,
    SubAgentEndChunk,
    StatePatchChunk,
    CustomChunk,
    ErrorChunk,
    OutputChunk,
    RunInterruptedChunk,
    RunResumedChunk,
    CheckpointCreatedChunk,
    StreamResyncChunk,
]
StreamChunk = Union[AnyKnownChunk, UnknownChunk]  # noqa: UP007
KNOWN_CHUNKS: Final[dict[str, type[Chunk]]] = {
    str(struct.__struct_config__.tag): struct for struct in get_args(AnyKnownChunk)
}

_decode_known: Final[Callable[[bytes], StreamChunk]] = msgspec.json.Decoder(AnyKnownChunk).decode
_decode_known_list = msgspec.json.Decoder(list[AnyKnownChunk]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_NOT_KNOWN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What these decoders raise."""


def encode_chunk(
    chunk: StreamChunk | dict[str, Any], agent_id: str | None = None, agent_type: str | None = None, now: int = 0
) -> bytes:
    """Encode a chunk to one line of JSON.

    A struct's missing ``agent_id``, ``agent_type`` and ``timestamp`` are taken from the arguments; a dict is in wire
    form already and goes out as it is.

    Raises:
        MalformedChunkError: no object, no string ``type``, NaN or Infinity, text that is no Unicode, values that JSON
            does not have, or a known type with missing or wrong fields.
    """
    data: Any = None
    try:
        if isinstance(chunk, dict):
            data = chunk
        elif isinstance(chunk, Chunk):
            # msgspec does not check types when a struct is made, so a wrong field would only be noticed by a reader
            return _known_to_wire(chunk, agent_id, agent_type, now)
        elif isinstance(chunk, UnknownChunk):
            data = chunk.data
        if not isinstance(data, dict):
            raise MalformedChunkError(None, chunk, f"expected an object, got {type(chunk).__name__}")
        kind = data.get("type")
        if not isinstance(kind, str):
            raise MalformedChunkError(None, chunk, "'type' is missing or no string")
        codec.check_finite(data, binary=False)
        wire = to_json(data)
        struct = KNOWN_CHUNKS.get(kind)
        if struct is None:
            return wire
        try:
            _decode_known(wire)
            return wire
        except _NOT_KNOWN:
            pass
        slip = snake_case(struct, data) if chunk is data else None
        if slip is not None:
            raise MalformedChunkError(None, chunk, f"no field {slip[0]!r}; a dict has names as in JSON: {slip[1]!r}")
        _decode_other(wire, None)
        return wire
    except MalformedChunkError as error:
        error.data = chunk
        raise
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        problem = str(error) if isinstance(chunk, Chunk) else reason(data, error)
        raise MalformedChunkError(None, chunk, problem) from error


def _known_to_wire(chunk: Chunk, agent_id: str | None, agent_type: str | None, now: int) -> bytes:
    own = (chunk.agent_id, chunk.agent_type, chunk.timestamp)
    try:
        # Filling the caller's own struct and putting it back costs less than half of a copy.
        if own[0] is None:
            chunk.agent_id = agent_id
        if own[1] is None:
            chunk.agent_type = agent_type
        if own[2] is None and now:
            chunk.timestamp = now
        codec.check_finite(chunk, binary=False)
        if chunk.extra is not UNSET:
            data = msgspec.to_builtins(chunk)
            data.pop(_EXTRA)
            data = {**data, **{key: value for key, value in chunk.extra.items() if key not in data}}
            wire = to_json(data)
        else:
            wire = to_json(chunk)
    finally:
        chunk.agent_id, chunk.agent_type, chunk.timestamp = own
    decode_chunk(wire)
    return wire


def decode_chunk(data: bytes, sequence: int | None = None) -> StreamChunk:
    """Decode one chunk.

    Raises:
        MalformedChunkError: with ``sequence`` and the bytes, where they are no chunk.
    """
    try:
        return _decode_known(data)
    except _NOT_KNOWN:
        pass
    return _decode_other(data, sequence)


def _decode_other(data: bytes, sequence: int | None) -> StreamChunk:
    """Decode a chunk that is none of the known ones as they are: of another type, with more fields, or malformed."""
    try:
        fields = _decode_object(data)
    except _NOT_KNOWN as error:
        whole = without_lone_surrogates(data)
        if whole is not None:
            try:
                return decode_chunk(whole, sequence)
            except MalformedChunkError as refusal:
                refusal.data = data
                raise
        raise MalformedChunkError(sequence, data, str(error)) from error
    kind = fields.get("type")
    if not isinstance(kind, str):
        raise MalformedChunkError(sequence, data, "'type' is missing or no string")
    struct = KNOWN_CHUNKS.get(kind)
    if struct is None:
        return UnknownChunk(fields)
    names = {name for name in struct.__struct_encode_fields__ if name != _EXTRA} | {"type"}
    known = {name: value for name, value in fields.items() if name in names}
    extra = {name: value for name, value in fields.items() if name not in names}
    try:
        chunk = msgspec.convert(known, struct)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MalformedChunkError(sequence, data, str(error)) from error
    if extra:
        chunk.extra = extra
    return cast("StreamChunk", chunk)


@functools.lru_cache(maxsize=1024)
def _encoder(agent_id: str, agent_type: str | None) -> codec.ChunkEncoder:
    return codec.ChunkEncoder(agent_id, agent_type)


Decoded = tuple[int, list[Union[StreamChunk, MalformedChunkError]], bool]  # noqa: UP007  read on Python 3.10
"""Sequence of the first chunk; the chunks, an error in the place of bytes that are none; whether there are errors."""


_TEXT_HEAD: Final = b'{"type":"text_delta",'


class LineDecoder:
    """Decodes the chunks of one stream. Text of the agent whose text came last is decoded in one go by the codec."""

    __slots__ = ("_encoder",)

    def __init__(self) -> None:
        self._encoder: codec.ChunkEncoder | None = None

    def decode(self, body: bytes, last: int, after: int) -> Decoded:
        """Decode the chunks of an entry that come after sequence ``after``; ``last`` is that of its last chunk."""
        if self._encoder is None and body.startswith(_TEXT_HEAD):
            self._encoder = text_encoder(body.partition(b"\n")[0])
        if self._encoder is not None:
            first, texts, others = codec.decode_texts(self._encoder, body, last, after, TextDeltaChunk)
            chunks = cast("list[StreamChunk | MalformedChunkError]", texts)
            if not others:
                return first, chunks, False
            if others < len(chunks):
                lines = codec.split_lines(body, last, after)[1]
                for index, line in enumerate(lines):
                    if chunks[index] is None:
                        chunks[index] = _decode_or_error(line, first + index)
                return first, chunks, _any_error(chunks)
        first, chunks, faulty = decode_lines(body, last, after)
        self._encoder = None  # none of it is that agent's
        return first, chunks, faulty

    def decode_shared(self, body: bytes, last: int, after: int) -> Decoded | None:
        """As ``decode``, if the chunks are plain text, whose copies are cheap; None otherwise.

        All readers of a stream in one process get the same entry, but never the same chunk objects: those can be
        changed. Chunks that may hold nested values are decoded for each reader: a deep copy costs more than that.
        """
        decoded = self.decode(body, last, after)
        plain = all(type(chunk) is TextDeltaChunk and chunk.extra is UNSET for chunk in decoded[1])
        return decoded if plain else None


def text_encoder(line: bytes) -> codec.ChunkEncoder | None:
    """The encoder of a line, where it is an agent's plain text."""
    if not line.startswith(_TEXT_HEAD):
        return None
    chunk = _decode_or_error(line, 0)
    if type(chunk) is TextDeltaChunk and chunk.agent_id is not None:
        return _encoder(chunk.agent_id, chunk.agent_type)
    return None


def decode_lines(body: bytes, last: int, after: int) -> Decoded:
    """As ``LineDecoder.decode``, by msgspec alone."""
    first, count, array = codec.join_lines(body, last, after)
    try:
        chunks = _decode_known_list(array)
        if len(chunks) == count:  # a line that holds "{},{}" is no chunk, though it makes a fine array
            return first, cast("list[StreamChunk | MalformedChunkError]", chunks), False
    except _NOT_KNOWN:
        pass
    first, lines = codec.split_lines(body, last, after)
    found = [_decode_or_error(line, sequence) for sequence, line in enumerate(lines, first)]
    return first, found, _any_error(found)


def _decode_or_error(line: bytes, sequence: int) -> StreamChunk | MalformedChunkError:
    try:
        return decode_chunk(line, sequence)
    except MalformedChunkError as error:
        return error


def _any_error(chunks: list[StreamChunk | MalformedChunkError]) -> bool:
    return any(isinstance(chunk, MalformedChunkError) for chunk in chunks)
