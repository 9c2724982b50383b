"""A primary, its replicas, and Sentinels that watch them: real programs, all of them the packaged server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import redis.asyncio

from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until

MASTER = "helix-main"


def role(server: ServerProcess) -> str:
    """`master`, `slave`, or empty where it does not say: one that is being promoted cuts its connections."""
    try:
        return server.ask(b"INFO replication").decode().partition("role:")[2].split()[0]
    except (OSError, IndexError):
        return ""


class SentinelProcess(ServerProcess):
    """One Sentinel. It keeps what it learns in its configuration file."""

    def __init__(
        self, directory: Path, primary: ServerProcess, *, quorum: int, binary: str | None = None, down_after: int = 500
    ) -> None:
        super().__init__(directory, tcp=True, binary=binary)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {down_after}",
            f"sentinel failover-timeout {MASTER} 3000",
            f"sentinel parallel-syncs {MASTER} 1",
        ]
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")

    def command(self) -> list[str]:
        return [self._binary, str(self.directory / "sentinel.conf"), "--sentinel"]


class SentinelSet:
    """See the module; `start` returns when the Sentinels know each other and the replicas.

    Args:
        directory: existing directory; every program has a subdirectory.
        replicas, sentinels: how many.
        binary: server program; the packaged Valkey by default.
        users: clients, replicas and Sentinels are users of their own, so that ``cut_off`` can shut the latter out.
        down_after: milliseconds after which a Sentinel takes a silent primary for dead.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        binary: str | None = None,
        users: bool = False,
        down_after: int = 500,
    ) -> None:
        self.directory = directory
        self._down_after = down_after
        self._users = users
        self.servers: list[ServerProcess] = []
        self.sentinels: list[SentinelProcess] = []
        self._replicas = replicas
        self._sentinels = sentinels
        self._binary = binary

    @property
    def url(self) -> str:
        user = "writing:secret@" if self._users else ""
        return f"redis+sentinel://{user}{self.hosts}/{MASTER}"

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def _room(self, name: str) -> Path:
        room = self.directory / name
        room.mkdir()
        return room

    async def start(self) -> None:
        options = {"repl-diskless-sync-delay": "0"}
        if self._users:
            options |= {"masteruser": "following", "masterauth": "secret"}
        for number in range(1 + self._replicas):
            server = ServerProcess(self._room(f"server{number}"), tcp=True, binary=self._binary, options=options)
            await server.start()
            if self._users:
                self.let_in(server)
            self.servers.append(server)
        primary = self.servers[0]
        for replica in self.servers[1:]:
            replica.ask(f"REPLICAOF 127.0.0.1 {primary.port}".encode())
        for replica in self.servers[1:]:
            await until(lambda r=replica: b"master_link_status:up" in r.ask(b"INFO replication"), what="the replica")  # type: ignore[misc]
        for number in range(self._sentinels):
            room = self._room(f"sentinel{number}")
            quorum = self._sentinels // 2 + 1
            sentinel = SentinelProcess(room, primary, quorum=quorum, binary=self._binary, down_after=self._down_after)
            await sentinel.start()
            self.sentinels.append(sentinel)
        for sentinel in self.sentinels:
            await until(lambda s=sentinel: self._complete(s), seconds=30, what="Sentinels that know each other")  # type: ignore[misc]

    def _complete(self, sentinel: SentinelProcess) -> bool:
        told = sentinel.ask(b"INFO sentinel")
        return (
            f"status=ok,address=127.0.0.1:{self.servers[0].port},slaves={self._replicas},sentinels={self._sentinels}".encode()
            in told
        )

    async def ask(self, server: ServerProcess, *command: str | int) -> Any:
        client = redis.asyncio.Redis(host="127.0.0.1", port=server.port, decode_responses=True)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()

    def let_in(self, server: ServerProcess) -> None:
        """Make the users of a server that was started; it does not keep them."""
        server.ask(b"ACL SETUSER following on >secret +psync +replconf +ping")
        server.ask(b"ACL SETUSER writing on >secret ~* &* +@all")

    def cut_off(self, server: ServerProcess) -> None:
        """Shut replicas and Sentinels out (the latter are the default user), and nobody else."""
        assert server.ask(b"ACL SETUSER following off") == b"+OK\r\n"
        assert server.ask(b"ACL SETUSER default -ping -info -role") == b"+OK\r\n"
        server.ask(b"CLIENT KILL USER following")

    def primary(self) -> ServerProcess:
        """The running server that takes writes."""
        for server in self.servers:
            if server.running and role(server) == "master":
                return server
        raise AssertionError("there is no primary")

    async def promoted(self, old: ServerProcess, seconds: float = 30.0) -> ServerProcess:
        """Wait until the Sentinels have promoted another server than `old`; returns it."""
        found: list[ServerProcess] = []

        def look() -> bool:
            running = [server for server in self.servers if server is not old and server.running]
            found.extend(server for server in running if role(server) == "master")
            return bool(found)

        await until(look, seconds=seconds, what="the promotion")
        return found[0]

    async def stop(self) -> None:
        for process in (*self.sentinels, *self.servers):
            if process.running:
                process.kill()
            await asyncio.shield(process.stop())
