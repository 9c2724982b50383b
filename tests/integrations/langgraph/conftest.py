"""Fixtures of the tests of LangGraph. Its tests are skipped by name where it is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from helix_fast import connect
from tests.support.backends import Backend


@pytest.fixture
async def make(backend: Backend) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Makes savers, stores and caches on the backend; each has connections of its own, as in another process."""
    async with contextlib.AsyncExitStack() as stack:
        memory = await stack.enter_async_context(connect("memory://")) if backend.name == "memory" else None

        async def make_one(kind: Any, **options: Any) -> Any:
            if memory is not None:
                return kind(memory, **options)
            return await stack.enter_async_context(kind(backend.target, **options))

        yield make_one


@pytest.fixture
def make_saver(make: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Makes savers."""
    from helix_fast.integrations.langgraph import HelixSaver

    return partial(make, HelixSaver)


@pytest.fixture
async def saver(make_saver: Callable[..., Awaitable[Any]]) -> Any:
    """A saver on the backend."""
    return await make_saver()
