"""A flag that tasks can wait for: what a writer's ``stop_requested`` and a lock's ``lost`` are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Flag(asyncio.Event):
    """An ``asyncio.Event`` whose truth is whether it is set: ``if lock.lost:``."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], object]] = []

    def set(self) -> None:
        """Set it; wakes the tasks that wait, and calls the callbacks."""
        super().set()
        for callback in list(self._callbacks):
            callback()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when the flag is set."""
        self._callbacks.append(callback)

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Do not call ``callback`` any more."""
        self._callbacks.remove(callback)

    def __bool__(self) -> bool:
        return self.is_set()
