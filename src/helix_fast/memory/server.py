"""MemoryServer: what the stores in memory talk to, in the place of a Redis or Valkey server.

The twins in memory are the stores on Redis, over a server that lives in this process: it has the commands that the
stores use, runs their scripts, and speaks RESP to the same lanes and hubs. So there is one implementation of what a
store means, and nothing that could behave otherwise in a test than in production.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError
from helix_fast.transport.topology import Standalone

from .commands.arguments import COMMANDS, integer
from .keyspace import OK, Clock, CommandError, Keyspace, Status
from .link import MemoryConnection, MemoryTransport
from .scripting import Scripts

for _group in ("keys", "collections", "sorted_sets", "streams"):
    import_module(f".commands.{_group}", __package__)  # each enters its commands into the table

_logger: Final = logging.getLogger("helix_fast")
_SUBSCRIPTIONS: Final = {
    b"SUBSCRIBE": (True, False), b"UNSUBSCRIBE": (False, False),
    b"SSUBSCRIBE": (True, True), b"SUNSUBSCRIBE": (False, True),
}  # fmt: skip


class LockTable:
    """The locks under one key prefix, for the InMemoryLockManagers of one server."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.waiting: dict[str, deque[asyncio.Event]] = {}
        self.last_token = 0


class MemoryServer:
    """Keys, scripts and channels of one server in this process; stores that are given the same one share their data.

    It may be used from several event loops and threads, by stores of their own. Its data goes with it.

    Args:
        clock: seconds since the epoch, for all that a server's clock decides: expiry, leases, terms, the times of locks
            and sessions. Default ``time.time``. A clock that stands still keeps everything alive.

    Raises:
        InvalidArgumentError: ``clock`` is not callable.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        if clock is not None and not callable(clock):
            raise InvalidArgumentError("clock must be a function that returns seconds since the epoch")
        self.clock = clock
        """What it was given; None: the system's."""
        self._keys = Keyspace(time.time if clock is None else clock)
        self._locks: dict[str, LockTable] = {}
        self._scripts = Scripts(self._run)
        self._channels: dict[tuple[bool, bytes], list[MemoryTransport]] = {}
        self._lock = threading.RLock()
        self._own: dict[bytes, tuple[int, Callable[[Sequence[bytes]], Any]]] = {
            b"PING": (0, lambda args: args[0] if args else Status(b"PONG")),
            b"ECHO": (1, lambda args: args[0]),
            b"TIME": (0, lambda _args: self._time()),
            b"PUBLISH": (2, lambda args: self._publish(False, args[0], args[1])),
            b"SPUBLISH": (2, lambda args: self._publish(True, args[0], args[1])),
            b"PUBSUB": (1, self._pubsub),
            b"EVAL": (2, lambda args: self._evaluate(self._scripts.load(args[0]), args[1:])),
            b"EVALSHA": (2, lambda args: self._evaluate(args[0], args[1:])),
            b"SCRIPT": (1, self._script),
            b"WAIT": (2, lambda _args: 0),
        }

    async def connector(self) -> MemoryConnection:
        """A connection, as a Link wants it."""
        return MemoryConnection(self)

    def topology(self, *, timeout: float = 5.0, retry_timeout: float = 10.0) -> Standalone:
        """Lane and hub to this server, for the stores of one event loop.

        Args:
            timeout, retry_timeout: seconds, as ``connect`` takes them for any server.

        Raises:
            InvalidArgumentError: no numbers of seconds.
        """
        return Standalone(
            self.connector,
            "memory://",
            timeout=arguments.seconds(timeout, "timeout", 0.01),
            retry_timeout=arguments.seconds(retry_timeout, "retry_timeout"),
        )

    def lock_table(self, key_prefix: str) -> LockTable:
        """What the lock managers with this prefix share."""
        with self._lock:
            return self._locks.setdefault(key_prefix, LockTable())

    def execute(self, *words: bytes | str | int) -> Any:
        """Run one command now and give its reply: for tests that look at what is stored.

        Raises:
            CommandError: the server's error reply.
        """
        request = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        with self._lock:
            self._keys.begin()
            return self._run(request)

    def request(self, words: Any, transport: MemoryTransport) -> list[Any]:
        """The replies to a request of a connection: one, or one a channel."""
        with self._lock:
            name = words[0].upper()
            if name in _SUBSCRIPTIONS:
                return self._subscribe(name, words[1:], transport)
            self._keys.begin()
            try:
                return [self._run(words)]
            except CommandError as error:
                return [error]
            except Exception as error:  # a bug here must not leave the caller waiting for ever
                _logger.exception("the server in memory failed")
                return [CommandError(f"ERR {error!r}")]

    def _run(self, words: Sequence[bytes]) -> Any:
        if not words:
            raise CommandError("ERR Please specify at least one argument for this redis.call() call")
        name, args = words[0].upper(), words[1:]
        known = COMMANDS.get(name)
        if known is not None:
            if not known.least <= len(args) <= known.most:
                raise CommandError(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
            return known.run(self._keys, args)
        least, own = self._own.get(name, (0, None))
        if own is None:
            raise CommandError(f"ERR unknown command '{words[0].decode(errors='replace')}'")
        if len(args) < least:
            raise CommandError(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
        return own(args)

    def _time(self) -> list[bytes]:
        seconds, micros = divmod(self._keys.micros(), 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]

    # scripts

    def _evaluate(self, digest: bytes, args: Sequence[bytes]) -> Any:
        count = integer(args[0])
        if not 0 <= count <= len(args) - 1:
            raise CommandError("ERR Number of keys can't be greater than number of args")
        return self._scripts.run(digest, args[1 : 1 + count], args[1 + count :])

    def _script(self, args: Sequence[bytes]) -> Any:
        action = args[0].upper()
        if action == b"LOAD":
            return self._scripts.load(args[1])
        if action == b"EXISTS":
            return [int(self._scripts.known(digest)) for digest in args[1:]]
        if action == b"FLUSH":
            self._scripts.forget()
            return OK
        raise CommandError("ERR unknown subcommand")

    # channels

    def _publish(self, sharded: bool, channel: bytes, message: bytes) -> int:
        listeners = self._channels.get((sharded, channel), ())
        kind = b"smessage" if sharded else b"message"
        for transport in listeners:
            transport.push([kind, channel, message])
        return len(listeners)

    def _subscribe(self, name: bytes, channels: Sequence[bytes], transport: MemoryTransport) -> list[Any]:
        joins, sharded = _SUBSCRIPTIONS[name]
        replies: list[Any] = []
        for channel in channels:
            where = (sharded, channel)
            if joins and where not in transport.channels:
                transport.channels.add(where)
                self._channels.setdefault(where, []).append(transport)
            elif not joins:
                self._leave(where, transport)
            replies.append([name.lower(), channel, len(transport.channels)])
        return replies

    def _leave(self, where: tuple[bool, bytes], transport: MemoryTransport) -> None:
        if where in transport.channels:
            transport.channels.discard(where)
            listeners = self._channels[where]
            listeners.remove(transport)
            if not listeners:
                del self._channels[where]

    def unsubscribe_all(self, transport: MemoryTransport) -> None:
        """A connection is closed."""
        with self._lock:
            for where in list(transport.channels):
                self._leave(where, transport)

    def _pubsub(self, args: Sequence[bytes]) -> Any:
        action = args[0].upper()
        if action in {b"CHANNELS", b"SHARDCHANNELS"}:
            return [name for sharded, name in self._channels if sharded == (action == b"SHARDCHANNELS")]
        if action in {b"NUMSUB", b"SHARDNUMSUB"}:
            sharded = action == b"SHARDNUMSUB"
            return [word for name in args[1:] for word in (name, len(self._channels.get((sharded, name), ())))]
        raise CommandError("ERR unknown subcommand")
