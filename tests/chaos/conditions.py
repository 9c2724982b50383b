"""One server under odd conditions: full, evicting, or with a clock that jumps."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from pathlib import Path

from helix_fast.testing.servers import ServerProcess

from .arena import SESSIONS_GO_BACK, Alone, Always, Snapshots
from .nemesis import Fault

FARTHEST = 11
"""A clock jumps by up to two to the power of this seconds."""


def clock_library() -> Path | None:
    """libfaketime, by which a program gets another clock; from the package of that name, or from the system's."""
    found = importlib.util.find_spec("libfaketime")
    places = (
        [Path(each, "vendor/libfaketime/src") for each in (found.submodule_search_locations or ())] if found else []
    )
    for place in (*places, *Path("/usr/lib").glob("*/faketime")):
        if (place / "libfaketime.so.1").exists():
            return place / "libfaketime.so.1"
    return None


class SkewedServer(ServerProcess):
    """A server whose wall clock is off by what a file says; its monotonic clock is the machine's."""

    @property
    def _offset(self) -> Path:
        return self.directory / "clock"

    def command(self) -> list[str]:
        return [
            "env",
            f"LD_PRELOAD={clock_library()}",
            f"FAKETIME_TIMESTAMP_FILE={self._offset}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *super().command(),
        ]

    def step_to(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the machine's, or behind it."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(f"{seconds:+.3f}")
        fresh.rename(self._offset)  # the server never reads half of it


class Skewed(Alone):
    """A server with an append-only file whose clock jumps by up to half an hour."""

    faults = {"clock ahead": 3, "clock back": 3, "clock right": 2, "server killed": 2}
    options = Always.options
    # Where the clock jumps ahead, the lock expires under its holder, and the server forgets which requests it has seen.
    allowed = frozenset({"locked twice", "message twice"})

    def make_server(self) -> ServerProcess:
        server = SkewedServer(self.directory, options=self.options)
        server.step_to(0)
        return server

    @classmethod
    def missing(cls) -> str:
        return "" if clock_library() else "libfaketime is missing: pip install libfaketime"

    async def act(self, fault: Fault) -> None:
        assert isinstance(self.server, SkewedServer)
        distance = 2 ** random.Random(fault.dice).uniform(-3, FARTHEST)
        if fault.name == "clock ahead":
            self.server.step_to(distance)
        elif fault.name == "clock back":
            self.server.step_to(-distance)
        elif fault.name == "clock right":
            self.server.step_to(0)
        else:
            await super().act(fault)

    async def heal(self) -> None:
        """In the end the time is later than any that was shown: a token from the future holds nobody up for ever."""
        assert isinstance(self.server, SkewedServer)
        self.server.step_to(2**FARTHEST)
        await super().heal()


class SkewedSnapshots(Snapshots, Skewed):
    """Both: older snapshots, and a clock that jumps. A lost counter of a lock's tokens starts from the clock again."""

    faults = {"clock ahead": 3, "clock back": 3, "snapshot": 3, "older snapshot": 3}
    allowed = Snapshots.allowed | Skewed.allowed | {"token went back", "stale write"}


class Full(Alone):
    """A server that has no memory left for a while, and refuses writes."""

    faults = {"full": 4, "server killed": 1}
    options = Always.options

    async def act(self, fault: Fault) -> None:
        if fault.name != "full":
            await super().act(fault)
            return
        self.server.ask(b"CONFIG SET maxmemory 1")
        await asyncio.sleep(fault.lasts * 2)
        self.server.ask(b"CONFIG SET maxmemory 0")


class Evicting(Alone):
    """A server that throws away some of its keys now and then, and says nothing."""

    faults = {"evicted": 4, "server killed": 1}
    options = {**Always.options, "maxmemory-policy": "allkeys-lru"}
    may_lose = True
    # docs/promises.md: what is noticed is reported, the rest is silent; so is what a repetition would be known by.
    allowed = SESSIONS_GO_BACK | {
        "lost in silence", "locked twice", "token went back", "stale write", "sum is wrong", "entry twice",
        "message twice", "malformed session",
    }  # fmt: skip

    async def act(self, fault: Fault) -> None:
        if fault.name != "evicted":
            await super().act(fault)
            return
        await self.look()
        told = await asyncio.to_thread(self.server.ask, b"INFO memory")
        used = int(told.partition(b"used_memory:")[2].split()[0])
        limit = used - 2 ** random.Random(fault.dice).uniform(10, 18)
        self.server.ask(b"CONFIG SET maxmemory %d" % limit)
        await asyncio.sleep(fault.lasts / 4)
        self.server.ask(b"CONFIG SET maxmemory 0")

    async def heal(self) -> None:
        await super().heal()
        self.server.ask(b"CONFIG SET maxmemory 0")
