"""Server-sent events of a stream as one writes them with redis-py and sse-starlette: XREAD BLOCK, an event an entry.

Nothing here is slow on purpose. Hiredis, decoded responses switched off, one XREAD for all that has arrived, the stored
JSON passed on as it is, the entry's id as the event's, a connection for each client from a pool that is large enough.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import redis.asyncio as redis
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

PAGE: Final = 1000
BLOCK_MS: Final = 10_000
CLIENTS: Final = 2000


class RedisEvents:
    """An endpoint for streams of ``{"chunk", "sequence"}``, the last entry of which is ``{"event": "ended"}``.

    Args:
        socket_path: the server's unix socket.
    """

    def __init__(self, socket_path: str) -> None:
        pool = redis.ConnectionPool(
            connection_class=redis.UnixDomainSocketConnection,
            path=socket_path,
            max_connections=CLIENTS,
            socket_timeout=None,  # XREAD may take as long as it blocks
        )
        self._client = redis.Redis(connection_pool=pool)

    async def endpoint(self, request: Request) -> Response:
        """The events after ``Last-Event-ID``, then live, until the end."""
        key = request.query_params["key"]
        return EventSourceResponse(self._events(key, request.headers.get("last-event-id", "0-0")), sep="\n")

    async def _events(self, key: str, last: str | bytes) -> AsyncIterator[ServerSentEvent]:
        while True:
            reply: Any = await self._client.xread({key: last}, count=PAGE, block=BLOCK_MS)
            for _key, entries in reply:
                for entry, fields in entries:
                    last = entry
                    chunk = fields.get(b"chunk")
                    if chunk is not None:
                        yield ServerSentEvent(chunk.decode(), id=entry.decode(), sep="\n")
                    elif fields.get(b"event") == b"ended":
                        yield ServerSentEvent("{}", event="end", sep="\n")
                        return

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
