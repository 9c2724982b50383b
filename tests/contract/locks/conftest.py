"""Lock managers of every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.backends import Backend
from tests.support.locks import MakeManager, Manager


@pytest.fixture
async def make_lock_manager(backend: Backend) -> AsyncIterator[MakeManager]:
    """Makes managers that lock the same sessions."""
    made: list[Manager] = []

    def make(**options: Any) -> Manager:
        made.append(backend.make("locks", **options))
        return made[-1]

    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
def lock_manager(make_lock_manager: MakeManager) -> Manager:
    return make_lock_manager()
