"""Every key and channel name, the hash tags in them, and the check of ids: nowhere else.

All keys of one session (stream, lock) carry its id in braces, so that a cluster keeps them in one slot and a script
can touch them together. Readers in other languages rely on the names, which docs/
has in wire-format.md (streams), state.md, usage.md and locks.md.
"""

from __future__ import annotations

import zlib

from .errors import InvalidArgumentError, InvalidIdError

MAX_ID_BYTES = 512
INDEX_SHARDS = 64
_FORBIDDEN = frozenset("{}")
_PREFIX_HINT = "a prefix is printable text without '{' and '}', as 'helix:'; the braces mark the id behind it"


def check_id(value: object, what: str = "id") -> str:
    """Return ``value`` if it can be part of a key; else raise InvalidIdError. ``what`` names it in the message.

    A str of a subclass (numpy's, a member of an Enum) is taken for its text, whatever it writes of itself.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"{what} must be a str, not {type(value).__name__}")
    value = str.__str__(value)
    if not value:
        raise InvalidIdError(f"{what} is empty")
    if not value.isprintable() or not _FORBIDDEN.isdisjoint(value):
        raise InvalidIdError(f"{what} {value!r} has braces or characters that are not printable")
    # isprintable() refuses surrogates, so encoding cannot fail
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        raise InvalidIdError(f"{what} is {len(value.encode())} bytes long, {MAX_ID_BYTES} are allowed")
    return value


def check_prefix(value: object) -> str:
    """Return ``value`` if it can be a key prefix: a str of printable characters without braces, or empty."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"key_prefix must be a str, not {type(value).__name__}", hint=_PREFIX_HINT)
    if value and (not value.isprintable() or not _FORBIDDEN.isdisjoint(value)):
        raise InvalidArgumentError(
            f"key_prefix {value!r} has braces or characters that are not printable", hint=_PREFIX_HINT
        )
    return value


class StreamKeys:
    """Names of one stream, as bytes: ``stream`` ``meta`` ``lease`` and the pub/sub ``channel``."""

    __slots__ = ("channel", "lease", "meta", "stream")

    def __init__(self, prefix: str, stream_id: str) -> None:
        base = f"{prefix}stream:{{{check_id(stream_id, 'stream_id')}}}".encode()
        self.stream = base
        self.meta = base + b":meta"
        self.lease = base + b":lease"
        self.channel = base + b":push"


def stream_control(prefix: str) -> bytes:
    """Channel on which a process hears of stops, pauses and take-overs of the streams that it writes."""
    return f"{prefix}stream-control".encode()


class SessionKeys:
    """Names of one session's state, as bytes. ``all`` are those that its scripts take, in their order.

    ``never`` names a key that nobody writes. On a cluster the scripts are given it too, last: a node refuses (TRYAGAIN)
    a script of which some keys are there and some are not while their slot is on its way, and so none runs where the
    message logs, which only the session knows, may be on the other node.
    """

    __slots__ = ("all", "checkpoint_data", "checkpoints", "custom", "hash", "never", "operations", "steps", "subagents")

    def __init__(self, prefix: str, session_id: str) -> None:
        base = f"{prefix}session:{{{check_id(session_id, 'session_id')}}}".encode()
        self.hash = base
        self.custom = base + b":custom"
        self.subagents = base + b":subagents"
        self.checkpoints = base + b":checkpoints"
        self.checkpoint_data = base + b":checkpoint-data"
        self.operations = (base + b":operations:0", base + b":operations:1")
        self.steps = base + b":steps"
        self.never = base + b":never"
        self.all = (
            base,
            self.custom,
            self.subagents,
            self.checkpoints,
            self.checkpoint_data,
            *self.operations,
            self.steps,
        )

    def messages(self, generation: int | str) -> bytes:
        """The message log of one generation."""
        return self.hash + f":messages:{generation}".encode()

    def staging(self, step_id: str) -> bytes:
        """What the tool calls of one step have staged."""
        return self.hash + f":staging:{check_id(step_id, 'step_id')}".encode()


class UsageKeys:
    """Names of one session's usage, as bytes. ``prefix`` has no trailing colon here, as on the reference page.

    ``entries`` LIST of JSON; ``ids`` HASH of entry id -> call that recorded it, and of '' -> the list's nonce;
    ``deleted`` ZSET: the calls that deleted them in the last minute; ``totals`` HASH: what the first entries add up to,
    as some reader has stored it.
    """

    __slots__ = ("deleted", "entries", "ids", "totals")

    def __init__(self, prefix: str, session_id: str) -> None:
        tag = f"{{{check_id(session_id, 'session_id')}}}"
        self.entries = f"{prefix}:usage:entries:{tag}".encode()
        self.ids = f"{prefix}:usage:ids:{tag}".encode()
        self.deleted = f"{prefix}:usage:deleted:{tag}".encode()
        self.totals = f"{prefix}:usage:totals:{tag}".encode()


def usage_shard(session_id: str) -> int:
    """Shard of the index in which a session is listed. CRC-32, so that every process and language agrees."""
    return zlib.crc32(session_id.encode()) % INDEX_SHARDS


def usage_index(prefix: str, shard: int) -> bytes:
    """One shard of the index of sessions that have usage; each has a hash tag of its own, to spread over a cluster."""
    return f"{prefix}:usage:sessions:{{{shard:02d}}}".encode()


class LockKeys:
    """Names of one lock, as bytes.

    ``lock`` (STRING with TTL), ``fence`` (last token), ``queue`` and ``alive`` (who waits), and the pub/sub channel
    ``released``.
    """

    __slots__ = ("alive", "fence", "lock", "queue", "released")

    def __init__(self, prefix: str, session_id: str) -> None:
        self.lock = f"{prefix}lock:{{{check_id(session_id, 'session_id')}}}".encode()
        self.fence = self.lock + b":fence"
        self.queue = self.lock + b":queue"
        self.alive = self.lock + b":alive"
        self.released = self.lock + b":released"

    def operation(self, operation: str) -> bytes:
        """What became of one acquire: STRING with TTL."""
        return self.lock + b":op:" + operation.encode()
