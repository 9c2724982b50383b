"""What is stored of a thread, as bytes: records of checkpoints, blobs, writes. No I/O and no LangGraph."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Typed = tuple[str, bytes]
"""What a serializer makes of a value: its type and the bytes."""
Version = str | int | float


def text(value: str) -> bytes:
    """Text as UTF-8; a lone surrogate stays one."""
    return value.encode("utf-8", "surrogatepass")


def as_text(value: bytes) -> str:
    """The text that :func:`text` has written."""
    return value.decode("utf-8", "surrogatepass")


def part(value: bytes) -> bytes:
    """Bytes with their length before them, as ``3:abc``: parts can stand one behind the other."""
    return b"%d:%b" % (len(value), value)


def take(data: bytes, at: int) -> tuple[bytes, int]:
    """The part at a position, and the position behind it."""
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end


def take_all(data: bytes, at: int = 0) -> list[bytes]:
    """All parts from a position on."""
    found = []
    while at < len(data):
        value, at = take(data, at)
        found.append(value)
    return found


def typed(value: Typed) -> bytes:
    """A serialized value: the type as a part, and the serializer's bytes as they are."""
    return _kind(value[0]) + value[1]


@lru_cache(64)
def _kind(name: str) -> bytes:
    return part(text(name))


def as_typed(data: bytes) -> Typed:
    """The serialized value that :func:`typed` has written."""
    kind, at = take(data, 0)
    return as_text(kind), data[at:]


@lru_cache(1024)  # each call has one
def namespace(name: str) -> bytes:
    """A namespace, as it stands before the ids of its checkpoints and the names of its blobs."""
    return part(text(name))


@lru_cache(4096)  # each step names all channels, and changes few
def blob(channel: str, version: Version) -> bytes:
    """The name of a blob within its namespace. Equal versions give equal names, also 1 and 1.0."""
    if isinstance(version, str):
        return part(text(channel)) + b"s" + text(version)
    mark = b"i%d" % int(version) if version == int(version) else b"f" + repr(float(version)).encode()
    return part(text(channel)) + mark


def as_blob(name: bytes) -> tuple[str, Version]:
    """Channel and version of the name of a blob."""
    channel, at = take(name, 0)
    kind, mark = name[at : at + 1], as_text(name[at + 1 :])
    return as_text(channel), mark if kind == b"s" else int(mark) if kind == b"i" else float(mark)


class Record(NamedTuple):
    """A stored checkpoint, without the values of its channels.

    Attributes:
        parent: the parent's id, or empty.
        run: the id of the run that made it, or empty.
        blobs: the names of its channels' blobs, which may exist or not; they tell the channels' versions.
        deltas: channels without a blob here, whose value is what was written on the way from an earlier blob.
        checkpoint, metadata: serialized.
    """

    parent: str
    run: str
    blobs: list[bytes]
    deltas: list[str]
    checkpoint: Typed
    metadata: Typed

    def pack(self) -> bytes:
        """The record as it is stored."""
        names, deltas = b"".join(map(part, self.blobs)), b"".join(part(text(channel)) for channel in self.deltas)
        fields = (text(self.parent), text(self.run), names, deltas, typed(self.checkpoint), typed(self.metadata))
        return b"".join(map(part, fields))

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """The record that was stored."""
        parent, run, names, deltas, checkpoint, metadata = take_all(data)
        return cls(
            as_text(parent),
            as_text(run),
            take_all(names),
            list(map(as_text, take_all(deltas))),
            as_typed(checkpoint),
            as_typed(metadata),
        )


class Write(NamedTuple):
    """A write of a task, as it is stored at a checkpoint."""

    path: str
    task: str
    idx: int
    channel: str
    value: Typed

    def pack(self) -> bytes:
        """What is stored beside the task and the index."""
        path, channel = text(self.path), text(self.channel)
        return b"%d:%b%d:%b%b" % (len(path), path, len(channel), channel, typed(self.value))


def writes(groups: Iterable[bytes | None]) -> list[Write]:
    """The writes of some tasks at one checkpoint, in the order in which a run applies them."""
    found = []
    for group in groups:
        if group is None:
            continue
        task, at = take(group, 0)
        fields = take_all(group, at)
        for index, data in zip(fields[::2], fields[1::2], strict=True):
            path, at = take(data, 0)
            channel, at = take(data, at)
            found.append(Write(as_text(path), as_text(task), int(index), as_text(channel), as_typed(data[at:])))
    found.sort(key=lambda write: write[:3])
    return found
