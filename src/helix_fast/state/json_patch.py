"""JSON Patch (RFC 6902) on decoded JSON values. No I/O, no stores.

Not a library's: it would be a dependency of every installation, for a rarely used path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from helix_fast.errors import PatchError

_MISSING: Final = object()
_MAX_DEPTH: Final = 2 * 512  # a value of the greatest depth that is encoded, put into another


def apply_patch(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """Apply the operations of a patch in order, all of them or none.

    Args:
        document: a JSON value: dict, list, str, int, float, bool or None. It is not changed.
        patch: operations as RFC 6902 has them: ``{"op": "add", "path": "/notes/-", "value": "x"}``. Members that an
            operation does not define are ignored (section 4).

    Returns:
        The patched value, which shares nothing with ``document`` or ``patch``.

    Raises:
        PatchError: an operation is malformed, its target does not exist, or a ``test`` fails. It names the index.

    >>> apply_patch({"notes": ["a"]}, [{"op": "add", "path": "/notes/-", "value": "b"}])
    {'notes': ['a', 'b']}
    """
    if isinstance(patch, (str, bytes, Mapping)) or not isinstance(patch, Sequence):
        raise PatchError(f"a patch is a list of operations, not {type(patch).__name__}")
    result = _copy(document)
    done = 0
    try:
        for operation in patch:
            result = _apply(result, operation)
            done += 1
    except PatchError as error:
        raise PatchError(f"operation {done}: {error}") from None
    return result


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    if not isinstance(operation, Mapping):
        raise PatchError(f"an operation is an object, not {type(operation).__name__}")
    name = operation.get("op")
    path = _pointer(operation, "path")
    if name == "add":
        return _add(document, path, _copy(_value(operation)))
    if name == "remove":
        return _remove(document, path)
    if name == "replace":
        value = _copy(_value(operation))
        _get(document, path)  # the target must exist
        return _put(document, path, value) if path else value
    if name == "move":
        source = _pointer(operation, "from")
        value = _get(document, source)
        if source == path:
            return document
        if path[: len(source)] == source:
            raise PatchError("a value cannot be moved into one of its children")
        return _add(_remove(document, source), path, value)
    if name == "copy":
        return _add(document, path, _copy(_get(document, _pointer(operation, "from"))))
    if name == "test":
        if not _equal(_get(document, path), _value(operation)):
            raise PatchError(f"the value at {operation['path']!r} is another one")
        return document
    raise PatchError(f"no operation {name!r}")


def _value(operation: Mapping[str, Any]) -> Any:
    value = operation.get("value", _MISSING)
    if value is _MISSING:
        raise PatchError("'value' is missing")
    return value


def _pointer(operation: Mapping[str, Any], member: str) -> list[str]:
    """The tokens of a JSON Pointer (RFC 6901)."""
    text = operation.get(member)
    if not isinstance(text, str):
        raise PatchError(f"{member!r} is missing or no string")
    if not text:
        return []
    if text[0] != "/":
        raise PatchError(f"{member!r} {text!r} does not begin with '/'")
    tokens = text[1:].split("/")
    if "~" in text:
        for token in tokens:
            if "~" in token.replace("~0", "").replace("~1", ""):
                raise PatchError(f"{member!r} {text!r} has a '~' that is neither '~0' nor '~1'")
        # '~1' first, or '~01' would become '/' (RFC 6901 section 4)
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in tokens]
    return tokens


def _index(token: str, length: int) -> int:
    if not (token.isascii() and token.isdigit()) or (len(token) > 1 and token[0] == "0"):
        raise PatchError(f"{token!r} is no array index")
    # the length is compared first: int() refuses thousands of digits with an error of its own
    if len(token) > 20 or int(token) >= length:
        raise PatchError(f"index {token[:20]} is out of bounds")
    return int(token)


def _get(document: Any, path: Sequence[str]) -> Any:
    for token in path:
        if isinstance(document, dict):
            if token not in document:
                raise PatchError(f"no member {token!r}")
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document))]
        else:
            raise PatchError(f"{token!r} is asked of a value that is neither object nor array")
    return document


def _parent(document: Any, path: Sequence[str]) -> dict[str, Any] | list[Any]:
    parent = _get(document, path[:-1])
    if not isinstance(parent, (dict, list)):
        raise PatchError(f"{path[-1]!r} is asked of a value that is neither object nor array")
    return parent


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent = _parent(document, path)
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif path[-1] == "-":
        parent.append(value)
    else:
        parent.insert(_index(path[-1], len(parent) + 1), value)
    return document


def _put(document: Any, path: Sequence[str], value: Any) -> Any:
    parent = _parent(document, path)
    if isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        parent[_index(path[-1], len(parent))] = value
    return document


def _remove(document: Any, path: Sequence[str]) -> Any:
    if not path:
        raise PatchError("the whole document cannot be removed")
    _get(document, path)  # the target must exist
    parent = _parent(document, path)
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[_index(path[-1], len(parent))]
    return document


def _copy(value: Any) -> Any:
    """A deep copy. Not recursive: a patch may put a value as deep as the encoder goes into another such value."""
    top = [value]
    pending: list[tuple[Any, int]] = [(top, 0)]
    while pending:
        into, depth = pending.pop()
        for key, member in into.items() if isinstance(into, dict) else enumerate(into):
            if isinstance(member, Mapping):
                copied: Any = dict(member)
            elif isinstance(member, (list, tuple)):
                copied = list(member)
            else:
                continue
            if depth > _MAX_DEPTH:
                raise PatchError(f"nested deeper than {_MAX_DEPTH} levels")
            into[key] = copied  # of a key that is there: the loop may go on
            pending.append((copied, depth + 1))
    return top[0]


def _equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by value, and a boolean is no number (in Python, True == 1)."""
    pending = [(a, b)]
    while pending:
        a, b = pending.pop()
        if isinstance(a, dict):
            if not isinstance(b, Mapping) or a.keys() != b.keys():
                return False
            pending += [(a[key], b[key]) for key in a]
        elif isinstance(a, list):
            if not isinstance(b, (list, tuple)) or len(a) != len(b):
                return False
            pending += zip(a, b, strict=True)
        elif isinstance(a, bool) or isinstance(b, bool):
            if a is not b:
                return False
        elif a != b:
            return False
    return True
