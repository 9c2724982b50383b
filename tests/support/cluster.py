"""A real cluster of plain servers for tests: primaries and replicas, slots moved by hand, nodes killed."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import redis.asyncio

from tests.support.servers import ServerProcess, free_port

SLOTS = 16_384


class ClusterProcess:
    """`primaries` servers that share the slots, each with `replicas` replicas; ready in about two seconds.

    Args:
        directory: existing directory; every node has a subdirectory.
        node_timeout: milliseconds after which a silent node is voted down.
        binary: server program; the packaged Valkey by default.
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
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def client(self, node: ServerProcess) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(host="127.0.0.1", port=node.port, decode_responses=True)

    async def ask(self, node: ServerProcess, *command: str | int) -> object:
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

    async def add_primary(self) -> ServerProcess:
        """A new primary without slots."""
        node = await self._add()
        await self._introduce(node)
        await self._until_known(node)
        await self.settled()
        return node

    async def replicate(self, replica: ServerProcess, primary: ServerProcess) -> None:
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

    async def move_slot(self, slot: int, source: ServerProcess, target: ServerProcess) -> None:
        """Move a slot with its keys as redis-cli's reshard does, key by key, while clients work on it."""
        await self.begin_move(slot, source, target)
        while True:
            keys = await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10)
            assert isinstance(keys, list)
            if not keys:
                break
            await self.move_keys(source, target, *keys)
        await self.end_move(slot, source, target)

    async def begin_move(self, slot: int, source: ServerProcess, target: ServerProcess) -> None:
        source_id, target_id = await self.ask(source, "CLUSTER", "MYID"), await self.ask(target, "CLUSTER", "MYID")
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", str(source_id))
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", str(target_id))

    async def move_keys(self, source: ServerProcess, target: ServerProcess, *keys: str) -> None:
        await self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    async def end_move(self, slot: int, source: ServerProcess, target: ServerProcess) -> None:
        target_id = await self.ask(target, "CLUSTER", "MYID")
        for node in (target, source):
            await self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", str(target_id))

    async def slot_of(self, tag: str) -> int:
        return int(str(await self.ask(self.nodes[0], "CLUSTER", "KEYSLOT", "{" + tag + "}")))

    async def primary_for(self, tag: str) -> ServerProcess:
        return await self.primary_of(await self.slot_of(tag))

    async def replica_of(self, primary: ServerProcess) -> ServerProcess:
        """A running replica of a primary."""
        for node in self.nodes:
            if node.running and f"master_port:{primary.port}" in node.ask(b"INFO replication").decode():
                return node
        raise AssertionError(f"{primary.port} has no replica")

    async def in_step(self, primary: ServerProcess, replica: ServerProcess) -> None:
        """Wait until the replica has all that the primary has now."""
        wanted = _replicated(primary)
        for _ in range(1000):
            if _replicated(replica) >= wanted:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the replica is behind")

    async def cut_off(self, primary: ServerProcess) -> None:
        """From now on nothing of what the primary is given reaches its replicas."""
        await self.ask(primary, "ACL", "SETUSER", "default", "-psync", "-sync")
        await self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")

    async def primary_of(self, slot: int) -> ServerProcess:
        ports = {node.port: node for node in self.nodes}
        asked = next(node for node in self.nodes if node.running)
        reply = await self.ask(asked, "CLUSTER", "SLOTS")
        assert isinstance(reply, dict | list)
        ranges = reply if isinstance(reply, list) else [[*span, value["primary"]] for span, value in reply.items()]
        for start, end, primary, *_ in ranges:
            if start <= slot <= end:
                return ports[int(primary[1])]
        raise AssertionError(f"nobody serves slot {slot}")

    async def stop(self) -> None:
        for node in self.nodes:
            if node.running:
                node.kill()
            await node.stop()


def _replicated(node: ServerProcess) -> int:
    found = re.search(rb"\n(?:slave|master)_repl_offset:(\d+)", node.ask(b"INFO replication"))
    assert found is not None
    return int(found[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
