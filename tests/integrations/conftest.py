"""Settings of frameworks that must hold before they are imported, and the stores that their tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from helix_fast import Helix, connect

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices at its import
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")


@pytest.fixture(params=["memory", "embedded", "cluster"])
def each_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty server, of each kind."""
    names = {"embedded": "server_url", "cluster": "cluster_url"}
    return str(request.getfixturevalue(names[request.param])) if request.param in names else "memory://"


@pytest.fixture
async def helix(each_url: str) -> AsyncIterator[Helix]:
    """All stores of such a server."""
    async with connect(each_url) as stores:
        yield stores
