"""A cluster whose slots are moved by hand, and whose nodes are cut off; the rest: `helix_fast.testing.cluster`."""

from __future__ import annotations

import asyncio
import re

from helix_fast.testing.cluster import SLOTS, ServerCluster
from helix_fast.testing.servers import ServerProcess

__all__ = ["SLOTS", "ClusterProcess"]


class ClusterProcess(ServerCluster):
    """A cluster to be hurt."""

    async def add_primary(self) -> ServerProcess:
        """A new primary without slots."""
        node = await self._add()
        await self._introduce(node)
        await self._until_known(node)
        await self.settled()
        return node

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


def _replicated(node: ServerProcess) -> int:
    found = re.search(rb"\n(?:slave|master)_repl_offset:(\d+)", node.ask(b"INFO replication"))
    assert found is not None
    return int(found[1])
