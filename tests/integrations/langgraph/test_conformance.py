"""LangGraph's own conformance suite: all eight capabilities, 81 tests, on every backend."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.conformance")

from langgraph.checkpoint.conformance import checkpointer_test, validate

CAPABILITIES = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


@pytest.mark.parametrize("capability", CAPABILITIES)
async def test_conformance(make_saver: Callable[..., Awaitable[Any]], capability: str) -> None:
    numbers = itertools.count()

    @checkpointer_test(name="HelixSaver")
    async def helix_saver() -> AsyncIterator[Any]:
        yield await make_saver(key_prefix=f"run-{next(numbers)}:")

    report = await validate(helix_saver, capabilities={capability})
    result = report.results[capability]
    assert result.failures == []
    assert result.tests_passed == CAPABILITIES[capability]
