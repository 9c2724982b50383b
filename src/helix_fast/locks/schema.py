"""Structs of locks, and the checks of the arguments of lock managers. No I/O."""

import math
from typing import Final

import msgspec

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError, MalformedLockError

MIN_TTL_MS: Final = 10
MAX_TTL_MS: Final = 10**12
MAX_OWNER_BYTES: Final = 256


class LockRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A lock as it is stored: the JSON of the reference page.

    Attributes:
        owner: name of the holder.
        fencing_token: larger than that of every earlier holder.
        acquired_at: Unix milliseconds of the server.
    """

    owner: str
    fencing_token: int
    acquired_at: int


class LockInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The holder of a lock.

    Attributes:
        owner: the ``owner`` of its ``acquire``.
        fencing_token: the holder's token.
        acquired_at: Unix milliseconds of the server.
        expires_in_ms: milliseconds until it expires unless it is refreshed; None: never, so it was not made by us.
    """

    owner: str
    fencing_token: int
    acquired_at: int
    expires_in_ms: int | None


_decode = msgspec.json.Decoder(LockRecord).decode


def decode_record(record: bytes, key: str) -> LockRecord:
    """Read a stored lock.

    Raises:
        MalformedLockError: the bytes under ``key`` are no lock.
    """
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedLockError(key, str(error)) from error


def check_ttl(ttl_ms: object, what: str = "ttl_ms") -> int:
    """Return whole milliseconds; InvalidArgumentError unless it is a number from 10 ms to some 30 years."""
    if isinstance(ttl_ms, bool) or not isinstance(ttl_ms, (int, float)) or not MIN_TTL_MS <= ttl_ms <= MAX_TTL_MS:
        raise InvalidArgumentError(
            f"{what} must be a number of milliseconds from {MIN_TTL_MS}, not {arguments.shown(ttl_ms)}"
        )
    return int(ttl_ms)


def check_wait(wait_ms: object) -> float:
    """Return seconds; InvalidArgumentError unless it is a number from 0. Infinity waits without limit."""
    if (
        isinstance(wait_ms, bool)
        or not isinstance(wait_ms, (int, float))
        or not (wait_ms >= 0 and (wait_ms == math.inf or arguments.finite(wait_ms)))
    ):
        raise InvalidArgumentError(f"wait_ms must be a number of milliseconds from 0, not {arguments.shown(wait_ms)}")
    return wait_ms / 1000


def check_owner(owner: object) -> str:
    """Return ``owner``; InvalidArgumentError unless it is a str of 1 to 256 bytes of UTF-8."""
    if not isinstance(owner, str) or not owner:
        raise InvalidArgumentError(f"owner must be a str that is not empty, not {owner!r}")
    try:
        size = len(owner.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("owner is no Unicode text") from error
    if size > MAX_OWNER_BYTES:
        raise InvalidArgumentError(f"owner is {size} bytes long, {MAX_OWNER_BYTES} are allowed")
    return str.__str__(owner)
