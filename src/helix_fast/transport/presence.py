"""Who hears the channels that this process publishes on: listeners in it, and anyone elsewhere.

What is stored is handed to the process's own listeners without a detour by the server. Where nobody else listens,
nothing need be published, so publishers fall silent. Our readers say when they come; for all others the server is asked
now and then, once for all publishers, how many subscriptions there are. Whoever came is told to look into the log,
where everything is that was not published.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from helix_fast import codec
from helix_fast.errors import HelixError, StoreResponseError

if TYPE_CHECKING:
    from .hub import Channel
    from .topology import Topology

ASK_SECONDS: Final = 5.0
"""How long somebody who did not say that he came may wait for a first chunk, where a stream had no listeners."""
MAX_ASKED: Final = 1000
"""Channels of one question: the server does nothing else meanwhile."""


class Audience:
    """See the module. One for each topology, used from its event loop.

    Attributes:
        here: the channels that listeners of this process hear, or are about to.
        changes: how often the server has begun to count this process among the listeners of a channel.
        blind: counts of the server mean nothing, or it gives none: then everything is published.
        name: tells this process's readers from others.
        ask_seconds: how long publishers are silent before they are asked for.
    """

    def __init__(self, topology: Topology) -> None:
        self.here: dict[bytes, Channel] = {}
        self.blind = False
        self.changes = 0
        self.ask_seconds = ASK_SECONDS
        self.name = secrets.token_urlsafe(6).encode()
        self._topology = topology
        self._silent: list[codec.FastAppend] = []
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, publisher: codec.FastAppend) -> None:
        """Have the server asked whether somebody hears a publisher that is silent."""
        self._silent.append(publisher)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.ask_seconds, self._ask)

    def joined(self, publisher: codec.FastAppend, name: bytes) -> None:
        """A reader of the process of that name has joined a publisher's channel."""
        if name != self.name:
            told = publisher.listeners.elsewhere
            publisher.listeners.come()
            if not told:
                _look(publisher)

    def doubt(self, publishers: Iterable[codec.FastAppend]) -> None:
        """Readers may have come unheard: ask for all of these at once that are not published."""
        self._silent += [one for one in publishers if not one.listeners.elsewhere]
        if self._timer is not None:
            self._timer.cancel()
        self._ask()

    def _taken(self) -> list[codec.FastAppend]:
        self._timer = None
        silent, self._silent = self._silent, []
        return silent

    def _ask(self) -> None:
        topology = self._topology
        silent = self._taken()
        word = b"SHARDNUMSUB" if topology.publish == b"SPUBLISH" else b"NUMSUB"
        by_server: dict[str, list[codec.FastAppend]] = {}
        if hasattr(topology, "lane"):  # one for everything
            by_server[""] = silent
        else:
            for publisher in silent:
                by_server.setdefault(topology.server(publisher.stream_id), []).append(publisher)
        for publishers in by_server.values():
            for start in range(0, len(publishers), MAX_ASKED):
                part = publishers[start : start + MAX_ASKED]
                frame = codec.count_frame(word, part)
                if self.blind:
                    _tell(part)
                    continue
                with contextlib.suppress(HelixError):  # closed: whoever listens finds out by itself
                    topology.send(part[0].stream_id, frame, partial(self._answered, part, self.changes))

    def _answered(self, part: list[codec.FastAppend], changes: int, reply: Any) -> None:
        # Where this process was counted anew meanwhile, the numbers may be from before that or from after it.
        if isinstance(reply, list) and changes == self.changes:
            _tell(codec.heard_elsewhere(part, reply))
            return
        if isinstance(reply, StoreResponseError) and reply.server_code in {"ERR", "NOPERM"}:
            self.blind = True  # no such command, or no right to ask: the next question would end in the same way
        _tell(part)

    async def close(self) -> None:
        """Ask no more; whoever may have come is told to look while there is still a connection."""
        if self._timer is not None:
            self._timer.cancel()
            _tell(self._taken())
            await asyncio.sleep(0)  # on the next turn of the event loop that leaves


def _tell(publishers: list[codec.FastAppend]) -> None:
    for publisher in publishers:
        publisher.listeners.come()
        _look(publisher)


def _look(publisher: codec.FastAppend) -> None:
    with contextlib.suppress(HelixError):  # closed meanwhile
        publisher.look()
