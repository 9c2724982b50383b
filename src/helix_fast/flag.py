"""A flag that tasks can wait for: what a writer's ``stop_requested`` and a lock's ``lost`` are."""

from __future__ import annotations

import asyncio


class Flag(asyncio.Event):
    """An ``asyncio.Event`` whose truth is whether it is set: ``if lock.lost:``."""

    def __bool__(self) -> bool:
        return self.is_set()
