"""pytest fixtures for programs that use helix-fast: private real servers, emptied before each test.

Name those that you want in the top ``conftest.py``::

    from helix_fast.testing import helix_cluster, helix_cluster_url, helix_server, helix_url

``helix_url`` and ``helix_cluster_url`` are what ``helix_fast.connect`` takes. They need the extras ``testing`` and
``embedded``. The tests that a store of your own has to pass are in :mod:`helix_fast.testing.contract`.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helix_fast.embedded import EmbeddedServer

# Before the first of them is imported: a failing assert of the contract shall show what it compared.
pytest.register_assert_rewrite("helix_fast.testing.contract", "helix_fast.testing.waiting")

from .cluster import ServerCluster  # noqa: E402

__all__ = ["helix_cluster", "helix_cluster_url", "helix_server", "helix_url"]


@pytest.fixture(scope="session")
def helix_server() -> Iterator[EmbeddedServer]:
    """One private server for the whole run, in a temporary directory; it ends with the run."""
    server = EmbeddedServer()
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def helix_url(helix_server: EmbeddedServer) -> str:
    """URL of that server, which has no keys."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(helix_server.socket_path)
        connection.sendall(b"FLUSHALL\r\n")
        reply = connection.recv(64)
    if reply != b"+OK\r\n":
        raise RuntimeError(f"the server was not emptied: {reply!r}")
    return helix_server.url


@pytest.fixture(scope="session")
def helix_cluster() -> Iterator[ServerCluster]:
    """One private cluster for the whole run, of 3 primaries and 3 replicas; it ends with the run."""
    with tempfile.TemporaryDirectory(prefix="helix-", ignore_cleanup_errors=True) as directory:
        cluster = ServerCluster(Path(directory), primaries=3, replicas=1)
        try:
            asyncio.run(cluster.start())
            yield cluster
        finally:
            asyncio.run(cluster.stop())


@pytest.fixture
def helix_cluster_url(helix_cluster: ServerCluster) -> str:
    """URL of that cluster, which has no keys."""
    helix_cluster.empty()
    return helix_cluster.url
