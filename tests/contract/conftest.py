"""Stores of every backend. What a backend is made of is named in `tests.support.backends`, and nowhere in the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from helix_fast import RedisResumableStorage, RedisStreamManager
from tests.support.backends import DEFAULT, Backend, Backends, UnavailableError

MakeStreams = Callable[..., RedisStreamManager]
MakeStorage = Callable[..., RedisResumableStorage]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes `backend` once for each `--backend`."""
    if "backend" in metafunc.fixturenames:
        names = dict.fromkeys(metafunc.config.getoption("--backend") or DEFAULT)
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
    for mark in request.node.iter_markers("not_on"):
        if name in mark.args:
            pytest.skip(f"not on {name}: {mark.kwargs['why']}")
    try:
        return backends.get(name)
    except UnavailableError as error:
        pytest.skip(f"backend {name}: {error}")


@pytest.fixture
async def make_streams(backend: Backend) -> AsyncIterator[MakeStreams]:
    """Makes managers of the same streams. Each has connections of its own, as in a process of its own."""
    made: list[RedisStreamManager] = []

    def make(**options: Any) -> RedisStreamManager:
        made.append(backend.make("streams", **options))
        return made[-1]

    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
def streams(make_streams: MakeStreams) -> RedisStreamManager:
    return make_streams()


@pytest.fixture
async def make_storage(backend: Backend) -> AsyncIterator[MakeStorage]:
    """Makes resumable storages of the same streams."""
    made: list[RedisResumableStorage] = []

    def make(**options: Any) -> RedisResumableStorage:
        made.append(backend.make("resumable", **options))
        return made[-1]

    yield make
    for storage in made:
        await storage.close()


@pytest.fixture
def storage(make_storage: MakeStorage) -> RedisResumableStorage:
    return make_storage()


@pytest.fixture
async def raw(backend: Backend) -> AsyncIterator[Any]:
    """A plain client: what is in the server, and what a store in another language would put there."""
    client = backend.raw()
    yield client
    await client.aclose()
