"""Clusters: slots that move, nodes that join, and primaries that are replaced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from helix_fast.testing.servers import ServerProcess
from tests.support.cluster import ClusterProcess
from tests.support.journal import raw_log

from .arena import SESSIONS_GO_BACK, Arena
from .nemesis import Fault


class Moving(Arena):
    """Three primaries without replicas, whose slots move; nothing may be lost."""

    faults = {"slot moved": 4, "node added": 1, "connections cut": 2, "node stopped": 1}
    replicas = 0
    pause = 1.0

    async def start(self) -> None:
        self.cluster = ClusterProcess(self.directory, replicas=self.replicas, node_timeout=2000)
        await self.cluster.start()
        self._holders: dict[str, ServerProcess] = {}
        await self._find()

    async def url_for(self, program: str) -> str:
        return self.cluster.url

    async def _find(self) -> None:
        self._holders = {stream: await self.cluster.primary_for(stream) for stream in self.streams}

    def holder(self, stream: str) -> ServerProcess:
        return self._holders[stream]

    async def look(self, *servers: ServerProcess) -> None:
        await self._find()
        for stream, holder in self._holders.items():
            if not servers or holder in servers:
                self.logs[stream].append(await asyncio.to_thread(raw_log, holder, stream))

    async def primaries(self) -> list[ServerProcess]:
        """The running primaries, those without slots too."""
        return [
            node
            for node in self.cluster.nodes
            if node.running and b"role:master" in await asyncio.to_thread(node.ask, b"INFO replication")
        ]

    async def act(self, fault: Fault) -> None:
        dice = random.Random(fault.dice)
        primaries = await self.primaries()
        if fault.name == "slot moved":
            await self._move(dice.choice(self.ids()), dice, primaries)
        elif fault.name == "node added":
            if len(primaries) < 6:
                await self.cluster.add_primary()
        elif fault.name == "connections cut":
            dice.choice(primaries).ask(b"CLIENT KILL TYPE normal SKIPME yes")
        elif fault.name == "node stopped":
            node = dice.choice(primaries)
            node.pause()
            await asyncio.sleep(min(1.0, fault.lasts))  # shorter than the time after which the others vote
            node.resume()
            await self.cluster.settled()
        else:
            raise AssertionError(fault)

    def ids(self) -> Sequence[str]:
        """Whose slots move."""
        return (*self.streams, "shared", "locked", "used")

    async def _move(self, name: str, dice: random.Random, primaries: Sequence[ServerProcess]) -> None:
        slot = await self.cluster.slot_of(name)
        source = await self.cluster.primary_of(slot)
        others = [node for node in primaries if node is not source]
        if others:
            await self.cluster.move_slot(slot, source, dice.choice(others))

    async def stop(self) -> None:
        await self.cluster.stop()


class Cluster(Moving):
    """Three primaries with a replica each; the nemesis kills primaries, and lets replicas take over."""

    faults = {
        "primary killed": 3,
        "replica promoted": 2,
        "cut off and killed": 3,
        "slot moved": 2,
        "connections cut": 1,
    }
    replicas = 1
    may_lose = True
    allowed = SESSIONS_GO_BACK | {"locked twice"}

    async def act(self, fault: Fault) -> None:
        if fault.name not in {"primary killed", "replica promoted", "cut off and killed"}:
            await super().act(fault)
            return
        dice = random.Random(fault.dice)
        old = await self.cluster.primary_for(dice.choice(self.ids()))
        replica = await self.cluster.replica_of(old)
        if fault.name == "replica promoted":
            await self.cluster.ask(replica, "CLUSTER", "FAILOVER")
        else:
            if fault.name == "cut off and killed":
                await self.cluster.cut_off(old)
                await asyncio.sleep(fault.lasts)
            await self.look(old)
            old.kill()
        await self._taken_over(replica)
        if not old.running:
            await asyncio.sleep(fault.lasts / 2)
            await old.start()
        await self.cluster.settled()
        for node in self.cluster.nodes:
            await self._follows(node)

    async def _taken_over(self, replica: ServerProcess) -> None:
        for _ in range(1500):
            if b"role:master" in await asyncio.to_thread(replica.ask, b"INFO replication"):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the replica was not promoted")

    async def _follows(self, node: ServerProcess) -> None:
        for _ in range(3000):
            told = await asyncio.to_thread(node.ask, b"INFO replication")
            if b"role:master" in told or b"master_link_status:up" in told:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("a replica does not follow")


class ClusterWait(Cluster):
    """The same with ``wait_replicas=1``: nothing that is acknowledged may be lost."""

    may_lose = False
    allowed = frozenset()
    wait_replicas = 1
