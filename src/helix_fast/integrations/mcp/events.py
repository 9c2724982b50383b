"""HelixEventStore: what an MCP server has sent, replayed to a client that lost its connection; one session's only."""

from __future__ import annotations

import re
import secrets
from typing import Any, Final
from urllib.parse import quote, unquote

from mcp.server import Server
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.integrations.owned import OwnedHelix
from helix_fast.keys import EventKeys
from helix_fast.lua import script

_APPEND: Final = script("integrations/mcp", "event_append")
_EVENT_ID: Final = re.compile(r"([0-9]{1,18}-[0-9]{1,18}):([!-~]+)")
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 100  # events in one reply


class HelixEventStore(EventStore):
    """An ``EventStore`` for streamable HTTP: one server, Sentinel or a cluster, shared by all replicas.

    An event id names the event and its stream, so that a replay reads that stream alone. A replay begins at an event
    that is stored; after one that is not, whose successors may be gone as well, nothing is replayed. An event is stored
    once, however often its reply is lost.

    The plain SDK gives all sessions the same stream ids: serve with :func:`session_manager`, which gives each session a
    scope. FastMCP does so itself.

    Args:
        target: a Helix, or what ``connect`` takes: then the store opens it at first use, and ``close`` closes it.
        ttl: seconds that a stream is kept after its last event.
        max_events: the newest of each stream that are kept.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError: wrong options.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        ttl: int = 3600,
        max_events: int = 1000,
        **options: Any,
    ) -> None:
        self._ttl_ms = arguments.integer(ttl, "ttl", 1) * 1000
        self._max_events = arguments.integer(max_events, "max_events", 1)
        self._helix = OwnedHelix(target, **options)

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Store an event; None is a mark to resume from, which is not replayed. Returns the event's id, in ASCII.

        Raises:
            StoreConnectionError, StoreClosedError.
        """
        helix = await self._helix.get()
        keys = EventKeys(helix.streams.key_prefix, stream_id)
        text = b"" if message is None else jsonrpc_message_adapter.dump_json(message, by_alias=True, exclude_none=True)
        number = await helix.streams._requests.run(
            _APPEND,
            keys.tag,
            (keys.events, keys.operation(secrets.token_hex(8))),
            (text, self._max_events, self._ttl_ms, _REMEMBERED_MS),
        )
        return make_event_id(number.decode(), stream_id)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send the events of a stream that follow one of its events, and return the stream.

        None, and nothing is sent, where that event is unknown: never stored, trimmed, or expired.

        Raises:
            StoreConnectionError, StoreClosedError.
        """
        number, stream_id = parse_event_id(last_event_id)
        if stream_id is None:
            return None
        helix = await self._helix.get()
        keys = EventKeys(helix.streams.key_prefix, stream_id)
        requests = helix.streams._requests
        page = await requests.command(keys.tag, "XRANGE", keys.events, number, "+", "COUNT", _PAGE)
        if not page or page[0][0] != number.encode():
            return None
        del page[0]
        while page:
            for entry, fields in page:
                number = entry.decode()
                if fields[1]:
                    message = jsonrpc_message_adapter.validate_json(fields[1])
                    await send_callback(EventMessage(message, make_event_id(number, stream_id)))
            page = await requests.command(keys.tag, "XRANGE", keys.events, f"({number}", "+", "COUNT", _PAGE)
        return stream_id

    async def close(self) -> None:
        """Close the connection if the store has made it. Safe to call twice."""
        await self._helix.close()


def make_event_id(number: str, stream_id: StreamId) -> EventId:
    """The id of an event: its number in its stream, and the stream, percent-encoded for a header."""
    return f"{number}:{quote(stream_id, safe=':_-', errors='surrogatepass')}"


def parse_event_id(event_id: EventId) -> tuple[str, StreamId | None]:
    """The number and the stream of an event id; no stream where it is none of ours."""
    found = _EVENT_ID.fullmatch(event_id)
    return (found[1], unquote(found[2], errors="surrogatepass")) if found else ("", None)


class _SessionEvents(EventStore):
    """The events of one session: its stream ids get the session's scope, and others' event ids are unknown."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._scope = secrets.token_hex(16) + ":"

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """As the store's."""
        return await self._store.store_event(self._scope + stream_id, message)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """As the store's; None for an event of another session, of which nothing is read."""
        _number, stream_id = parse_event_id(last_event_id)
        if stream_id is None or not stream_id.startswith(self._scope):
            return None
        replayed = await self._store.replay_events_after(last_event_id, send_callback)
        return None if replayed is None else replayed.removeprefix(self._scope)


class _SessionManager(StreamableHTTPSessionManager):
    """The SDK reads ``event_store`` once for each session: each read is a scope of its own."""

    _shared: EventStore | None = None

    @property
    def event_store(self) -> EventStore | None:
        """The store of the next session."""
        return None if self._shared is None else _SessionEvents(self._shared)

    @event_store.setter
    def event_store(self, store: EventStore | None) -> None:
        self._shared = store


def session_manager(
    server: Any, event_store: HelixEventStore | None = None, **options: Any
) -> StreamableHTTPSessionManager:
    """The SDK's session manager, which gives each session a scope in the event store.

    Serve its ``handle_request``, within ``async with manager.run():`` in the app's lifespan.

    Args:
        server: an ``MCPServer`` or a low-level ``Server``.
        event_store: None: sessions cannot be resumed.
        options: of ``StreamableHTTPSessionManager``, as ``retry_interval``, ``security_settings``.
    """
    lowlevel: Server[Any] = getattr(server, "_lowlevel_server", server)
    return _SessionManager(lowlevel, event_store, **options)
