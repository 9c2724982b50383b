"""A private cluster of real servers: primaries and replicas on free ports of 127.0.0.1, ready in about two seconds."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import redis.asyncio

from .servers import ServerProcess, free_port

SLOTS = 16_384


class ServerCluster:
    """`primaries` servers that share the slots, each with `replicas` replicas.

    Args:
        directory: existing directory; every node has a subdirectory.
        primaries: from 1; a cluster that shall vote on a failover needs 3.
        replicas: of each primary.
        node_timeout: milliseconds after which a silent node is voted down.
        binary: server program; the packaged Valkey by default.

    Attributes:
        nodes: the servers, the primaries first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primaries: int = 3,
        replicas: int = 0,
        node_timeout: int = 1000,
        binary: str | None = None,
    ) -> None:
        self.directory = directory
        self.nodes: list[ServerProcess] = []
        self._primaries = primaries
        self._replicas = replicas
        self._node_timeout = node_timeout
        self._binary = binary

    @property
    def url(self) -> str:
        """What `helix_fast.connect` takes; names the first node, by which the others are found."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def client(self, node: ServerProcess) -> redis.asyncio.Redis:
        """A plain client of one node; the caller closes it."""
        return redis.asyncio.Redis(host="127.0.0.1", port=node.port, decode_responses=True)

    async def ask(self, node: ServerProcess, *command: str | int) -> object:
        """The node's answer to a command."""
        client = self.client(node)
        try:
            reply: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
            return reply
        finally:
            await client.aclose()

    async def _add(self) -> ServerProcess:
        directory = self.directory / str(len(self.nodes))
        directory.mkdir()
        node = ServerProcess(
            directory,
            tcp=True,
            binary=self._binary,
            options={
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": str(self._node_timeout),
                "cluster-replica-validity-factor": "0",
                "repl-diskless-sync-delay": "0",
                # A primary that gives its last slot away stays one. Redis 6.2 has no such setting.
                **({} if self._binary else {"cluster-allow-replica-migration": "no"}),
            },
        )
        # The nodes' own port is this much above the clients'; to choose it is of Redis 7.
        while node.port > 55_000 or _taken(node.port + 10_000):
            node.move_to(free_port())
        await node.start()
        self.nodes.append(node)
        return node

    async def start(self) -> None:
        """Start all nodes; returns when each of them finds the cluster ok and every replica follows its primary.

        Raises:
            AssertionError: a node did not come up.
            EmbeddedServerUnavailableError: there is no server program for this machine.
        """
        for _ in range(self._primaries * (1 + self._replicas)):
            await self._add()
        primaries, replicas = self.nodes[: self._primaries], self.nodes[self._primaries :]
        step = -(-SLOTS // self._primaries)
        for number, node in enumerate(primaries):
            # Slot by slot: ADDSLOTSRANGE is of Redis 7.
            await self.ask(node, "CLUSTER", "ADDSLOTS", *range(number * step, min(SLOTS, (number + 1) * step)))
            await self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            await self._introduce(node)
        for node in self.nodes[1:]:
            await self._until_known(node)
        for number, node in enumerate(replicas):
            await self.replicate(node, primaries[number % len(primaries)])
        await self.settled()

    async def _introduce(self, node: ServerProcess) -> None:
        await self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)

    async def _until_known(self, node: ServerProcess) -> None:
        name = str(await self.ask(node, "CLUSTER", "MYID"))
        for _ in range(1000):
            if all([name in str(await self.ask(other, "CLUSTER", "NODES")) for other in self.nodes if other.running]):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the nodes do not know each other")

    async def replicate(self, replica: ServerProcess, primary: ServerProcess) -> None:
        """Make a node a replica of another; returns when it follows."""
        name = await self.ask(primary, "CLUSTER", "MYID")
        await self.ask(replica, "CLUSTER", "REPLICATE", str(name))
        for _ in range(1000):
            if "master_link_status:up" in replica.ask(b"INFO replication").decode():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the replica does not follow")

    async def settled(self) -> None:
        """Wait until every running node finds the cluster ok."""
        for _ in range(1000):
            states = [str(await self.ask(node, "CLUSTER", "INFO")) for node in self.nodes if node.running]
            if all("cluster_state:ok" in state for state in states):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the cluster is not ok: {states}")

    def empty(self) -> None:
        """Delete all keys; returns when the primaries have done so.

        Raises:
            RuntimeError: a running node did not.
        """
        for node in self.nodes:
            if node.running:
                reply = node.ask(b"FLUSHALL", timeout=30)
                if not reply.startswith((b"+OK", b"-READONLY")):  # a replica follows its primary
                    raise RuntimeError(f"{node.url} was not emptied: {reply!r}")

    async def stop(self) -> None:
        """End all nodes. Safe to call twice."""
        for node in self.nodes:
            if node.running:
                node.kill()
            await node.stop()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
