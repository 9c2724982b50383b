"""A primary, a replica, Sentinels and programs, each on a host of its own: the nemesis hurts the network between."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from pathlib import Path

from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.sentinel import MASTER, role

from . import net
from .arena import SESSIONS_GO_BACK, Arena
from .nemesis import Fault

PORT, SENTINEL_PORT = 6379, 26379
SERVERS, SENTINELS, CLIENTS = ("server0", "server1"), ("sentinel0", "sentinel1", "sentinel2"), ("client0", "client1")


class HostedServer(ServerProcess):
    """A server on a host; a unix socket reaches it whatever becomes of the network."""

    def __init__(self, directory: Path, host: net.Host) -> None:
        self.host = host
        super().__init__(
            directory,
            options={
                "port": str(PORT), "bind": host.address, "protected-mode": "no", "repl-diskless-sync-delay": "0",
                "repl-timeout": "5", "repl-ping-replica-period": "1",
            },
        )  # fmt: skip

    def command(self) -> list[str]:
        return [*self.host.prefix, *super().command()]


class HostedSentinel(ServerProcess):
    """A Sentinel on a host."""

    def __init__(self, directory: Path, host: net.Host, primary: net.Host) -> None:
        super().__init__(directory, tcp=True)
        self.host = host
        lines = [
            f"port {SENTINEL_PORT}",
            f"bind {host.address}",
            "protected-mode no",
            f"dir {directory}",
            f"sentinel monitor {MASTER} {primary.address} {PORT} 2",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")

    def command(self) -> list[str]:
        return [*self.host.prefix, self._binary, str(self.directory / "sentinel.conf"), "--sentinel"]

    def ask(self, command: bytes, *, timeout: float = 5.0) -> bytes:
        with socket.create_connection((self.host.address, SENTINEL_PORT), timeout) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)


class Networked(Arena):
    """Sentinels and a replica; partitions, loss, delay and links that are down between all of them."""

    faults = {
        "primary cut off": 3,
        "partition": 3,
        "one way": 2,
        "loss": 2,
        "slow": 2,
        "unplugged": 2,
    }
    may_lose = True
    allowed = SESSIONS_GO_BACK | {"locked twice"}
    pause = 1.0

    @classmethod
    def missing(cls) -> str:
        return net.missing()

    async def start(self) -> None:
        self.network = net.Network((*SERVERS, *SENTINELS, *CLIENTS))
        hosts = self.network.hosts
        self.servers: dict[str, HostedServer] = {}
        self.sentinels: list[HostedSentinel] = []
        for name in SERVERS:
            self.servers[name] = HostedServer(self._room(name), hosts[name])
            await self.servers[name].start()
        self.servers["server1"].ask(b"REPLICAOF %s %d" % (hosts["server0"].address.encode(), PORT))
        await self._replicated()
        for name in SENTINELS:
            sentinel = HostedSentinel(self._room(name), hosts[name], hosts["server0"])
            await sentinel.start()
            self.sentinels.append(sentinel)
        for sentinel in self.sentinels:
            await until(lambda s=sentinel: b"slaves=1,sentinels=3" in s.ask(b"INFO sentinel"), seconds=60)  # type: ignore[misc]

    def _room(self, name: str) -> Path:
        room = self.directory / name
        room.mkdir()
        return room

    async def url_for(self, program: str) -> str:
        hosts = ",".join(self.network.hosts[name].address for name in SENTINELS)
        return f"redis+sentinel://{hosts}/{MASTER}"

    def network_of(self, program: str) -> int:
        return self.network.hosts[CLIENTS[int(program[-1]) % len(CLIENTS)]].pid

    def primary(self) -> str:
        """The host of the server that takes writes: in a split brain, the one that the Sentinels name."""
        primaries = [name for name, server in self.servers.items() if role(server) == "master"]
        assert primaries, "there is no primary"
        return primaries[0]

    def holder(self, stream: str) -> ServerProcess:
        return self.servers[self.primary()]

    async def act(self, fault: Fault) -> None:
        dice, network = random.Random(fault.dice), self.network
        everybody = [*SERVERS, *SENTINELS, *CLIENTS]
        primary = self.primary()
        seconds = dice.uniform(0.5, 8.0)
        if fault.name == "primary cut off":  # its clients, or one host of them, still reach it
            with_it = [primary, *dice.sample(CLIENTS, dice.choice((1, 2)))]
            network.split([primary], [name for name in everybody if name not in with_it])
        elif fault.name == "partition":
            side = dice.sample(everybody, dice.randrange(1, len(everybody) - 1))
            network.split(side, [name for name in everybody if name not in side])
        elif fault.name == "one way":
            for _ in range(dice.randrange(1, 4)):
                network.cut(*dice.sample(everybody, 2))
        elif fault.name == "loss":
            network.lose(dice.choice((2, 10, 25)))
        elif fault.name == "slow":
            for name in dice.sample(everybody, dice.randrange(1, 3)):
                network.slow(name, dice.choice((20, 100, 300)))
        else:
            network.unplug(dice.choice(everybody))
        await asyncio.sleep(seconds)
        if sum(role(server) == "master" for server in self.servers.values()) == 2:
            await self.look(*self.servers.values())  # one of them is about to be given up
        network.heal()
        await self._replicated()

    async def heal(self) -> None:
        self.network.heal()
        await self._replicated()

    async def _replicated(self) -> None:
        """Wait until there is one primary, and the other follows it; it stays so for a while."""
        good_since: list[float] = []

        def follows() -> bool:
            try:
                told = [server.ask(b"INFO replication") for server in self.servers.values()]
            except OSError:  # one that changes its role cuts its connections
                told = []
            good = sorted(b"role:master" in each for each in told) == [False, True] and all(
                b"role:master" in each or b"master_link_status:up" in each for each in told
            )
            if not good:
                good_since.clear()
            elif not good_since:
                good_since.append(time.monotonic())
            return bool(good_since) and time.monotonic() > good_since[0] + 0.5

        await until(follows, seconds=90, what="a replica that follows")

    async def stop(self) -> None:
        for process in (*self.sentinels, *self.servers.values()):
            if process.running:
                process.kill()
            await process.stop()
        self.network.stop()


class NetworkedWait(Networked):
    """The same with ``wait_replicas=1``: nothing that is acknowledged may be lost."""

    may_lose = False
    allowed = frozenset()
    wait_replicas = 1
