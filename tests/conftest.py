"""Fixtures of all tests: real servers, a proxy that breaks the way to them, and the stores of every backend.

Nothing here stands in for Redis. What a backend is made of is named in `tests.support.backends` alone.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from helix_fast.embedded import EmbeddedServer
from helix_fast.testing import helix_cluster, helix_cluster_url, helix_server, helix_url
from helix_fast.testing.contract.fixtures import *
from helix_fast.testing.servers import ServerProcess
from tests.support.backends import DEFAULT, KNOWN, Backend, Backends, UnavailableError
from tests.support.cluster import ClusterProcess
from tests.support.helix_internals import *
from tests.support.helix_internals import load_scripts
from tests.support.proxy import FaultProxy

__all__ = ["helix_cluster", "helix_cluster_url", "helix_server", "helix_url"]

Factory = Callable[..., Any]
INTEGRATIONS = Path(__file__).parent / "integrations"
SERVERS = {"embedded_server", "fresh_server", "fault_proxy", "cluster", "helix_server", "helix_cluster"}

# A shell starts a job in the background with SIGINT ignored, and tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A failing example is printed as a blob that reproduces it. No limits of time: other tests share the machine.
settings.register_profile(
    "helix", print_blob=True, deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("helix"), max_examples=200)
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
    group.addoption(
        "--thorough", action="store_true", help="many more rounds of races and random histories, and the long demo"
    )
    group.addoption(
        "--frameworks", action="store_true", help="only tests that need a framework; none is skipped for a missing one"
    )
    group.addoption("--loop", choices=("asyncio", "uvloop"), help="the event loop of the tests; default: asyncio")


class _Loop:
    """A plugin that gives tests another event loop, and with it longer ids: `test_it[uvloop]`."""

    @staticmethod
    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories(config: pytest.Config) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        name: str = config.getoption("--loop")
        return {name: import_module(name).new_event_loop}


def pytest_configure(config: pytest.Config) -> None:
    """Take the loop that `--loop` names, and the number of examples before a test is imported.

    Frameworks keep the warnings that are about themselves.
    """
    if config.getoption("--thorough"):
        settings.load_profile("thorough")
    if config.getoption("--frameworks"):
        for line in ("default", "error:::helix_fast", "error:::tests"):
            config.addinivalue_line("filterwarnings", line)
    if config.getoption("--loop"):
        config.pluginmanager.register(_Loop())
    if config.getoption("--loop") == "uvloop":
        # Raised as an error within the close of a loop, it keeps uvloop from closing the socket: it waits for ever.
        config.addinivalue_line("filterwarnings", "default:unclosed resource:ResourceWarning")


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
    """A proxy in front of the run's server, on a unix socket. The server knows all scripts.

    Else the reply that a test cuts or drops could be that to a digest, and the script would never have run.
    """
    await load_scripts(server_url)
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


@cache
def of_a_framework(path: Path) -> bool:
    return INTEGRATIONS in path.parents and path.parent != INTEGRATIONS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what runs on each backend (the contract, and what else every server must show), and what needs a server."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "backend" in names:
            item.add_marker(pytest.mark.backend)
        on_memory = "backend" in names and item.callspec.params["backend"].startswith("memory")  # type: ignore[attr-defined]
        if not SERVERS.isdisjoint(names) or ("backends" in names and not on_memory):
            item.add_marker(pytest.mark.server)
        if of_a_framework(item.path):
            item.add_marker(pytest.mark.framework)
        if item.get_closest_marker("thorough") and not config.getoption("--thorough"):
            item.add_marker(pytest.mark.skip(reason="only with --thorough"))
    if config.getoption("--frameworks"):
        others = [item for item in items if item.get_closest_marker("framework") is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("framework") is not None]


Report = TypeVar("Report", pytest.CollectReport, pytest.TestReport)


def refuse_missing(report: Report, config: pytest.Config) -> Report:
    """With --frameworks, a failure instead of a skip of `pytest.importorskip`."""
    if config.getoption("--frameworks") and report.skipped and "could not import" in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, Any]:
    return refuse_missing((yield), collector.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return refuse_missing((yield), item.config)


def pytest_collection_finish() -> None:
    """Keep thousands of tests out of every garbage collection, which takes a quarter of a second with them."""
    gc.collect()
    gc.freeze()


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
def cluster_url(backends: Backends) -> str:
    """URL of the run's cluster, emptied before each test. Tests that hurt or change their cluster take `cluster`."""
    return str(backends.get("cluster").target)


@pytest.fixture
def sentinel_url(backends: Backends) -> str:
    """URL of the run's Sentinels and their primary, which is emptied before each test."""
    return str(backends.get("sentinel").target)


@pytest.fixture
def thorough(backend: Backend, request: pytest.FixtureRequest) -> bool:
    """With `--thorough`, on one server: it shows what there is to see, and the others do the same."""
    return bool(request.config.getoption("--thorough")) and backend.name == "embedded"


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
