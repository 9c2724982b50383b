"""Stores of every backend. What a backend is made of is named in `tests.support.backends`, and nowhere in the tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from helix_fast import connect
from helix_fast.testing.contract.fixtures import *
from helix_fast.testing.contract.own import *
from tests.support.backends import DEFAULT, Backend, Backends, UnavailableError

Factory = Callable[..., Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes `backend` once for each `--backend`."""
    if "backend" in metafunc.fixturenames:
        names = dict.fromkeys(metafunc.config.getoption("--backend") or DEFAULT)
        if "new_lock_manager" in metafunc.fixturenames:
            found = [(name, "memory-connect") if name == "memory" else (name,) for name in names]
            names = dict.fromkeys(itertools.chain.from_iterable(found))
        metafunc.parametrize("backend", list(names), indirect=True)


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
async def new_lock_manager(backend: Backend) -> AsyncIterator[Factory]:
    """On memory-connect the managers that connect("memory://") makes, which are not those of helix_fast.memory."""
    if backend.name != "memory-connect":
        yield partial(backend.make, "locks")
        return
    async with connect("memory://") as helix:
        yield partial(type(helix.locks), topology=helix.locks._topology)


@pytest.fixture
async def raw(backend: Backend) -> AsyncIterator[Any]:
    """A plain client: what is in the server, and what a store in another language would put there."""
    client = backend.raw()
    yield client
    await client.aclose()
