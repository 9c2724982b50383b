"""The links between programs and a server: a proxy for each program, and what the nemesis does to it."""

from __future__ import annotations

import asyncio
import random

from tests.support.proxy import REPLY, REQUEST, FaultProxy

from .nemesis import Fault

FAULTS = {
    "cut": 3,
    "cut after bytes": 4,
    "each link cut": 2,
    "half-open": 3,
    "stalled": 2,
    "refused": 1,
    "delayed": 2,
}


class Links:
    """Proxies to one server, by name of the program that goes through each."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._proxies: dict[str, FaultProxy] = {}

    async def url_for(self, name: str) -> str:
        if name not in self._proxies:
            self._proxies[name] = proxy = FaultProxy(self._target)
            await proxy.start()
        return self._proxies[name].url

    async def act(self, fault: Fault) -> None:
        """Hurt one link, or all, and heal them after a while."""
        dice = random.Random(fault.dice)
        names = sorted(self._proxies)
        chosen = [self._proxies[name] for name in (names if dice.random() < 0.3 else dice.sample(names, 1))]
        direction, count = dice.choice((REQUEST, REPLY)), int(2 ** dice.uniform(0, 14))
        for proxy in chosen:
            if fault.name == "cut":
                proxy.cut_all()
            elif fault.name == "cut after bytes":
                (proxy.cut_after_request_bytes if direction == REQUEST else proxy.cut_after_reply_bytes)(count)
            elif fault.name == "each link cut":
                proxy.cut_each_connection(direction, count + 2000)
                proxy.cut_all()
            elif fault.name == "half-open":
                proxy.drop_replies()
            elif fault.name == "stalled":
                proxy.stall()
            elif fault.name == "refused":
                proxy.refuse()
                proxy.cut_all()
            elif fault.name == "delayed":
                proxy.delay = dice.uniform(0.01, 0.3)
        await asyncio.sleep(fault.lasts)
        for proxy in chosen:
            await self._heal(proxy, cut=fault.name == "half-open")

    async def _heal(self, proxy: FaultProxy, *, cut: bool) -> None:
        proxy.heal()
        if cut:
            proxy.cut_all()  # what was dropped left a hole in the replies
        if not proxy.listening:
            await proxy.start()

    async def heal(self) -> None:
        for proxy in self._proxies.values():
            await self._heal(proxy, cut=False)

    async def stop(self) -> None:
        for proxy in self._proxies.values():
            await proxy.stop()
