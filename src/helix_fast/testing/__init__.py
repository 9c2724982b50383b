"""pytest fixtures for programs that use helix-fast: a private real server, emptied before each test.

Name them in the top ``conftest.py``::

    from helix_fast.testing import helix_server, helix_url

``helix_url`` is what ``helix_fast.connect`` takes. It needs the extra ``embedded`` and pytest.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from helix_fast.embedded import EmbeddedServer

__all__ = ["helix_server", "helix_url"]


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
