"""Looks after the open writers of a manager: renews leases and TTLs, and learns of requests to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from helix_fast.errors import HelixError
from helix_fast.lua import script
from helix_fast.store import RedisStore

from .appender import Appender

_RENEW: Final = script("streams", "stream_renew")
LONGEST_SLEEP: Final = 60.0


class Keeper:
    """One background task for all writers of a manager, running while there are any.

    A lease is renewed when a third of it has passed, a TTL when a tenth has. A process that hears on the control
    channel that it may have missed something asks for all its streams at once (``check_all``).
    """

    def __init__(self, store: RedisStore, producer: bytes, ttl: int, report: Callable[[HelixError], None]) -> None:
        self._store = store
        self._producer = producer
        self._ttl = ttl
        self._report = report
        self._due: dict[Appender, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._next = 0.0

    def add(self, appender: Appender) -> None:
        """Care for an appender; call again when its lease changed."""
        interval = self._interval(appender)
        if interval is not None:
            at = self._due[appender] = asyncio.get_running_loop().time() + interval
            if at < self._next:
                self._wake.set()
            self._start()

    def remove(self, appender: Appender) -> None:
        """Care for it no longer."""
        self._due.pop(appender, None)

    def hurry(self, appender: Appender) -> None:
        """Look after it at once: a request to stop may have been missed."""
        self._due[appender] = 0.0
        self._wake.set()
        self._start()  # without leases and TTLs it does not run

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="helix_fast stream keeper")

    async def check(self, appender: Appender) -> None:
        """Renew one writer's lease and TTLs now."""
        keys = appender.keys
        try:
            reply = await self._store.run(
                _RENEW,
                appender.stream_id,
                (keys.stream, keys.meta, keys.lease),
                (self._producer, appender.terms.current, appender.lease_ms, self._ttl),
            )
        except HelixError as error:
            self._report(error)
            return
        if reply and reply[0] == b"1":
            appender.stop(reply[1].decode())

    def _interval(self, appender: Appender) -> float | None:
        waits = [appender.lease_ms / 3000] if appender.lease_ms else []
        if self._ttl:
            waits.append(self._ttl / 10)
        return min(waits) if waits else None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            now = loop.time()
            due = [appender for appender, at in self._due.items() if at <= now]
            for appender in due:
                interval = self._interval(appender)
                if appender.closed or interval is None:
                    self._due.pop(appender, None)
                else:
                    self._due[appender] = now + interval
            if due:
                await asyncio.gather(*(self.check(appender) for appender in due if not appender.closed))
            if not self._due:
                break
            self._wake.clear()
            self._next = min(self._due.values())
            sleep = max(0.0, min(LONGEST_SLEEP, self._next - loop.time()))
            try:
                await asyncio.wait_for(self._wake.wait(), sleep)
            except asyncio.TimeoutError:
                continue

    async def close(self) -> None:
        """Stop the task."""
        self._due.clear()
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
