"""Commands of hashes, lists and sets."""

from __future__ import annotations

from itertools import chain

from helix_fast.memory.keyspace import OK, CommandError, Hash, Keyspace, Status

from .arguments import SYNTAX, UNBOUNDED, Arguments, command, integer, score, span, text_of
from .keys import added

# hashes


@command("HSET", 3, UNBOUNDED)
def put_fields(keys: Keyspace, args: Arguments) -> int:
    key, *pairs = args
    if len(pairs) % 2:
        raise CommandError("ERR wrong number of arguments for 'hset' command")
    fields = keys.made(key, Hash)
    before = len(fields)
    fields.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(fields) - before


@command("HMSET", 3, UNBOUNDED)
def put_fields_as_before(keys: Keyspace, args: Arguments) -> Status:
    put_fields(keys, args)
    return OK


@command("HSETNX", 3)
def put_new_field(keys: Keyspace, args: Arguments) -> int:
    fields = keys.made(args[0], Hash)
    if args[1] in fields:
        return 0
    fields[args[1]] = args[2]
    return 1


def _fields(keys: Keyspace, key: bytes) -> Hash:
    return keys.get(key, Hash) or Hash()


@command("HGET", 2)
def get_field(keys: Keyspace, args: Arguments) -> bytes | None:
    return _fields(keys, args[0]).get(args[1])


@command("HMGET", 2, UNBOUNDED)
def get_fields(keys: Keyspace, args: Arguments) -> list[bytes | None]:
    fields = _fields(keys, args[0])
    return [fields.get(name) for name in args[1:]]


@command("HGETALL", 1)
def get_all(keys: Keyspace, args: Arguments) -> list[bytes]:
    return list(chain.from_iterable(_fields(keys, args[0]).items()))


@command("HKEYS", 1)
def field_names(keys: Keyspace, args: Arguments) -> list[bytes]:
    return list(_fields(keys, args[0]))


@command("HVALS", 1)
def field_values(keys: Keyspace, args: Arguments) -> list[bytes]:
    return list(_fields(keys, args[0]).values())


@command("HLEN", 1)
def field_count(keys: Keyspace, args: Arguments) -> int:
    return len(_fields(keys, args[0]))


@command("HEXISTS", 2)
def has_field(keys: Keyspace, args: Arguments) -> int:
    return int(args[1] in _fields(keys, args[0]))


@command("HSTRLEN", 2)
def field_length(keys: Keyspace, args: Arguments) -> int:
    return len(_fields(keys, args[0]).get(args[1], b""))


@command("HDEL", 2, UNBOUNDED)
def delete_fields(keys: Keyspace, args: Arguments) -> int:
    fields = _fields(keys, args[0])
    gone = sum(fields.pop(name, None) is not None for name in args[1:])
    keys.dropped_if_empty(args[0], fields)
    return gone


@command("HINCRBY", 3)
def increment_field(keys: Keyspace, args: Arguments) -> int:
    total = added(_fields(keys, args[0]).get(args[1]), integer(args[2]), "ERR hash value is not an integer")
    keys.made(args[0], Hash)[args[1]] = b"%d" % total
    return total


@command("HINCRBYFLOAT", 3)
def increment_field_by_float(keys: Keyspace, args: Arguments) -> bytes:
    try:
        total = score(_fields(keys, args[0]).get(args[1], b"0")) + score(args[2])
    except CommandError as error:
        raise CommandError("ERR hash value is not a float") from error
    text = keys.made(args[0], Hash)[args[1]] = text_of(total)
    return text


# lists


def _list(keys: Keyspace, key: bytes) -> list[bytes]:
    return keys.get(key, list) or []


@command("RPUSH", 2, UNBOUNDED)
def push_right(keys: Keyspace, args: Arguments) -> int:
    elements: list[bytes] = keys.made(args[0], list)
    elements.extend(args[1:])
    return len(elements)


@command("LPUSH", 2, UNBOUNDED)
def push_left(keys: Keyspace, args: Arguments) -> int:
    elements: list[bytes] = keys.made(args[0], list)
    elements[:0] = reversed(args[1:])
    return len(elements)


@command("RPUSHX", 2, UNBOUNDED)
def push_where_there_is_one(keys: Keyspace, args: Arguments) -> int:
    return push_right(keys, args) if keys.get(args[0], list) is not None else 0


@command("LLEN", 1)
def list_length(keys: Keyspace, args: Arguments) -> int:
    return len(_list(keys, args[0]))


@command("LRANGE", 3)
def list_range(keys: Keyspace, args: Arguments) -> list[bytes]:
    elements = _list(keys, args[0])
    return elements[span(len(elements), args[1], args[2])]


@command("LINDEX", 2)
def list_element(keys: Keyspace, args: Arguments) -> bytes | None:
    elements, place = _list(keys, args[0]), integer(args[1])
    return elements[place] if -len(elements) <= place < len(elements) else None


@command("LSET", 3)
def set_element(keys: Keyspace, args: Arguments) -> Status:
    elements, place = keys.get(args[0], list), integer(args[1])
    if elements is None:
        raise CommandError("ERR no such key")
    if not -len(elements) <= place < len(elements):
        raise CommandError("ERR index out of range")
    elements[place] = args[2]
    return OK


@command("LTRIM", 3)
def trim_list(keys: Keyspace, args: Arguments) -> Status:
    elements = _list(keys, args[0])
    elements[:] = elements[span(len(elements), args[1], args[2])]
    keys.dropped_if_empty(args[0], elements)
    return OK


def _popped(keys: Keyspace, args: Arguments, place: int) -> bytes | list[bytes] | None:
    elements = keys.get(args[0], list)
    if elements is None:
        return None
    count = integer(args[1]) if len(args) > 1 else 1
    taken = [elements.pop(place) for _ in range(min(count, len(elements)))]
    keys.dropped_if_empty(args[0], elements)
    return taken if len(args) > 1 else taken[0]


@command("LPOP", 1, 2)
def pop_left(keys: Keyspace, args: Arguments) -> bytes | list[bytes] | None:
    return _popped(keys, args, 0)


@command("RPOP", 1, 2)
def pop_right(keys: Keyspace, args: Arguments) -> bytes | list[bytes] | None:
    return _popped(keys, args, -1)


@command("LREM", 3)
def remove_elements(keys: Keyspace, args: Arguments) -> int:
    elements, count = _list(keys, args[0]), integer(args[1])
    places = [place for place, element in enumerate(elements) if element == args[2]]
    chosen = places[:count] if count > 0 else places[count:] if count else places
    for place in reversed(chosen):
        del elements[place]
    keys.dropped_if_empty(args[0], elements)
    return len(chosen)


# sets


def _set(keys: Keyspace, key: bytes) -> set[bytes]:
    return keys.get(key, set) or set()


@command("SADD", 2, UNBOUNDED)
def add_members(keys: Keyspace, args: Arguments) -> int:
    members: set[bytes] = keys.made(args[0], set)
    before = len(members)
    members.update(args[1:])
    return len(members) - before


@command("SREM", 2, UNBOUNDED)
def remove_members(keys: Keyspace, args: Arguments) -> int:
    members = _set(keys, args[0])
    before = len(members)
    members.difference_update(args[1:])
    keys.dropped_if_empty(args[0], members)
    return before - len(members)


@command("SMEMBERS", 1)
def all_members(keys: Keyspace, args: Arguments) -> list[bytes]:
    return sorted(_set(keys, args[0]))


@command("SISMEMBER", 2)
def has_member(keys: Keyspace, args: Arguments) -> int:
    return int(args[1] in _set(keys, args[0]))


@command("SMISMEMBER", 2, UNBOUNDED)
def has_members(keys: Keyspace, args: Arguments) -> list[int]:
    members = _set(keys, args[0])
    return [int(member in members) for member in args[1:]]


@command("SCARD", 1)
def member_count(keys: Keyspace, args: Arguments) -> int:
    return len(_set(keys, args[0]))


@command("SSCAN", 2, UNBOUNDED)
def scan_members(keys: Keyspace, args: Arguments) -> list[bytes | list[bytes]]:
    if len(args) % 2:
        raise CommandError(SYNTAX)
    return [b"0", all_members(keys, args)]
