"""Stores in memory and on a server for the tests of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from helix_fast import Helix, connect
from helix_fast.agents import AgentExecutor


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("server_url"))


@pytest.fixture
async def helix(url: str) -> AsyncIterator[Helix]:
    async with connect(url, locks={"default_ttl_ms": 20_000}) as made:
        yield made


@pytest.fixture
async def executor(helix: Helix) -> AsyncIterator[AgentExecutor]:
    made = AgentExecutor(helix)
    yield made
    await made.drain(0)


@pytest.fixture
async def elsewhere(helix: Helix) -> AsyncIterator[AgentExecutor]:
    """An executor that knows nothing of the other's runs, as in another process."""
    made = AgentExecutor(helix)
    yield made
    await made.drain(0)
