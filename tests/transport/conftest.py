"""Fixtures of the tests of event loops and forks: a Helix on each kind of topology."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from helix_fast import Helix, connect


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.server) for name in ("server", "cluster"))])
def any_url(request: pytest.FixtureRequest) -> str:
    """Of each kind of topology."""
    names = {"memory": None, "server": "server_url", "cluster": "cluster_url"}
    name = names[request.param]
    return "memory://" if name is None else str(request.getfixturevalue(name))


@pytest.fixture
def shared_helix(any_url: str) -> Iterator[Helix]:
    """Opened in one run of asyncio, closed in another."""

    async def opened() -> Helix:
        helix = await connect(any_url)
        await helix.state.create_session("s", agent_type="a")
        return helix

    helix = asyncio.run(opened())
    yield helix
    asyncio.run(helix.close())
    gc.collect()  # nothing warns of a socket that was left open
