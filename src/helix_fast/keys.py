"""The names of all keys and channels, their hash tags, and the check of ids; they are made nowhere else.

All keys of one session (stream, lock) carry its id in braces, so that a cluster keeps them in one slot and a script
can touch them together. Programs in other languages rely on the names: docs/wire-format.md (streams), state.md,
usage.md and locks.md.
"""

from __future__ import annotations

import string
import zlib
from urllib.parse import quote, unquote

from .errors import InvalidArgumentError, InvalidIdError

MAX_ID_BYTES = 512
INDEX_SHARDS = 64
_FORBIDDEN = frozenset("{}")
_PREFIX_HINT = "a prefix is printable text without '{' and '}', as 'helix:'; the braces mark the id behind it"


def check_id(value: object, what: str = "id") -> str:
    """Return ``value`` if it is a valid id; else raise InvalidIdError, which calls it ``what``.

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


def has_hash_tag(name: bytes) -> bool:
    """Whether a key or channel has a hash tag, which decides its slot on a cluster."""
    return b"{" in name


class StreamKeys:
    """Names of one stream, as bytes: ``stream`` ``meta`` ``lease``, the pub/sub ``channel``, and drafts."""

    __slots__ = ("channel", "lease", "meta", "stream")

    def __init__(self, prefix: str, stream_id: str) -> None:
        base = f"{prefix}stream:{{{check_id(stream_id, 'stream_id')}}}".encode()
        self.stream: bytes = base
        self.meta: bytes = base + b":meta"
        self.lease: bytes = base + b":lease"
        self.channel: bytes = base + b":push"

    def draft(self, sealer: str) -> bytes:
        """The sealed log as far as one call of ``seal_stream`` has sent it; it replaces the log, or expires."""
        return self.stream + f":sealing:{sealer}".encode()


def stream_index(prefix: str, shard: int) -> bytes:
    """One shard of the index of streams; its own hash tag spreads the shards over a cluster."""
    return f"{prefix}streams:{{{shard:02d}}}".encode()


def stream_control(prefix: str) -> bytes:
    """The control channel: stop, pause and take-over of the streams that a process writes."""
    return f"{prefix}stream-control".encode()


def chat_pointer(prefix: str, chat: str) -> bytes:
    """The pointer from a chat to its last run: STRING with TTL."""
    return f"{prefix}chat:{{{check_id(chat, 'chat')}}}".encode()


class SessionKeys:
    """Names of one session's state, as bytes. ``all`` are those that its scripts take, in their order.

    ``never`` is a key that is never written. On a cluster it is the last key of every script: while a slot migrates, a
    node refuses a script (TRYAGAIN) if some of its keys are present and some absent, as this one always is. Without
    it, a script could run while the message logs, which are not among its keys, are on the other node.
    """

    __slots__ = ("all", "checkpoint_data", "checkpoints", "custom", "hash", "never", "operations", "steps", "subagents")

    def __init__(self, prefix: str, session_id: str) -> None:
        base = f"{prefix}session:{{{check_id(session_id, 'session_id')}}}".encode()
        self.hash: bytes = base
        self.custom: bytes = base + b":custom"
        self.subagents: bytes = base + b":subagents"
        self.checkpoints: bytes = base + b":checkpoints"
        self.checkpoint_data: bytes = base + b":checkpoint-data"
        self.operations: tuple[bytes, bytes] = (base + b":operations:0", base + b":operations:1")
        self.steps: bytes = base + b":steps"
        self.never: bytes = base + b":never"
        self.all: tuple[bytes, ...] = (
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
        """The staged changes of one step."""
        return self.hash + f":staging:{check_id(step_id, 'step_id')}".encode()


class UsageKeys:
    """Names of one session's usage, as bytes. ``prefix`` has no trailing colon here, as on the reference page.

    ``entries`` LIST of JSON; ``ids`` HASH of entry id -> call that recorded it, and of '' -> the list's nonce;
    ``deleted`` ZSET: the calls that deleted them in the last minute; ``totals`` HASH: the stored sums of the first
    entries.
    """

    __slots__ = ("deleted", "entries", "ids", "totals")

    def __init__(self, prefix: str, session_id: str) -> None:
        tag = f"{{{check_id(session_id, 'session_id')}}}"
        self.entries: bytes = f"{prefix}:usage:entries:{tag}".encode()
        self.ids: bytes = f"{prefix}:usage:ids:{tag}".encode()
        self.deleted: bytes = f"{prefix}:usage:deleted:{tag}".encode()
        self.totals: bytes = f"{prefix}:usage:totals:{tag}".encode()


def session_index(prefix: str, shard: int) -> bytes:
    """One shard of the index of sessions; its own hash tag spreads the shards over a cluster."""
    return f"{prefix}sessions:{{{shard:02d}}}".encode()


def index_shard(session_id: str) -> int:
    """The shard of an index that lists a session: by CRC-32, equal in every process and language."""
    return zlib.crc32(session_id.encode()) % INDEX_SHARDS


def usage_index(prefix: str, shard: int) -> bytes:
    """One shard of the index of sessions with usage; its own hash tag spreads the shards over a cluster."""
    return f"{prefix}:usage:sessions:{{{shard:02d}}}".encode()


class LockKeys:
    """Names of one lock, as bytes.

    ``lock`` (STRING with TTL), ``fence`` (last token), ``queue`` and ``alive`` (waiters), and the pub/sub channel
    ``released``.
    """

    __slots__ = ("alive", "fence", "lock", "queue", "released")

    def __init__(self, prefix: str, session_id: str) -> None:
        self.lock: bytes = f"{prefix}lock:{{{check_id(session_id, 'session_id')}}}".encode()
        self.fence: bytes = self.lock + b":fence"
        self.queue: bytes = self.lock + b":queue"
        self.alive: bytes = self.lock + b":alive"
        self.released: bytes = self.lock + b":released"

    def operation(self, operation: str) -> bytes:
        """The outcome of one acquire: STRING with TTL."""
        return self.lock + b":op:" + operation.encode()


_SAFE = "".join(sorted(set(string.punctuation + " ") - set("%{}/")))


def tag_of(text: str, safe: str = "") -> str:
    """Any text as a hash tag: what an id of ours could not hold is percent-encoded.

    The empty text is a lone '%', as Redis takes empty braces for none.
    """
    return quote(text, _SAFE + safe, errors="surrogatepass") or "%"


def text_of(tag: str) -> str:
    """The text that :func:`tag_of` has encoded."""
    return "" if tag == "%" else unquote(tag, errors="surrogatepass")


class ThreadKeys:
    """Names of one thread of LangGraph, as bytes; ``all`` are those that its scripts take, in their order.

    Its id may be any text; ``tag`` is what stands in the braces.
    """

    __slots__ = ("all", "order", "tag")

    def __init__(self, prefix: str, thread_id: str) -> None:
        self.tag: str = tag_of(thread_id, "/")
        base = f"{prefix}graph:{{{self.tag}}}".encode()
        self.order: bytes = base + b":order"
        self.all: tuple[bytes, ...] = (
            base,
            self.order,
            base + b":blobs",
            base + b":writes",
            base + b":operations:0",
            base + b":operations:1",
        )


def thread_index(prefix: str, shard: int) -> bytes:
    """One shard of the index of threads, whose members are their tags."""
    return session_index(f"{prefix}graph:", shard)


class CollectionKeys:
    """Names of one namespace of LangGraph's store or cache, as bytes.

    ``items`` HASH: key -> item; ``expiry`` ZSET of the keys whose items expire. ``names`` ZSET, in another slot: the
    tags of all namespaces with the same first label.
    """

    __slots__ = ("expiry", "items", "names", "root", "tag")

    def __init__(self, prefix: str, kind: str, namespace: tuple[str, ...]) -> None:
        labels = [tag_of(label) for label in namespace]
        self.tag: str = "/".join(labels) or "%%"
        self.items: bytes = f"{prefix}{kind}:{{{self.tag}}}".encode()
        self.expiry: bytes = self.items + b":expiry"
        self.root: str = labels[0] if labels else "%%"
        self.names: bytes = f"{prefix}{kind}-names:{{{self.root}}}".encode()

    @staticmethod
    def namespace(tag: str) -> tuple[str, ...]:
        """The namespace with a tag."""
        return () if tag == "%%" else tuple(map(text_of, tag.split("/")))


def collection_roots(prefix: str, kind: str) -> bytes:
    """SET of the first labels of all namespaces of LangGraph's store or cache."""
    return f"{prefix}{kind}-roots".encode()


class ConversationKeys:
    """Names of a group of pydantic-ai's conversations, as bytes. All share one hash tag: entries belong to several.

    ``index`` ZSET of the conversations; ``never`` as in SessionKeys. What follows the tag may be any text.
    """

    __slots__ = ("_base", "index", "never", "tag")

    def __init__(self, prefix: str, name: str) -> None:
        self.tag: str = check_id(name, "name")
        self._base: bytes = f"{prefix}conversations:{{{name}}}:".encode()
        self.index: bytes = self._base + b"index"
        self.never: bytes = self._base + b"never"

    def record(self, conversation_id: str) -> bytes:
        """HASH: one conversation."""
        return self._base + b"record:" + conversation_id.encode("utf-8", "surrogatepass")

    def list(self, scope: str | None) -> bytes:
        """ZSET: the index, or that of a scope."""
        return self.index if scope is None else self._base + b"scope:" + scope.encode("utf-8", "surrogatepass")

    def operation(self, operation: str) -> bytes:
        """STRING with TTL: the reply to a call."""
        return self._base + b"operation:" + operation.encode()


class EventKeys:
    """Names of one stream of MCP events, as bytes. Its id may be any text; ``tag`` is what stands in the braces.

    ``events`` STREAM of what was sent.
    """

    __slots__ = ("events", "tag")

    def __init__(self, prefix: str, stream_id: str) -> None:
        self.tag: str = tag_of(stream_id, "/")
        self.events: bytes = f"{prefix}mcp-events:{{{self.tag}}}".encode()

    def operation(self, operation: str) -> bytes:
        """STRING with TTL: the event id that a call has stored."""
        return self.events + b":op:" + operation.encode()


class BusKeys:
    """Names of one subscription bus of MCP, as bytes; ``tag`` is what stands in the braces.

    ``last`` STRING: the number of the last event; ``events`` ZSET: each event -> the number of its last occurrence; and
    the pub/sub ``channel``.
    """

    __slots__ = ("channel", "events", "last", "tag")

    def __init__(self, prefix: str, name: str) -> None:
        self.tag: str = check_id(name, "name")
        self.last: bytes = f"{prefix}mcp-bus:{{{name}}}".encode()
        self.events: bytes = self.last + b":events"
        self.channel: bytes = self.last + b":push"


class ByteStreamKeys:
    """Names of one stream of assistant-stream, as bytes.

    ``meta`` HASH: status, error, ttl; ``chunks`` STREAM of bytes; and the pub/sub ``channel``.
    """

    __slots__ = ("channel", "chunks", "meta")

    def __init__(self, prefix: str, stream_id: str) -> None:
        self.chunks: bytes = f"{prefix}assistant:{{{check_id(stream_id, 'stream_id')}}}".encode()
        self.meta: bytes = self.chunks + b":meta"
        self.channel: bytes = self.chunks + b":push"

    def operation(self, operation: str) -> bytes:
        """STRING with TTL: a call was made."""
        return self.chunks + b":op:" + operation.encode()


class FileKeys:
    """Names of a group of Strands' files, as bytes. All share one hash tag, as a list is read in one step.

    ``names`` ZSET: the files' names in order; its name begins those of the files. ``both``: with a key that is never
    written, as in SessionKeys.
    """

    __slots__ = ("_base", "both", "names", "tag")

    def __init__(self, prefix: str, name: str) -> None:
        self.tag: str = check_id(name, "name")
        self._base: bytes = f"{prefix}strands:{{{name}}}:".encode()
        self.names: bytes = self._base + b"names"
        self.both: tuple[bytes, ...] = (self.names, self._base + b"never")

    def file(self, key: bytes) -> bytes:
        """STRING, with a TTL where the storage has one: the bytes of a file."""
        return self._base + b"file:" + key

    def operation(self, operation: str) -> bytes:
        """STRING with TTL: a call was made."""
        return self._base + b"operation:" + operation.encode()
