"""Lease renewal: one background task renews the leases and TTLs of a manager's writers, and reads their stop flags."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Final

from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.index import Index
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.binding import cancel

from .appender import Appender
from .entries import typed

_RENEW: Final = script("streams", "stream_renew")
LONGEST_SLEEP: Final = 60.0


class LeaseRenewer:
    """The background task. It runs while there are writers with a lease or a TTL.

    A lease is renewed after a third of it, a TTL after a tenth. Each renewal is a task of its own: one that waits for a
    node of a cluster that is down must not keep the others back.

    Args:
        requests: the manager's.
        ttl: of the manager's streams, in seconds; 0: none.
        index: of the streams; one that lives longer is listed longer.
        report: gets the errors of renewals.
    """

    def __init__(self, requests: Requests, ttl: int, index: Index, report: Callable[[HelixError], None]) -> None:
        self._requests = requests
        self._ttl = ttl
        self._index = index
        self._report = report
        self._due: dict[Appender, float] = {}
        self._renewals: dict[Appender, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()  # of the event loop that runs the task
        self._next = 0.0

    @cached_property
    def producer(self) -> bytes:
        """The manager's name among the holders of a lease. Made on first use, as the process may fork before."""
        return secrets.token_urlsafe(3).encode()

    def add(self, appender: Appender) -> None:
        """Renew for an appender from now on; call it again after a change of its lease."""
        interval = self._interval(appender)
        if interval is not None:
            at = self._due[appender] = asyncio.get_running_loop().time() + interval
            self._start()
            if at < self._next:
                self._wake.set()

    async def remove(self, appender: Appender) -> None:
        """Stop renewing for an appender. Afterwards no renewal is under way that would take up its lease again."""
        self._due.pop(appender, None)
        if self._under_way(appender):
            await asyncio.wait([self._renewals[appender]])

    def renew_now(self, appender: Appender) -> None:
        """Renew for an appender at once, because a stop request may have been missed."""
        self._due[appender] = 0.0
        self._start()  # without a lease and a TTL it is not running
        self._wake.set()

    def _start(self) -> None:
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(), name="helix_fast lease renewal")

    def _under_way(self, appender: Appender) -> bool:
        renewal = self._renewals.get(appender)
        return renewal is not None and not renewal.done() and not renewal.get_loop().is_closed()

    async def renew(self, appender: Appender) -> None:
        """Renew the lease and the TTLs of one stream, and pass a stop flag on to its writers.

        Where the connection is a new one, or the stream's term another, the appender looks what became of the stream.
        """
        try:
            term = appender.terms.key
            renewed = await self._renew(appender)
            current = appender.generation == self._requests.topology.generation(appender.stream_id)
            if appender.alive and not (renewed and current):
                checked = appender.check()
                if checked is not None:
                    await asyncio.wait([checked])
                if appender.terms.key != term:
                    await self._renew(appender)
        finally:
            self._renewals.pop(appender, None)
            if self._due.get(appender, math.inf) < self._next:
                self._wake.set()

    async def _renew(self, appender: Appender) -> bool:
        """Whether the server has renewed them, or need not: a closed writer gives its lease up."""
        keys, index = appender.keys, self._index
        lists = bool(self._ttl) and not index.lists(appender.stream_id)

        def check_open() -> None:
            if not appender.alive:
                raise StoreClosedError("the writer was closed")

        try:
            reply = await self._requests.run(
                _RENEW,
                appender.stream_id,
                (keys.stream, keys.meta, keys.lease, index.key_beside(keys.stream, appender.stream_id, lists=lists)),
                (self.producer, appender.terms.current, appender.lease_ms, self._ttl),
                before_attempt=check_open,  # a repetition must not come after the lease was given up
            )
        except StoreClosedError:
            return True
        except HelixError as error:
            self._report(typed(keys.stream, error))
            return False
        if reply and lists:
            await index.listed(appender.stream_id)
        if reply and reply[0] == b"1":
            appender.stop(reply[1].decode(errors="replace"))
        return bool(reply)

    def _interval(self, appender: Appender) -> float | None:
        waits = [appender.lease_ms / 3000] if appender.lease_ms else []
        if self._ttl:
            waits.append(self._ttl / 10)
        return min(waits) if waits else None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            now = loop.time()
            for appender in [each for each, at in self._due.items() if at <= now and not self._under_way(each)]:
                interval = self._interval(appender)
                if not appender.alive or interval is None:
                    self._due.pop(appender, None)
                else:
                    self._due[appender] = now + interval
                if appender.alive:  # without an interval too: renew_now wants it once
                    self._renewals[appender] = loop.create_task(
                        self.renew(appender), name=f"renew lease {appender.stream_id}"
                    )
            if not self._due:
                break
            self._wake.clear()
            self._next = min((at for each, at in self._due.items() if not self._under_way(each)), default=math.inf)
            sleep = max(0.0, min(LONGEST_SLEEP, self._next - loop.time()))
            try:
                await asyncio.wait_for(self._wake.wait(), sleep)
            except asyncio.TimeoutError:
                continue

    async def close(self) -> None:
        """Stop the task, and the renewals under way."""
        self._due.clear()
        task, self._task = self._task, None
        await cancel(task, *self._renewals.values())
