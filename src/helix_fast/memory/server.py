"""MemoryServer: a server in this process, for stores in memory, in place of Redis or Valkey.

It has the commands that the stores use, runs their scripts, and speaks RESP to the same lanes and hubs. So an operation
has one meaning, and nothing can behave otherwise in a test than in production.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError

from .commands.arguments import COMMANDS, integer
from .keyspace import OK, Clock, CommandError, Keyspace, KeyspaceState, Status
from .scripting import Scripts
from .transport import MemoryTopology, MemoryTransport

for _group in ("keys", "collections", "sorted_sets", "streams"):
    import_module(f".commands.{_group}", __package__)  # each enters its commands into the table

_logger: Final = logging.getLogger("helix_fast")
_SUBSCRIPTIONS: Final = {
    b"SUBSCRIBE": (True, False), b"UNSUBSCRIBE": (False, False),
    b"SSUBSCRIBE": (True, True), b"SUNSUBSCRIBE": (False, True),
}  # fmt: skip
_NOT_IN_SCRIPTS: Final = frozenset({b"EVAL", b"EVALSHA", b"SCRIPT", *_SUBSCRIPTIONS})


class Snapshot(NamedTuple):
    """A MemoryServer at one time; see ``MemoryServer.snapshot``. Of use to ``restore`` alone."""

    keys: KeyspaceState
    run_id: str
    replication_id: str


class MemoryServer:
    """Keys, scripts and channels of one server in this process; stores on the same one share their data.

    It may be used from several event loops and threads, by stores of their own. Its data goes with it.

    Args:
        clock: seconds since the epoch, for all that a server's clock decides: expiry, leases, terms, the times of locks
            and sessions. Default ``time.time``. A clock that stands still keeps everything alive, and one that goes
            back is believed, as a server believes its own.

    Raises:
        InvalidArgumentError: ``clock`` is not callable, or the package lupa is not installed (the extra ``memory``).

    Example:
        server = MemoryServer()
        before = server.snapshot()
        ...
        server.restore(before, new_history=True)  # as a promoted replica without the latest writes
    """

    def __init__(self, clock: Clock | None = None) -> None:
        if clock is not None and not callable(clock):
            raise InvalidArgumentError("clock must be a function that returns seconds since the epoch")
        self.clock = clock
        """The clock that was passed in; None: the system's."""
        self._keys = Keyspace(time.time if clock is None else clock)
        self._scripts = Scripts(self._run_in_script)
        self._channels: dict[tuple[bool, bytes], list[MemoryTransport]] = {}
        self._transports: weakref.WeakSet[MemoryTransport] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._run_id = self._replication_id = ""
        self._begin_history()
        self._own: dict[bytes, tuple[int, Callable[[Sequence[bytes]], Any]]] = {
            b"PING": (0, lambda args: args[0] if args else Status(b"PONG")),
            b"ECHO": (1, lambda args: args[0]),
            b"TIME": (0, lambda _args: self._time()),
            b"INFO": (0, self._info),
            b"PUBLISH": (2, lambda args: self._publish(False, args[0], args[1])),
            b"SPUBLISH": (2, lambda args: self._publish(True, args[0], args[1])),
            b"PUBSUB": (1, self._pubsub),
            b"EVAL": (2, lambda args: self._evaluate(self._scripts.load(args[0]), args[1:])),
            b"EVALSHA": (2, lambda args: self._evaluate(args[0], args[1:])),
            b"SCRIPT": (1, self._script),
            b"WAIT": (2, lambda _args: 0),
        }

    # connections

    def connect(self) -> MemoryTransport:
        """A connection, for the running event loop."""
        transport = MemoryTransport(self.request, self._leave_all)
        with self._lock:
            self._transports.add(transport)
        return transport

    def topology(self, *, timeout: float = 5.0, retry_timeout: float = 10.0) -> MemoryTopology:
        """Lane and hub to this server, for stores that share them; used from one event loop at a time.

        Args:
            timeout, retry_timeout: seconds, as ``connect`` takes them for any server.

        Raises:
            InvalidArgumentError: no numbers of seconds.
        """
        return MemoryTopology(
            self.connect,
            timeout=arguments.seconds(timeout, "timeout", 0.01),
            retry_timeout=arguments.seconds(retry_timeout, "retry_timeout"),
        )

    # earlier states

    def snapshot(self) -> Snapshot:
        """The server as it is now: keys, expiry times, what TIME has said, run id and replication id.

        It costs a shallow copy of every value, and can be restored any number of times, in other servers too.
        """
        with self._lock:
            return Snapshot(self._keys.state(), self._run_id, self._replication_id)

    def restore(self, snapshot: Snapshot, *, new_history: bool = False, keep_connections: bool = False) -> None:
        """Set the server back to an earlier state. The clock goes on as it will.

        Args:
            new_history: with a new run id and replication id, which INFO returns: for a server whose history forks
                here. Otherwise the server has those of the snapshot.
            keep_connections: leave connections, subscriptions and known scripts as they are. Otherwise all connections
                break, replies under way are lost and scripts have to be loaded anew, as when a server is restarted.
        """
        with self._lock:
            self._keys.set_back(snapshot.keys)
            self._run_id, self._replication_id = snapshot.run_id, snapshot.replication_id
            if new_history:
                self._begin_history()
            if not keep_connections:
                self._scripts.forget()
                for transport in list(self._transports):
                    transport.break_off()

    def _begin_history(self) -> None:
        self._run_id, self._replication_id = secrets.token_hex(20), secrets.token_hex(20)

    # requests

    def execute(self, *words: bytes | str | int) -> Any:
        """Run one command now; its reply. For tests that inspect what is stored.

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
            except Exception as error:  # a bug here must not leave the caller without a reply
                _logger.exception("the server in memory failed")
                return [CommandError(f"ERR {error!r}")]

    def _run(self, words: Sequence[bytes]) -> Any:
        if not words:
            raise CommandError("ERR Please specify at least one argument for this call")
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

    def _run_in_script(self, words: Sequence[bytes]) -> Any:
        if words and words[0].upper() in _NOT_IN_SCRIPTS:
            raise CommandError("ERR This command is not allowed from script")
        return self._run(words)

    def _info(self, args: Sequence[bytes]) -> bytes:
        sections = {
            b"server": f"# Server\r\nredis_version:7.2.4\r\nserver_name:memory\r\nrun_id:{self._run_id}\r\n",
            b"replication": "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
            f"master_replid:{self._replication_id}\r\nmaster_repl_offset:0\r\n",
        }
        asked = {name.lower() for name in args} or {b"all"}
        everything = not asked.isdisjoint({b"all", b"default", b"everything"})
        return "\r\n".join(text for name, text in sections.items() if everything or name in asked).encode()

    def _time(self) -> list[bytes]:
        seconds, micros = divmod(self._keys.micros(), 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]

    # scripts

    def _evaluate(self, digest: bytes, args: Sequence[bytes]) -> Any:
        count = integer(args[0])
        if count < 0:
            raise CommandError("ERR Number of keys can't be negative")
        if count > len(args) - 1:
            raise CommandError("ERR Number of keys can't be greater than number of args")
        return self._scripts.run(digest, args[1 : 1 + count], args[1 + count :])

    def _script(self, args: Sequence[bytes]) -> Any:
        action = args[0].upper()
        if action == b"LOAD" and len(args) == 2:
            return self._scripts.load(args[1])
        if action == b"EXISTS":
            return [int(self._scripts.known(digest)) for digest in args[1:]]
        if action == b"FLUSH":
            self._scripts.forget()
            return OK
        raise CommandError("ERR unknown subcommand")

    # channels

    def _publish(self, sharded: bool, channel: bytes, message: bytes) -> int:
        subscribers = self._subscribers((sharded, channel))
        kind = b"smessage" if sharded else b"message"
        for transport in subscribers:
            transport.push([kind, channel, message])
        return len(subscribers)

    def _subscribers(self, where: tuple[bool, bytes]) -> list[MemoryTransport]:
        """Subscribers of a channel, without connections whose event loop was closed before them."""
        subscribers = self._channels.get(where, [])
        for transport in [each for each in subscribers if each.gone]:
            transport.close()
        return subscribers

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
            subscribers = self._channels[where]
            subscribers.remove(transport)
            if not subscribers:
                del self._channels[where]

    def _leave_all(self, transport: MemoryTransport) -> None:
        """A connection is closed."""
        with self._lock:
            self._transports.discard(transport)
            for where in list(transport.channels):
                self._leave(where, transport)

    def _pubsub(self, args: Sequence[bytes]) -> Any:
        action = args[0].upper()
        sharded = action.startswith(b"SHARD")
        if action in {b"CHANNELS", b"SHARDCHANNELS"}:
            return [where[1] for where in list(self._channels) if where[0] == sharded and self._subscribers(where)]
        if action in {b"NUMSUB", b"SHARDNUMSUB"}:
            return [word for name in args[1:] for word in (name, len(self._subscribers((sharded, name))))]
        raise CommandError("ERR unknown subcommand")
