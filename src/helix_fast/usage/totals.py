"""Totals: stored rollups. A reader stores the sums of the first entries of a session, for processes that have none yet.

They only save reading. If they are missing, broken or of another format, all entries are read. The script that reads
them checks which entries they cover, and that these have not changed: see lua/usage_totals.lua.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from helix_fast import codec
from helix_fast.keys import UsageKeys
from helix_fast.lua import Argument, script

_STORE: Final = script("usage", "usage_totals")
# Format of the sums. Raise it when `Rollup.export` returns something else, or an entry counts for something else.
# Totals of another format are ignored.
FORMAT: Final = b"3"
# The sums of a name take 3 to 7 us to restore, as long as reading and adding 10 to 20 entries; more names than this
# would block the event loop for many milliseconds. A session has tens.
ENTRIES_PER_NAME: Final = 20
MAX_NAMES: Final = 1_000


class Cursor:
    """A position in a session's list of entries: how many were read, and of which list.

    Attributes:
        read: entries before the position.
        nonce: of the list; a list that was deleted and made again has another.
        first: the first entry.
        digest: of the first entry and the last one before the position.
    """

    __slots__ = ("digest", "first", "nonce", "read")

    def __init__(self, read: int = 0, nonce: bytes = b"", digest: bytes = b"", first: bytes = b"") -> None:
        self.read: int = read
        self.nonce: bytes = nonce
        self.digest: bytes = digest
        self.first: bytes = first

    def move(self, nonce: bytes, entries: Sequence[bytes]) -> None:
        """Move behind these entries."""
        self.nonce = nonce
        if entries:
            if not self.read:
                self.first = entries[0]
            self.move_by(nonce, len(entries), entries[-1])

    def move_by(self, nonce: bytes, count: int, last: bytes) -> None:
        """Move on by so many entries, with others before them; ``last`` is the last of them."""
        self.nonce = nonce
        self.read += count
        self.digest = hashlib.sha1(self.first + last, usedforsecurity=False).hexdigest().encode()


class StoredRollup(NamedTuple):
    """Totals that were read."""

    cursor: Cursor
    """Behind the last entry that they cover."""
    rollup: codec.Rollup


def dump(rollup: codec.Rollup) -> bytes | None:
    """The sums as JSON; None if storing them does not pay, or JSON has no such number (an infinite sum)."""
    exported = rollup.export()
    entries = rollup.entry_count + rollup.malformed_count
    if sum(map(len, exported[-2])) + len(exported[-1]) > min(MAX_NAMES, entries // ENTRIES_PER_NAME):
        return None
    try:
        # not msgspec, which cannot decode integers of more than 64 bits
        return json.dumps(exported, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return None


def load(sums: bytes, count: int) -> codec.Rollup | None:
    """The stored rollup; None if it cannot be used.

    Args:
        sums: stored bytes; usable if ``dump`` made them.
        count: entries that they cover.
    """
    try:
        rollup = codec.Rollup.restore(json.loads(sums))
    except (TypeError, ValueError, RecursionError):
        return None
    return rollup if rollup.entry_count + rollup.malformed_count == count else None


def restored(nonce: bytes, count: int, sums: bytes, digest: bytes, first: bytes) -> StoredRollup | None:
    """Totals from the reply of ``usage_read``; None if they cannot be used."""
    rollup = load(sums, count)
    return None if rollup is None else StoredRollup(Cursor(count, nonce, digest, first), rollup)


def frame(keys: UsageKeys, cursor: Cursor, rollup: codec.Rollup) -> bytes | None:
    """The request that stores the sums of the entries before a cursor; None if storing them does not pay."""
    sums = dump(rollup)
    if sums is None:
        return None
    # with the script's text: the reply is ignored, so that nothing would repeat it for a server without the script
    args: list[Argument] = [FORMAT, cursor.read, cursor.nonce, cursor.digest, sums]
    return _STORE.frame([keys.entries, keys.ids, keys.totals], args, by_text=True)
