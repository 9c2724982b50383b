"""Fixtures of all tests: real servers, a proxy that breaks the way to them, and the stores of every backend.

Nothing here stands in for Redis. What a backend is made of is named in `tests.support.backends` alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from helix_fast.embedded import EmbeddedServer
from helix_fast.testing import helix_cluster, helix_cluster_url, helix_server, helix_url
from helix_fast.testing.contract.fixtures import *
from helix_fast.testing.contract.own import *
from tests.support.backends import DEFAULT, KNOWN, Backend, Backends, UnavailableError
from tests.support.cluster import ClusterProcess
from tests.support.proxy import FaultProxy
from tests.support.servers import ServerProcess

__all__ = ["helix_cluster", "helix_cluster_url", "helix_server", "helix_url"]

Factory = Callable[..., Any]

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


@pytest.fixture
async def cluster(short_path: Path) -> AsyncIterator[ClusterProcess]:
    """Three primaries."""
    process = ClusterProcess(short_path)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes `backend` once for each `--backend`."""
    if "backend" in metafunc.fixturenames:
        names = dict.fromkeys(metafunc.config.getoption("--backend") or DEFAULT)
        metafunc.parametrize("backend", list(names), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on each backend: `-m backend` is the contract, and what else every server must show."""
    for item in items:
        if "backend" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.backend)


@pytest.fixture(scope="session")
def backends(request: pytest.FixtureRequest) -> Iterator[Backends]:
    """The servers of this run, each started when it is first needed."""
    found = Backends(request.config.getoption("--redis-server"))
    yield found
    found.stop()


@pytest.fixture
def backend(request: pytest.FixtureRequest, backends: Backends) -> Backend:
    """Where the stores of a test are: an empty server."""
    name: str = request.param
    try:
        return backends.get(name)
    except UnavailableError as error:
        pytest.skip(f"backend {name}: {error}")


@pytest.fixture
def thorough(backend: Backend) -> bool:
    """One server on its own shows what there is to see; the others shall do the same, and not take as long."""
    return backend.name == "embedded"


@pytest.fixture
def new_state_store(backend: Backend) -> Factory:
    return partial(backend.make, "state")


@pytest.fixture
def new_stream_manager(backend: Backend) -> Factory:
    return partial(backend.make, "streams")


@pytest.fixture
def new_resumable_storage(backend: Backend) -> Factory:
    return partial(backend.make, "resumable")


@pytest.fixture
def new_usage_store(backend: Backend) -> Factory:
    return partial(backend.make, "usage")


@pytest.fixture
def new_lock_manager(backend: Backend) -> Factory:
    return partial(backend.make, "locks")


@pytest.fixture
async def raw(backend: Backend) -> AsyncIterator[Any]:
    """A plain client: what is in the server, and what a store in another language would put there."""
    client = backend.raw()
    yield client
    await client.aclose()
