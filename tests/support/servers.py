"""Plain servers for tests; see `helix_fast.testing.servers`. Here: which programs there are."""

from __future__ import annotations

import shutil

from helix_fast.embedded import find_server_binary
from helix_fast.testing.servers import LONGEST_SOCKET_PATH, ServerProcess, free_port
from helix_fast.testing.waiting import until

__all__ = ["LONGEST_SOCKET_PATH", "ServerProcess", "free_port", "server_binaries", "until"]


def server_binaries() -> dict[str, str]:
    """Name and path of every server program on this machine: the packaged Valkey, and a `redis-server` on PATH."""
    found = {"valkey": find_server_binary()}
    redis = shutil.which("redis-server")
    if redis is not None:
        found["redis"] = redis
    return found
