"""The servers of a run, what the nemesis can do to them, and what they promise: the interface, and one server."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from helix_fast.testing.servers import ServerProcess
from tests.support.journal import raw_log

from .check_streams import Log
from .links import FAULTS, Links
from .nemesis import Fault

CREW: Mapping[str, int] = {"producer": 2, "reader": 2, "talker": 2, "recorder": 2, "auditor": 1, "holder": 2}
SESSIONS_GO_BACK = frozenset({"message lost in silence", "version went back"})
"""Counted, not judged: a lost version is reported, but not where others have written as many since, or have created the
session anew, which looks like a deletion by another process: see docs/promises.md."""


class Arena:
    """Servers. ``logs``: of each stream, as it was before each loss that the nemesis brought about.

    Attributes:
        faults: of the servers, each with how often it comes; see ``act``.
        link_faults: of the links.
        may_lose: whether acknowledged data may be lost, where it is said.
        allowed: broken promises that docs/promises.md excepts.
        wait_replicas: of the programs.
        pause: seconds between two faults of the servers, on average.
        crew: how many programs of each kind there are.
        kept: chunks that a stream keeps; None: all.
        slow: readers rest for seconds between two pages.
        seals: the streams are sealed at the end, while the server is killed and readers are in the middle.
    """

    faults: ClassVar[Mapping[str, int]] = {}
    link_faults: ClassVar[Mapping[str, int]] = {}
    may_lose: ClassVar[bool] = False
    allowed: ClassVar[frozenset[str]] = frozenset()
    wait_replicas: ClassVar[int] = 0
    pause: ClassVar[float] = 2.0
    crew: ClassVar[Mapping[str, int]] = CREW
    kept: ClassVar[int | None] = None
    slow: ClassVar[bool] = False
    seals: ClassVar[bool] = False

    def __init__(self, directory: Path, streams: tuple[str, ...]) -> None:
        self.directory = directory
        self.streams = streams
        self.logs: dict[str, list[Log]] = defaultdict(list)

    @classmethod
    def missing(cls) -> str:
        """What this machine lacks for it; empty: nothing."""
        return ""

    async def start(self) -> None:
        """Start everything."""

    async def url_for(self, program: str) -> str:
        """What a program connects to."""
        raise NotImplementedError

    def network_of(self, program: str) -> int:
        """A process whose network namespace the program joins; 0: it stays in ours."""
        return 0

    async def act(self, fault: Fault) -> None:
        """Do it, and heal it after a while."""
        raise NotImplementedError

    async def hurt_links(self, fault: Fault) -> None:
        """Do it to the links, and heal them after a while."""
        raise NotImplementedError

    async def heal(self) -> None:
        """All is as in the beginning, but for the data."""

    async def stop(self) -> None:
        """Stop everything."""

    def holder(self, stream: str) -> ServerProcess:
        """The server that has a stream now."""
        raise NotImplementedError

    async def look(self, *servers: ServerProcess) -> None:
        """Keep the logs as they are now, on these servers or on those that have them."""
        for stream in self.streams:
            for server in servers or (self.holder(stream),):
                self.logs[stream].append(await asyncio.to_thread(raw_log, server, stream))


class Alone(Arena):
    """One server, and a link to it for each program."""

    link_faults = FAULTS
    options: ClassVar[Mapping[str, str]] = {}

    async def start(self) -> None:
        self.server = self.make_server()
        await self.server.start()
        self.links = Links(self.server.url)

    def make_server(self) -> ServerProcess:
        """The server, not started yet."""
        return ServerProcess(self.directory, options=self.options)

    async def url_for(self, program: str) -> str:
        return await self.links.url_for(program)

    def holder(self, stream: str) -> ServerProcess:
        return self.server

    async def act(self, fault: Fault) -> None:
        if fault.name == "server stopped":
            self.server.pause()
            await asyncio.sleep(fault.lasts)
            self.server.resume()
        elif fault.name == "server killed":
            if self.may_lose:
                await self.look()
            await self.die(fault)
            await self.server.start()
        else:
            raise AssertionError(fault)

    async def die(self, fault: Fault) -> None:
        """Kill the server, and let some time pass."""
        self.server.kill()
        await asyncio.sleep(fault.lasts / 4)

    async def hurt_links(self, fault: Fault) -> None:
        await self.links.act(fault)

    async def heal(self) -> None:
        await self.links.heal()
        if self.server.running:
            self.server.resume()
        else:
            await self.server.start()

    async def stop(self) -> None:
        await self.links.stop()
        await self.server.stop()


class Always(Alone):
    """An append-only file, synced with each write."""

    faults = {"server killed": 3, "server stopped": 2}
    options = {"appendonly": "yes", "appendfsync": "always"}


class Trimmed(Always):
    """Streams that keep few chunks, and readers that are slower than their writers: what they miss is reported."""

    kept = 50
    slow = True


class Sealed(Always):
    """Streams whose logs are rewritten at the end under slow readers, by a server that is killed meanwhile."""

    slow = seals = True


class Runs(Always):
    """Runs of agents, whose workers are killed and stopped, and replaced by others."""

    crew = {"runner": 3}


class EverySecond(Always):
    """An append-only file, synced each second. While a sync takes long, the server answers before it has written."""

    options = {"appendonly": "yes", "appendfsync": "everysec"}
    may_lose = True
    allowed = SESSIONS_GO_BACK | {"locked twice"}


class Snapshots(Alone):
    """Snapshots, of which the nemesis makes one now and then, and takes an older one after a kill.

    ``branches``: it may take one of a history that was left, so that what was reported as lost comes back.
    """

    faults = {"snapshot": 4, "older snapshot": 4, "server stopped": 1}
    options = {"dbfilename": "dump.rdb"}
    may_lose = True
    # The lock is lost with the rest, and is given again.
    allowed = SESSIONS_GO_BACK | {"locked twice"}
    branches: ClassVar[bool] = False

    async def start(self) -> None:
        await super().start()
        self._kept: list[Path] = []

    async def _save(self) -> None:
        reply = await asyncio.to_thread(self.server.ask, b"SAVE", timeout=30)
        assert reply == b"+OK\r\n", reply
        self._kept.append(self.directory / f"kept{len(self._kept)}.rdb")
        shutil.copyfile(self.directory / "dump.rdb", self._kept[-1])

    async def act(self, fault: Fault) -> None:
        if fault.name == "snapshot":
            await self._save()
        elif fault.name == "older snapshot":
            if not self._kept:
                await self._save()
            await self.look()
            await self.die(fault)
            older = random.Random(fault.dice).choice(self._kept[-2:])
            shutil.copyfile(older, self.directory / "dump.rdb")
            if not self.branches:
                del self._kept[self._kept.index(older) + 1 :]
            await self.server.start()
        elif fault.name == "restarted empty":
            await self.look()
            await self.die(fault)
            (self.directory / "dump.rdb").unlink(missing_ok=True)
            await self.server.start()
        else:
            await super().act(fault)


class Branches(Snapshots):
    """Snapshots of all histories, and none at all: the server comes back empty, and later with what it had before."""

    faults = {"snapshot": 3, "older snapshot": 3, "restarted empty": 1}
    allowed = Snapshots.allowed | {"reported, not lost"}
    branches = True


class Empty(Snapshots):
    """No persistence at all: a restart is an empty server."""

    faults = {"restarted empty": 2, "server stopped": 1}
