"""The programs at work: each is a process of its own, forked by a server of forks, with a journal. Killed at will.

A program that was killed begins again in another incarnation, with the journal of the one before.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import NamedTuple

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.errors import HelixError, StoreError

from .calls import Calls
from .journal import Journal, records

BOUND = 60.0
"""Seconds: no call may take longer, whatever the nemesis does meanwhile; its own faults last a few seconds each."""
RETRY = 5.0


class Order(NamedTuple):
    """What a program gets.

    Attributes:
        ids: of the streams or sessions. directory: of journals, and of the file `stop`.
        kept: chunks that a stream keeps; None: all. slow: readers rest for seconds between two pages.
    """

    kind: str
    name: str
    url: str
    ids: tuple[str, ...]
    directory: str
    seed: int
    wait_replicas: int = 0
    network_of: int = 0
    kept: int | None = None
    slow: bool = False

    @property
    def closing(self) -> Path:
        """The file that is there when all writers have ended."""
        return Path(self.directory, "closing")

    @property
    def journal(self) -> Path:
        return Path(self.directory, f"{self.name}.journal")


class Program:
    """What all programs share."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.before = records(order.journal)
        self.incarnation = sum(record["what"] == "begin" for record in self.before)
        self.journal = Journal(order.journal)
        self.journal.write("begin", pid=os.getpid())
        self.calls = Calls(self.journal, BOUND)
        self.dice = random.Random(f"{order.seed} {order.name} {self.incarnation}")
        self._stop = Path(order.directory, "stop")

    @property
    def stopping(self) -> bool:
        """Whether all faults are over, and this turn is the last."""
        return self._stop.exists()

    def failed(self, error: HelixError, name: str) -> None:
        """A call about this id raised."""
        self.journal.write("failed", sync=False, id=name, code=error.code, text=str(error))

    def connect(self) -> Helix:
        return connect(
            self.order.url, timeout=1.0, retry_timeout=RETRY, wait_replicas=self.order.wait_replicas,
            streams={"max_stream_length": self.order.kept, "block_timeout": 500, "loss_memory_s": 600},
        )  # fmt: skip

    async def connected(self) -> Helix:
        """Connect, as soon as there is a server."""
        while True:
            helix = self.connect()
            try:
                return await self.calls.wait("connect", helix._open())
            except StoreError as error:
                self.failed(error, "connect")
                await asyncio.sleep(0.1)
