"""Commands of sorted sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helix_fast.memory.keyspace import CommandError, Keyspace, SortedSet

from .arguments import SYNTAX, UNBOUNDED, Arguments, command, integer, score, span, text_of


def _members(keys: Keyspace, key: bytes) -> SortedSet:
    return keys.get(key, SortedSet) or SortedSet()


@command("ZADD", 3, UNBOUNDED)
def add(keys: Keyspace, args: Arguments) -> Any:
    key, *rest = args
    options: set[bytes] = set()
    while rest and rest[0].upper() in {b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"}:
        options.add(rest.pop(0).upper())
    if not rest or len(rest) % 2:
        raise CommandError(SYNTAX)
    pairs = [(score(number), member) for number, member in zip(rest[::2], rest[1::2], strict=True)]
    members = keys.made(key, SortedSet)
    new = changed = 0
    result: float | None = None
    for number, member in pairs:
        old = members.get(member)
        if b"INCR" in options:
            number += old or 0.0
        if old is None:
            refused = b"XX" in options
        else:
            refused = b"NX" in options or (b"GT" in options and number <= old) or (b"LT" in options and number >= old)
        if refused:
            continue
        result = members[member] = number
        new += old is None
        changed += old is None or old != number
    keys.dropped_if_empty(key, members)
    if b"INCR" in options:
        return None if result is None else text_of(result)
    return changed if b"CH" in options else new


@command("ZINCRBY", 3)
def increment(keys: Keyspace, args: Arguments) -> Any:
    return add(keys, (args[0], b"INCR", args[1], args[2]))


@command("ZREM", 2, UNBOUNDED)
def remove(keys: Keyspace, args: Arguments) -> int:
    members = _members(keys, args[0])
    gone = sum(members.pop(member, None) is not None for member in args[1:])
    keys.dropped_if_empty(args[0], members)
    return gone


@command("ZSCORE", 2)
def score_of(keys: Keyspace, args: Arguments) -> bytes | None:
    found = _members(keys, args[0]).get(args[1])
    return None if found is None else text_of(found)


@command("ZMSCORE", 2, UNBOUNDED)
def scores_of(keys: Keyspace, args: Arguments) -> list[bytes | None]:
    return [score_of(keys, (args[0], member)) for member in args[1:]]


@command("ZCARD", 1)
def size(keys: Keyspace, args: Arguments) -> int:
    return len(_members(keys, args[0]))


@command("ZRANK", 2)
def rank(keys: Keyspace, args: Arguments) -> int | None:
    order = [member for _score, member in _members(keys, args[0]).ordered()]
    return order.index(args[1]) if args[1] in order else None


@command("ZREVRANK", 2)
def reverse_rank(keys: Keyspace, args: Arguments) -> int | None:
    place = rank(keys, args)
    return None if place is None else size(keys, args) - 1 - place


def _flat(found: list[tuple[float, bytes]], *, scores: bool) -> list[bytes]:
    if not scores:
        return [member for _score, member in found]
    return [word for number, member in found for word in (member, text_of(number))]


def _score_bound(text: bytes) -> tuple[float, bool]:
    try:
        return (score(text[1:]), True) if text[:1] == b"(" else (score(text), False)
    except CommandError:
        raise CommandError("ERR min or max is not a float") from None


def _within_scores(low: bytes, high: bytes) -> Callable[[float, bytes], bool]:
    (least, above), (most, below) = _score_bound(low), _score_bound(high)
    return lambda number, _member: (
        (number > least if above else number >= least) and (number < most if below else number <= most)
    )


def _within_names(low: bytes, high: bytes) -> Callable[[float, bytes], bool]:
    for bound in (low, high):
        if bound not in {b"-", b"+"} and bound[:1] not in {b"[", b"("}:
            raise CommandError("ERR min or max not valid string range item")

    def within(_number: float, member: bytes) -> bool:
        after = low == b"-" or (low != b"+" and (member > low[1:] or (low[:1] == b"[" and member == low[1:])))
        return after and (
            high == b"+" or (high != b"-" and (member < high[1:] or (high[:1] == b"[" and member == high[1:])))
        )

    return within


def _ranged(keys: Keyspace, args: Arguments, by: bytes, *, reverse: bool, options: list[bytes]) -> list[bytes]:
    key, start, stop = args
    scores, offset, count = False, 0, -1
    while options:
        option = options.pop(0).upper()
        if option == b"WITHSCORES":
            scores = True
        elif option == b"LIMIT" and len(options) >= 2 and by:
            offset, count = integer(options.pop(0)), integer(options.pop(0))
        else:
            raise CommandError(SYNTAX)
    if not by:
        found = _members(keys, key).ordered()
        if reverse:
            found.reverse()
        return _flat(found[span(len(found), start, stop)], scores=scores)
    low, high = (stop, start) if reverse else (start, stop)
    within = _within_scores(low, high) if by == b"BYSCORE" else _within_names(low, high)
    # sorted after the choice: a sweep of expired members finds few among many
    found = sorted((number, member) for member, number in _members(keys, key).items() if within(number, member))
    if reverse:
        found.reverse()
    return _flat(found[offset:] if count < 0 else found[offset : offset + count], scores=scores)


@command("ZRANGE", 3, UNBOUNDED)
def ranged(keys: Keyspace, args: Arguments) -> list[bytes]:
    options = list(args[3:])
    by, reverse = b"", False
    for option in args[3:]:
        if option.upper() in {b"BYSCORE", b"BYLEX"}:
            by = option.upper()
            options.remove(option)
        elif option.upper() == b"REV":
            reverse = True
            options.remove(option)
    return _ranged(keys, args[:3], by, reverse=reverse, options=options)


@command("ZREVRANGE", 3, 4)
def reverse_ranged(keys: Keyspace, args: Arguments) -> list[bytes]:
    return _ranged(keys, args[:3], b"", reverse=True, options=list(args[3:]))


@command("ZRANGEBYSCORE", 3, UNBOUNDED)
def by_score(keys: Keyspace, args: Arguments) -> list[bytes]:
    return _ranged(keys, args[:3], b"BYSCORE", reverse=False, options=list(args[3:]))


@command("ZREVRANGEBYSCORE", 3, UNBOUNDED)
def reverse_by_score(keys: Keyspace, args: Arguments) -> list[bytes]:
    return _ranged(keys, args[:3], b"BYSCORE", reverse=True, options=list(args[3:]))


@command("ZRANGEBYLEX", 3, UNBOUNDED)
def by_name(keys: Keyspace, args: Arguments) -> list[bytes]:
    return _ranged(keys, args[:3], b"BYLEX", reverse=False, options=list(args[3:]))


@command("ZCOUNT", 3)
def count(keys: Keyspace, args: Arguments) -> int:
    return len(by_score(keys, args))


@command("ZREMRANGEBYSCORE", 3)
def remove_by_score(keys: Keyspace, args: Arguments) -> int:
    gone = by_score(keys, args)
    return remove(keys, (args[0], *gone)) if gone else 0


@command("ZREMRANGEBYRANK", 3)
def remove_by_rank(keys: Keyspace, args: Arguments) -> int:
    gone = ranged(keys, args)
    return remove(keys, (args[0], *gone)) if gone else 0
