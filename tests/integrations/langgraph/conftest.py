"""Fixtures of the tests of LangGraph. Its tests are skipped by name where it is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast import connect
from tests.support.backends import Backend


@pytest.fixture
async def make_saver(backend: Backend) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Makes savers on the backend; each has connections of its own, as in a process of its own."""
    from helix_fast.integrations.langgraph import HelixSaver

    async with contextlib.AsyncExitStack() as stack:
        memory = await stack.enter_async_context(connect("memory://")) if backend.name == "memory" else None

        async def make(**options: Any) -> Any:
            if memory is not None:
                return HelixSaver(memory, **options)
            return await stack.enter_async_context(HelixSaver(backend.target, **options))

        yield make


@pytest.fixture
async def saver(make_saver: Callable[..., Awaitable[Any]]) -> Any:
    """A saver on the backend."""
    return await make_saver()
