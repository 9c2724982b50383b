"""Sealer: rewrites the logs of ended streams as a few deflated entries."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any, Final

from helix_fast.clock import iso_from_ms, ms_from_iso
from helix_fast.errors import StoreResponseError
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests

from .entries import check_foreign
from .info import timestamp_of
from .read_ahead import PageSize
from .sealed import Entry, ForeignEntryError, Sealing, is_end
from .terms import SEALED

_SEAL: Final = script("streams", "stream_seal")
_PAGE_ENTRIES: Final = 256  # taken in one go: a millisecond of the event loop
_PART_BYTES: Final = 256 << 10  # of one request: the server copies it in a fraction of a millisecond
_PART_ENTRIES: Final = 512
_DRAFT_MS: Final = 60_000
_ATTEMPTS: Final = 3
_LATEST: Final = 253_402_300_799_999  # milliseconds: the end of the year 9999


class Sealer:
    """Seals streams of one manager.

    Args:
        requests: sends the requests.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def seal(self, stream_id: str, keys: StreamKeys) -> bool:
        """Seal a stream if it has ended; returns whether its log is as small now as sealing makes it."""
        for _attempt in range(_ATTEMPTS):
            sealed = await self._attempt(stream_id, keys)
            if sealed is not None:
                return sealed
        return False

    async def _attempt(self, stream_id: str, keys: StreamKeys) -> bool | None:
        """None: the log was changed meanwhile."""
        command = self._requests.command
        try:
            status, epoch, terms, updated = await command(
                stream_id, b"HMGET", keys.meta, b"status", b"epoch", b"terms", b"updatedAt"
            )
            if status not in {b"ended", b"failed"} or not epoch or not terms:
                return False
            newest = await command(stream_id, b"XREVRANGE", keys.stream, b"+", b"-", b"COUNT", 1)
            if not newest or not is_end(newest[0]):
                return False
            if terms.startswith(SEALED.encode()):
                return True
            draft = _Draft(self._requests, stream_id, keys, (epoch, terms, updated or b""), newest[0][0])
            return await draft.write()
        except StoreResponseError as error:
            check_foreign(keys.stream, error)
            raise
        except ForeignEntryError:
            return False


class _Draft:
    """The sealed log of a stream, written by parts into a key of its own, which then replaces the log.

    Args:
        meta: epoch, list of terms and time of the last update, from the meta hash.
        end: id of the log's last entry.
    """

    def __init__(
        self, requests: Requests, stream_id: str, keys: StreamKeys, meta: tuple[bytes, bytes, bytes], end: bytes
    ) -> None:
        self._requests = requests
        self._stream_id = stream_id
        self._keys = keys
        self._key = keys.draft(secrets.token_hex(4))
        self._epoch, self._terms, self._updated = meta
        self._first = b""
        self._end = end
        self._length = 0  # entries of the log, as far as it was read
        self._newest: deque[Entry] = deque(maxlen=2)
        self._part: list[Entry] = []
        self._part_bytes = 0
        self._sent = 0

    async def write(self) -> bool | None:
        """Read the log and write the draft; whether it has replaced the log. None: the log was changed meanwhile."""
        sealing, page, last = Sealing(), PageSize(), b""
        while last != self._end:
            start = b"(" + last if last else b"-"
            count = min(page.count, _PAGE_ENTRIES)
            entries = await self._requests.command(
                self._stream_id, b"XRANGE", self._keys.stream, start, b"+", b"COUNT", count
            )
            if not entries:
                return None
            self._first = self._first or entries[0][0]
            self._length += len(entries)
            if (self._part_bytes > _PART_BYTES or len(self._part) > _PART_ENTRIES) and not await self._send():
                return None
            made = sealing.take(entries)
            self._part += made
            self._part_bytes += sum([len(fields[1]) for _id, fields in made])
            self._newest += entries[-2:]
            page.fit(len(entries), sum([len(fields[1]) for _id, fields in entries]))
            last = entries[-1][0]
        if not sealing.sealed:
            if self._sent:
                await self._requests.command(self._stream_id, b"UNLINK", self._key)
            return True
        return True if await self._send(last=True) else None

    async def _send(self, *, last: bool = False) -> bool:
        """Send the part; whether the log is still the one that was read."""
        arguments: list[Any] = [
            self._epoch, self._terms, self._first, self._end, 0, self._sent, int(last), _DRAFT_MS, b""
        ]  # fmt: skip
        for entry_id, fields in self._part:
            arguments += (entry_id, len(fields), *fields)
        if last:
            arguments[4], arguments[8] = self._length, self._updated_at()
        self._sent += len(self._part)
        self._part, self._part_bytes = [], 0
        reply = await self._requests.run(
            _SEAL, self._stream_id, (self._keys.stream, self._keys.meta, self._key), arguments
        )
        return bool(reply != b"changed")

    def _updated_at(self) -> bytes:
        """Time of the last chunk where that is after the end's: get_info tells it without inflating."""
        stamps = [timestamp_of(fields) or 0 for _id, fields in self._newest]
        latest = max(stamps)
        if (ms_from_iso(self._updated.decode(errors="replace")) or 0) < latest <= _LATEST:
            return iso_from_ms(latest).encode()
        return b""
