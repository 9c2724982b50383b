"""The keys of a server in memory: values by name, expiry times, types, and copies of all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

Clock = Callable[[], float]
T = TypeVar("T")


class CommandError(Exception):
    """An error reply; the first word is its code, as on a server."""


class Status(bytes):
    """A simple-string reply, such as ``OK``."""

    __slots__ = ()


OK: Final = Status(b"OK")


class Hash(dict[bytes, bytes]):
    """A HASH."""

    __slots__ = ()


class SortedSet(dict[bytes, float]):
    """A ZSET: scores by member. Ordered when it is read, since ours are read far less than a page at a time."""

    __slots__ = ()

    def ordered(self) -> list[tuple[float, bytes]]:
        """(score, member), lowest first."""
        return sorted((score, member) for member, score in self.items())


class Stream:
    """A STREAM: ids as (milliseconds, sequence), and the fields of each, as flat lists."""

    __slots__ = ("fields", "ids", "last")

    def __init__(self) -> None:
        self.ids: list[tuple[int, int]] = []
        self.fields: list[list[bytes]] = []
        self.last: tuple[int, int] = (0, 0)

    def copy(self) -> Stream:
        """A stream of its own. The lists of fields are shared: they never change."""
        copied = Stream()
        copied.ids, copied.fields, copied.last = self.ids[:], self.fields[:], self.last
        return copied


def copy_of(value: Any) -> Any:
    """A copy of a key's value that shares nothing that changes."""
    if type(value) is bytes:
        return value
    return value.copy() if type(value) is Stream else type(value)(value)


class KeyspaceState(NamedTuple):
    """Everything in a keyspace at one time. It is never changed."""

    values: dict[bytes, Any]
    expires: dict[bytes, int]
    micros: tuple[int, int]


_KINDS: Final[dict[type, bytes]] = {
    bytes: b"string", Hash: b"hash", list: b"list", set: b"set", SortedSet: b"zset", Stream: b"stream",
}  # fmt: skip


class Keyspace:
    """Keys, values and expiry times. ``begin`` sets the time that one command or script sees."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[bytes, Any] = {}
        self._expires: dict[bytes, int] = {}
        self._since_sweep = 0
        self._micros = (0, 0)  # the clock when TIME was last asked, and what TIME said
        self.now: int = 0
        """Unix milliseconds at which the running command began."""

    def begin(self) -> None:
        """A command or script begins: time stands still until it is done."""
        self.now = int(self._clock() * 1000)
        self._since_sweep += 1
        # Expired keys go even if no command names them again; the cost of a sweep is spread over as many commands.
        if self._since_sweep > max(1024, len(self._expires)):
            self._since_sweep = 0
            for key in [key for key, when in self._expires.items() if when <= self.now]:
                self.delete(key)

    def micros(self) -> int:
        """Unix microseconds for TIME. They grow while the clock stands still, and go back where it does.

        So nonces made of them differ under a clock that a test has stopped.
        """
        clock = int(self._clock() * 1_000_000)
        last_clock, last = self._micros
        time = max(clock, last + 1) if clock >= last_clock else clock
        self._micros = (clock, time)
        return time

    def peek(self, key: bytes) -> Any:
        """The value of a key of any type, or None."""
        when = self._expires.get(key)
        if when is not None and when <= self.now:
            self.delete(key)
        return self._values.get(key)

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """The value of a key, or None.

        Raises:
            CommandError: WRONGTYPE.
        """
        value: T | None = self.peek(key)
        if value is not None and type(value) is not kind:
            raise CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def made(self, key: bytes, kind: Callable[[], T]) -> T:
        """The value of a key, made where there is none."""
        assert isinstance(kind, type)
        value = self.get(key, kind)
        if value is None:
            value = self._values[key] = kind()
        return value  # type: ignore[no-any-return]

    def put(self, key: bytes, value: Any, *, keep_ttl: bool = False) -> None:
        """Store a value, in place of an earlier one of any type."""
        self.peek(key)
        self._values[key] = value
        if not keep_ttl:
            self._expires.pop(key, None)

    def dropped_if_empty(self, key: bytes, value: Any) -> None:
        """A collection without elements is no key."""
        if not value:
            self.delete(key)

    def delete(self, key: bytes) -> bool:
        """Whether there was such a key."""
        self._expires.pop(key, None)
        return self._values.pop(key, None) is not None

    def exists(self, key: bytes) -> bool:
        """Whether there is such a key now."""
        return self.peek(key) is not None

    def expire_at(self, key: bytes, when: int) -> bool:
        """Let a key expire at Unix milliseconds; whether there is one."""
        if not self.exists(key):
            return False
        if when <= self.now:
            self.delete(key)
        else:
            self._expires[key] = when
        return True

    def persist(self, key: bytes) -> bool:
        """Keep a key for good; whether it would have expired."""
        return self.exists(key) and self._expires.pop(key, None) is not None

    def expires(self, key: bytes) -> int | None:
        """Unix milliseconds at which a key expires."""
        return self._expires.get(key) if self.exists(key) else None

    def kind(self, key: bytes) -> bytes:
        """The type of a key's value by name, ``none`` where there is no such key."""
        value = self.peek(key)
        return b"none" if value is None else _KINDS[type(value)]

    def names(self) -> list[bytes]:
        """All keys there are now."""
        return [key for key in list(self._values) if self.exists(key)]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._expires.clear()

    def state(self) -> KeyspaceState:
        """A copy of everything."""
        values = {key: copy_of(value) for key, value in self._values.items()}
        return KeyspaceState(values, self._expires.copy(), self._micros)

    def set_back(self, state: KeyspaceState) -> None:
        """Become what ``state`` was copied from."""
        self._values = {key: copy_of(value) for key, value in state.values.items()}
        self._expires = state.expires.copy()
        self._micros = state.micros
