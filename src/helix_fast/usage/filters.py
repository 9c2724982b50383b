"""Filters: the filter arguments of ``get_entries``, checked and in one form. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Union

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError

Range = Union[tuple[Union[int, None], Union[int, None]], Mapping[str, Union[int, None]]]  # noqa: UP007


def check_kinds(kinds: object) -> tuple[bytes, ...] | None:
    """Kinds as the codec takes them; None: no filter. InvalidArgumentError unless it is a collection of str."""
    if kinds is None:
        return None
    if isinstance(kinds, (str, bytes)) or not isinstance(kinds, Collection):
        raise InvalidArgumentError(f"kinds must be a collection of str, not {kinds!r}")
    for kind in kinds:
        arguments.text(kind, "a kind")
    return tuple(kind.encode() for kind in kinds)


def check_range(value: object, what: str) -> tuple[int | None, int | None]:
    """(low, high) of a range in any of its forms: a pair, {min, max}, {start, end}. InvalidArgumentError for others."""
    if value is None:
        return (None, None)
    if isinstance(value, Mapping):
        names = ({"min", "max"}, {"start", "end"})
        if not any(set(value) <= pair for pair in names):
            raise InvalidArgumentError(
                f"{what} takes 'min' and 'max', or 'start' and 'end', not {sorted(map(str, value))}"
            )
        low, high = value.get("min", value.get("start")), value.get("max", value.get("end"))
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        low, high = value
    else:
        raise InvalidArgumentError(f"{what} must be (min, max) or a dict, not {value!r}")
    for bound in (low, high):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)):
            raise InvalidArgumentError(f"{what}: {bound!r} is no whole number")
    if low is not None and high is not None and low > high:
        raise InvalidArgumentError(f"{what} ends at {high}, before it begins at {low}")
    return (low, high)
