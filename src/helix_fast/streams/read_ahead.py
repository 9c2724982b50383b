"""Pages of a log whose end is not near: by plain XRANGE, and asked for before they are needed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.requests import Requests
from helix_fast.transport.lane import settle


class FarPages:
    """The entries behind one entry, a page at a time; while one page is decoded the server reads the next.

    Args:
        requests: the manager's.
        stream_id: names the stream.
        key: of its log.
    """

    __slots__ = ("_ahead", "_asked", "_key", "_requests", "_stream_id")

    def __init__(self, requests: Requests, stream_id: str, key: bytes) -> None:
        self._requests = requests
        self._stream_id = stream_id
        self._key = key
        self._asked: tuple[bytes, int] | None = None
        self._ahead: asyncio.Future[Any] | None = None

    async def ask(self, entry: bytes, count: int) -> None:
        """Ask for the ``count`` entries behind ``entry``, which will be read next; waits until that has left."""
        ahead: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._requests.topology.send(
                self._stream_id, codec.frame_command(self._command(entry, count)), partial(settle, ahead)
            )
        except HelixError:
            return  # closed: whoever reads is told
        self._asked, self._ahead = (entry, count), ahead
        await asyncio.sleep(0)

    async def read(self, entry: bytes, count: int) -> list[list[Any]]:
        """The ``count`` entries behind ``entry``, or fewer where there are fewer, as XRANGE gives them.

        Raises:
            StoreConnectionError: the server could not be reached for the retry time.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._asked == (entry, count):
            entries = await ahead
            if isinstance(entries, list):
                return entries
            # What went wrong there is no matter: it is asked for as usual, with all that is done about faults.
        found: list[list[Any]] = await self._requests.command(self._stream_id, *self._command(entry, count))
        return found

    def _command(self, entry: bytes, count: int) -> tuple[bytes | int, ...]:
        return b"XRANGE", self._key, b"(" + entry, b"+", b"COUNT", count
