"""Commands of keys, and of strings."""

from __future__ import annotations

import fnmatch
from typing import Any

from helix_fast.memory.keyspace import OK, CommandError, Keyspace, Status, copy_of

from .arguments import NOT_AN_INTEGER, SYNTAX, UNBOUNDED, Arguments, command, integer


@command("DEL", 1, UNBOUNDED)
@command("UNLINK", 1, UNBOUNDED)
def delete(keys: Keyspace, args: Arguments) -> int:
    return sum(keys.exists(key) and keys.delete(key) for key in args)


@command("EXISTS", 1, UNBOUNDED)
def exists(keys: Keyspace, args: Arguments) -> int:
    return sum(keys.exists(key) for key in args)


@command("TYPE", 1)
def kind(keys: Keyspace, args: Arguments) -> Status:
    return Status(keys.kind(args[0]))


@command("KEYS", 1)
def names(keys: Keyspace, args: Arguments) -> list[bytes]:
    pattern = args[0].decode("latin-1")
    return [name for name in keys.names() if fnmatch.fnmatchcase(name.decode("latin-1"), pattern)]


@command("SCAN", 1, UNBOUNDED)
def scan(keys: Keyspace, args: Arguments) -> list[Any]:
    pattern = b"*"
    for option, value in zip(args[1::2], args[2::2], strict=False):
        if option.upper() == b"MATCH":
            pattern = value
    return [b"0", names(keys, (pattern,))]


@command("DBSIZE", 0)
def size(keys: Keyspace, _args: Arguments) -> int:
    return len(keys.names())


@command("FLUSHALL", 0, 1)
@command("FLUSHDB", 0, 1)
def flush(keys: Keyspace, _args: Arguments) -> Status:
    keys.clear()
    return OK


@command("COPY", 2, 3)
def copy_key(keys: Keyspace, args: Arguments) -> int:
    source, target, *options = args
    if options and options[0].upper() != b"REPLACE":
        raise CommandError(SYNTAX)
    if source == target:
        raise CommandError("ERR source and destination objects are the same")
    value = keys.peek(source)
    if value is None or (not options and keys.exists(target)):
        return 0
    expires = keys.expires(source)
    keys.put(target, copy_of(value))
    if expires is not None:
        keys.expire_at(target, expires)
    return 1


@command("RENAME", 2)
def rename(keys: Keyspace, args: Arguments) -> Status:
    if not keys.exists(args[0]):
        raise CommandError("ERR no such key")
    if args[0] != args[1]:
        copy_key(keys, (args[0], args[1], b"REPLACE"))
        keys.delete(args[0])
    return OK


# expiry


@command("EXPIRE", 2)
def expire(keys: Keyspace, args: Arguments) -> int:
    return int(keys.expire_at(args[0], keys.now + integer(args[1]) * 1000))


@command("PEXPIRE", 2)
def expire_ms(keys: Keyspace, args: Arguments) -> int:
    return int(keys.expire_at(args[0], keys.now + integer(args[1])))


@command("EXPIREAT", 2)
def expire_at(keys: Keyspace, args: Arguments) -> int:
    return int(keys.expire_at(args[0], integer(args[1]) * 1000))


@command("PEXPIREAT", 2)
def expire_at_ms(keys: Keyspace, args: Arguments) -> int:
    return int(keys.expire_at(args[0], integer(args[1])))


@command("PERSIST", 1)
def persist(keys: Keyspace, args: Arguments) -> int:
    return int(keys.persist(args[0]))


@command("PTTL", 1)
def ttl_ms(keys: Keyspace, args: Arguments) -> int:
    if not keys.exists(args[0]):
        return -2
    expires = keys.expires(args[0])
    return -1 if expires is None else expires - keys.now


@command("TTL", 1)
def ttl(keys: Keyspace, args: Arguments) -> int:
    left = ttl_ms(keys, args)
    return left if left < 0 else (left + 500) // 1000


# strings


@command("GET", 1)
def get(keys: Keyspace, args: Arguments) -> bytes | None:
    return keys.get(args[0], bytes)


@command("MGET", 1, UNBOUNDED)
def get_many(keys: Keyspace, args: Arguments) -> list[bytes | None]:
    found = [keys.peek(key) for key in args]
    return [value if isinstance(value, bytes) else None for value in found]


@command("SET", 2, UNBOUNDED)
def put(keys: Keyspace, args: Arguments) -> Status | bytes | None:
    key, value, *options = args
    expires: int | None = None
    keep = wanted_new = wanted_old = previous = timed = False
    while options:
        option = options.pop(0).upper()
        if option in {b"EX", b"PX", b"EXAT", b"PXAT"} and options:
            number, timed = integer(options.pop(0)), True
            if number <= 0:
                raise CommandError("ERR invalid expire time in 'set' command")
            number *= 1000 if option in {b"EX", b"EXAT"} else 1
            expires = number if option.endswith(b"AT") else keys.now + number
        elif option == b"KEEPTTL":
            keep = True
        elif option == b"NX":
            wanted_new = True
        elif option == b"XX":
            wanted_old = True
        elif option == b"GET":
            previous = True
        else:
            raise CommandError(SYNTAX)
    if (keep and timed) or (wanted_new and wanted_old):
        raise CommandError(SYNTAX)
    old = keys.get(key, bytes) if previous else None
    there = keys.exists(key)
    if (wanted_new and there) or (wanted_old and not there):
        return old
    keys.put(key, value, keep_ttl=keep)
    if expires is not None:
        keys.expire_at(key, expires)
    return old if previous else OK


@command("SETNX", 2)
def put_new(keys: Keyspace, args: Arguments) -> int:
    return int(put(keys, (*args, b"NX")) is not None)


@command("SETEX", 3)
def put_for_seconds(keys: Keyspace, args: Arguments) -> Status | bytes | None:
    return put(keys, (args[0], args[2], b"EX", args[1]))


@command("PSETEX", 3)
def put_for_ms(keys: Keyspace, args: Arguments) -> Status | bytes | None:
    return put(keys, (args[0], args[2], b"PX", args[1]))


@command("STRLEN", 1)
def length(keys: Keyspace, args: Arguments) -> int:
    return len(keys.get(args[0], bytes) or b"")


@command("APPEND", 2)
def append(keys: Keyspace, args: Arguments) -> int:
    keys.put(args[0], (keys.get(args[0], bytes) or b"") + args[1], keep_ttl=True)
    return length(keys, args)


def added(stored: bytes | None, by: int, wrong: str = NOT_AN_INTEGER) -> int:
    """A stored counter, and so much more."""
    try:
        total = integer(b"0" if stored is None else stored) + by
    except CommandError:
        raise CommandError(wrong) from None
    if not -(1 << 63) <= total < 1 << 63:
        raise CommandError("ERR increment or decrement would overflow")
    return total


@command("INCRBY", 2)
def increment_by(keys: Keyspace, args: Arguments) -> int:
    total = added(keys.get(args[0], bytes), integer(args[1]))
    keys.put(args[0], b"%d" % total, keep_ttl=True)
    return total


@command("INCR", 1)
def increment(keys: Keyspace, args: Arguments) -> int:
    return increment_by(keys, (args[0], b"1"))


@command("DECR", 1)
def decrement(keys: Keyspace, args: Arguments) -> int:
    return increment_by(keys, (args[0], b"-1"))


@command("DECRBY", 2)
def decrement_by(keys: Keyspace, args: Arguments) -> int:
    return increment_by(keys, (args[0], b"%d" % -integer(args[1])))
