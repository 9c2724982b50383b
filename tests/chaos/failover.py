"""Servers that fail over: a primary and its replicas under Sentinels."""

from __future__ import annotations

import asyncio
import random

from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.sentinel import SentinelSet, role

from .arena import SESSIONS_GO_BACK, Arena
from .nemesis import Fault


class Sentinels(Arena):
    """A primary, a replica and three Sentinels; the nemesis kills, stops and cuts off whichever is the primary."""

    faults = {"cut off": 3, "primary killed": 3, "primary stopped": 2, "connections cut": 2, "replica stopped": 1}
    may_lose = True
    # Two primaries serve for a while, and each gives the lock once.
    allowed = SESSIONS_GO_BACK | {"locked twice"}
    pause = 1.5

    async def start(self) -> None:
        self.watched = SentinelSet(self.directory, replicas=1, users=True, down_after=500)
        await self.watched.start()

    async def url_for(self, program: str) -> str:
        return self.watched.url

    def holder(self, stream: str) -> ServerProcess:
        return self.watched.primary()

    async def act(self, fault: Fault) -> None:
        old = self.watched.primary()
        if fault.name == "connections cut":
            old.ask(b"CLIENT KILL TYPE normal SKIPME yes")
        elif fault.name == "replica stopped":
            replica = next(server for server in self.watched.servers if server is not old)
            replica.pause()
            await asyncio.sleep(fault.lasts)
            replica.resume()
            await self._replicated()
        else:
            await self._replace(old, fault)

    async def _replace(self, old: ServerProcess, fault: Fault) -> None:
        """Let the Sentinels promote another one, and make the old primary its replica."""
        dice = random.Random(fault.dice)
        if fault.name == "cut off":
            self.watched.cut_off(old)
        elif fault.name == "primary killed":
            await self.look(old)
            old.kill()
        else:
            old.pause()
        await self.watched.promoted(old)
        if fault.name == "cut off":
            await asyncio.sleep(dice.uniform(0, 2) * fault.lasts)
            await self.look(old)
            old.ask(b"ACL SETUSER following on")
            old.ask(b"ACL SETUSER default +ping +info +role")
        elif fault.name == "primary killed":
            await asyncio.sleep(fault.lasts / 2)
            await old.start()
            self.watched.let_in(old)
        else:
            old.resume()
            await self.look(old)
        await self._replicated()

    async def _replicated(self) -> None:
        """Wait until there is one primary, and a replica that follows it: before, a failover may lose anything."""

        def follows() -> bool:
            servers = self.watched.servers
            roles = sorted(role(server) for server in servers)
            return roles == ["master", "slave"] and all(
                b"master_link_status:up" in server.ask(b"INFO replication")
                for server in servers
                if role(server) == "slave"
            )

        await until(follows, seconds=60, what="a replica that follows")

    async def stop(self) -> None:
        await self.watched.stop()


class Replicated(Sentinels):
    """The same, with ``wait_replicas=1``: nothing that is acknowledged may be lost, nor a lock given twice."""

    may_lose = False
    allowed = frozenset()
    wait_replicas = 1
