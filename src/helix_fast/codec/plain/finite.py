"""The search for values that JSON cannot hold, in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MAX_DEPTH = 512


def check_finite(value: object, binary: bool = True) -> None:
    """Refuse NaN, Infinity, keys that are not str and, unless `binary`, bytes."""
    # An explicit stack, since the caller may itself be near the interpreter's recursion limit.
    trail: list[str] = []
    stack: list[Iterator[tuple[str, object]]] = [iter([("", value)])]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            if trail:
                trail.pop()
            continue
        name, item = step
        if isinstance(item, float):
            if item - item != 0.0:
                raise ValueError(f"{_path([*trail, name])}: {float.__repr__(item)} is no JSON number")
            continue
        if not binary and isinstance(item, (bytes, bytearray, memoryview)):
            kind = type(item).__name__
            raise TypeError(f"{_path([*trail, name])}: {kind} is no JSON value, decode it first")
        children = _children(item, trail, name)
        if children is None:
            continue
        if len(stack) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        trail.append(name)
        stack.append(children)


def _children(item: Any, trail: list[str], name: str) -> Iterator[tuple[str, object]] | None:
    if isinstance(item, dict):
        return _dict_children(item, [*trail, name])
    if isinstance(item, (list, tuple, set, frozenset)):
        return ((f"[{index}]", child) for index, child in enumerate(item))
    fields: Iterable[str] | None = getattr(type(item), "__struct_fields__", None)
    if fields is None:
        fields = getattr(type(item), "__dataclass_fields__", None)
    if fields is None:
        return None
    return ((f".{field}", getattr(item, field, None)) for field in fields)


def _dict_children(item: dict[Any, object], trail: list[str]) -> Iterator[tuple[str, object]]:
    for key, child in item.items():
        if not isinstance(key, str):
            raise TypeError(f"{_path(trail)}: a key must be str, not {type(key).__name__}")
        yield f".{key}", child


def _path(trail: list[str]) -> str:
    path = "".join(trail)
    return path.removeprefix(".") or "value"
