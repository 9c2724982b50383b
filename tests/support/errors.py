"""What an error tells: to compare two of them, and to look for what must not be in any."""

from __future__ import annotations

import traceback


def told(error: BaseException | None) -> tuple[object, ...]:
    """Class, message, arguments and attributes of an error, notes included."""
    assert error is not None
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return type(error), str(error), error.args, attributes, getattr(error, "__notes__", [])


def everything_about(error: BaseException) -> str:
    """All that an error and those behind it say: messages, reprs, attributes, the traceback as it is printed."""
    said: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        said += [str(one), repr(one), repr(vars(one)), *traceback.format_exception(one)]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(said)
