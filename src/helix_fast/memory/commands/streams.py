"""Commands of streams."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any, Final

from helix_fast.memory.keyspace import CommandError, Keyspace, Stream

from .arguments import SYNTAX, UNBOUNDED, Arguments, command, integer

MOST: Final = (1 << 64) - 1
INVALID: Final = "ERR Invalid stream ID specified as stream command argument"


def _number(text: bytes) -> int:
    if not text.isdigit() or int(text) > MOST:
        raise CommandError(INVALID)
    return int(text)


def _id(text: bytes, missing: int = 0) -> tuple[int, int]:
    time, dash, sequence = text.partition(b"-")
    return _number(time), _number(sequence) if dash else missing


def _text(entry: tuple[int, int]) -> bytes:
    return b"%d-%d" % entry


@command("XADD", 4, UNBOUNDED)
def add(keys: Keyspace, args: Arguments) -> bytes | None:
    key, *rest = args
    make, trim = True, None
    while rest:
        option = rest[0].upper()
        if option == b"NOMKSTREAM":
            make = False
            del rest[0]
        elif option in {b"MINID", b"MAXLEN"}:
            trim, rest = _trimming(rest)
        else:
            break
    if len(rest) < 3 or len(rest) % 2 == 0:
        raise CommandError("ERR wrong number of arguments for 'xadd' command")
    wanted, *fields = rest
    if not wanted.endswith(b"*"):
        _id(wanted)  # an invalid id is reported before a wrong type of the key
    stream = keys.get(key, Stream)
    if stream is None and not make:
        return None
    last = stream.last if stream is not None else (0, 0)
    entry = _next_id(wanted, last, keys.now)
    if entry <= last:
        if entry == (0, 0):
            raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
        raise CommandError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    stream = keys.made(key, Stream)
    stream.ids.append(entry)
    stream.fields.append(fields)
    stream.last = entry
    if trim is not None:
        _trim(stream, *trim)
    return _text(entry)


def _next_id(wanted: bytes, last: tuple[int, int], now: int) -> tuple[int, int]:
    if wanted == b"*":
        entry = (now, 0) if now > last[0] else (last[0], last[1] + 1)
    elif wanted.endswith(b"-*"):
        time = _number(wanted[:-2])
        entry = (time, last[1] + 1 if time == last[0] else 0)
    else:
        return _id(wanted)
    if entry[1] > MOST:
        raise CommandError("ERR The stream has exhausted the last possible ID, unable to add more items")
    return entry


def _trimming(words: list[bytes]) -> tuple[tuple[bytes, Any], list[bytes]]:
    """What is to be trimmed, and the arguments after it. ``~`` trims exactly here."""
    strategy, *rest = words
    strategy = strategy.upper()
    if rest and rest[0] in {b"=", b"~"}:
        del rest[0]
    if not rest:
        raise CommandError(SYNTAX)
    threshold: Any = _id(rest.pop(0)) if strategy == b"MINID" else integer(rest.pop(0))
    if rest and rest[0].upper() == b"LIMIT":
        del rest[:2]
    return (strategy, threshold), rest


def _trim(stream: Stream, strategy: bytes, threshold: Any) -> int:
    gone = bisect_left(stream.ids, threshold) if strategy == b"MINID" else max(0, len(stream.ids) - threshold)
    if gone:
        del stream.ids[:gone]
        del stream.fields[:gone]
    return gone


@command("XTRIM", 3, UNBOUNDED)
def trim(keys: Keyspace, args: Arguments) -> int:
    if args[1].upper() not in {b"MINID", b"MAXLEN"}:
        raise CommandError(SYNTAX)
    what, rest = _trimming(list(args[1:]))
    if rest:
        raise CommandError(SYNTAX)
    stream = keys.get(args[0], Stream)
    return 0 if stream is None else _trim(stream, *what)


@command("XLEN", 1)
def length(keys: Keyspace, args: Arguments) -> int:
    stream = keys.get(args[0], Stream)
    return 0 if stream is None else len(stream.ids)


@command("XDEL", 2, UNBOUNDED)
def delete(keys: Keyspace, args: Arguments) -> int:
    stream = keys.get(args[0], Stream)
    gone = 0
    for entry in [_id(text) for text in args[1:]]:
        if stream is not None and entry in stream.ids:
            place = stream.ids.index(entry)
            del stream.ids[place], stream.fields[place]
            gone += 1
    return gone


def _start(text: bytes) -> tuple[tuple[int, int], bool]:
    """The lowest id of a range, and whether it is left out."""
    if text == b"-":
        return (0, 0), False
    if text == b"+":
        return (MOST, MOST), False
    return (_id(text[1:]), True) if text[:1] == b"(" else (_id(text), False)


def _stop(text: bytes) -> tuple[tuple[int, int], bool]:
    """The highest id of a range, and whether it is left out."""
    if text == b"-":
        return (0, 0), False
    if text == b"+":
        return (MOST, MOST), False
    return (_id(text[1:], MOST), True) if text[:1] == b"(" else (_id(text, MOST), False)


def _range(keys: Keyspace, key: bytes, start: bytes, stop: bytes, rest: Arguments, *, newest: bool) -> list[Any] | None:
    (low, above), (high, below) = _start(start), _stop(stop)
    limit = None
    if rest:
        if len(rest) != 2 or rest[0].upper() != b"COUNT":
            raise CommandError(SYNTAX)
        limit = integer(rest[1])
    stream = keys.get(key, Stream)
    if stream is None:
        return []
    if limit is not None and limit <= 0:
        return None  # as a server answers: not even an empty array
    begin = (bisect_right if above else bisect_left)(stream.ids, low)
    end = (bisect_left if below else bisect_right)(stream.ids, high)
    if limit is not None and end - begin > limit:
        begin, end = (end - limit, end) if newest else (begin, begin + limit)
    found = [[_text(stream.ids[place]), list(stream.fields[place])] for place in range(begin, end)]
    return found[::-1] if newest else found


@command("XRANGE", 3, 5)
def ranged(keys: Keyspace, args: Arguments) -> list[Any] | None:
    return _range(keys, args[0], args[1], args[2], args[3:], newest=False)


@command("XREVRANGE", 3, 5)
def reverse_ranged(keys: Keyspace, args: Arguments) -> list[Any] | None:
    return _range(keys, args[0], args[2], args[1], args[3:], newest=True)
