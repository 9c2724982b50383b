"""Totals: what the first entries of a session add up to, stored by a reader for processes that have read none of them.

They save reading, and are never needed: what is missing, of another format or broken is as if it were not there. Which
entries they cover, and that these are still the same, is for the server to check: see lua/usage_totals.lua.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from helix_fast import codec
from helix_fast.keys import UsageKeys
from helix_fast.lua import Argument, script

if TYPE_CHECKING:
    from .pages import Place

_STORE: Final = script("usage", "usage_totals")
# Of the sums. To be raised whenever `Rollup.export` tells something else, or an entry counts for something else: who
# reads totals of another format reads the entries in their place.
FORMAT: Final = b"2"
# The sums of a name take 3 to 7 us to restore, in which 10 to 20 entries are read and added; those of more names than
# this would keep the event loop for many milliseconds. A session has tens.
ENTRIES_PER_NAME: Final = 20
MAX_NAMES: Final = 1_000


def dump(rollup: codec.Rollup) -> bytes | None:
    """The sums as JSON; None where it does not pay to store them, or JSON has no such number (an infinite sum)."""
    exported = rollup.export()
    entries = rollup.entry_count + rollup.malformed_count
    if sum(map(len, exported[-2])) + len(exported[-1]) > min(MAX_NAMES, entries // ENTRIES_PER_NAME):
        return None
    try:
        # Not msgspec: integers of more than 64 bits must come back as they are.
        return json.dumps(exported, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return None


def load(sums: bytes, count: int) -> codec.Rollup | None:
    """The rollup that was stored; None where it cannot be used.

    Args:
        sums: what `dump` has made, or anything.
        count: entries that it covers.
    """
    try:
        rollup = codec.Rollup.restore(json.loads(sums))
    except (TypeError, ValueError, RecursionError):
        return None
    return rollup if rollup.entry_count + rollup.malformed_count == count else None


def frame(keys: UsageKeys, place: Place, rollup: codec.Rollup) -> bytes | None:
    """The request that stores the sums of the entries before a place; None where that is left alone."""
    sums = dump(rollup)
    if sums is None:
        return None
    # By its text: nobody looks at the reply, and so nobody would repeat it for a server that does not know it.
    args: list[Argument] = [FORMAT, place.read, place.nonce, place.digest, sums]
    return _STORE.frame([keys.entries, keys.ids, keys.totals], args, by_text=True)
