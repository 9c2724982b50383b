"""What a reader has at hand, in plain Python: the twin of `_codec_items.pxi`, and the contract of both."""

from __future__ import annotations

from typing import Any


class Items:
    """Hands out items that are there, one for each step of an ``async for``, and awaits ``_more`` where there are none.

    A step takes its item when it is awaited, not before: one that was made and dropped, or cancelled before it began,
    takes nothing.

    Attributes:
        _items: the items. _index: of the next one. _clean: end of those that may be handed out.
    """

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._index = 0
        self._clean = 0

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        """The next item."""
        index = self._index
        if 0 <= index < min(self._clean, len(self._items)):
            self._index = index + 1
            return self._items[index]
        return await self._more()

    async def _more(self) -> Any:
        """The next item, when there is one; StopAsyncIteration at the end."""
        raise NotImplementedError
