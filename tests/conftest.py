"""Fixtures of all tests: real servers, and a proxy that breaks the way to them. Nothing here stands in for Redis."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from helix_fast.embedded import EmbeddedServer
from helix_fast.testing import helix_cluster, helix_cluster_url, helix_server, helix_url
from tests.support.backends import DEFAULT, KNOWN
from tests.support.proxy import FaultProxy
from tests.support.servers import ServerProcess

__all__ = ["helix_cluster", "helix_cluster_url", "helix_server", "helix_url"]

# A failing example is printed as a blob that reproduces it. No deadline: the machine is shared with other tests.
settings.register_profile("helix", print_blob=True, deadline=None)
settings.load_profile("helix")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which servers the contract suite runs on."""
    group = parser.getgroup("helix-fast")
    group.addoption(
        "--backend",
        action="append",
        choices=KNOWN,
        help=f"a server for the contract suite; may be repeated; default: {', '.join(DEFAULT)}",
    )
    group.addoption(
        "--redis-server", metavar="PATH", help="the program of --backend=redis-server, cluster and sentinel"
    )


@pytest.fixture(scope="session")
def embedded_server(helix_server: EmbeddedServer) -> EmbeddedServer:
    """One private server for the whole run. Tests that change or hurt their server take `fresh_server`."""
    return helix_server


@pytest.fixture
def server_url(helix_url: str) -> str:
    """URL of the run's server, emptied before each test."""
    return helix_url


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary directory whose path leaves room for the name of a unix socket; pytest's own is too long for that."""
    with tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
async def fresh_server(short_path: Path) -> AsyncIterator[ServerProcess]:
    """A server of the test's own, on a TCP port: to be killed, frozen and started again."""
    server = ServerProcess(short_path, tcp=True)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def fault_proxy(server_url: str, short_path: Path) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the run's server, on a unix socket."""
    async with FaultProxy(server_url, socket_path=short_path / "proxy.sock") as proxy:
        yield proxy
