"""What a load of several clients is: a server, and for each client what it does in one turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks.measure import Size
from benchmarks.probe import Probe

OURS = "helix-fast"
Turn = Callable[[str], Awaitable[float]]
"""One turn of a load, on keys of this prefix; returns its rate, and has checked what it did."""


@dataclass
class Arena:
    """The server that all entrants use in turns."""

    size: Size
    url: str
    tcp_url: str
    port: int
    socket_path: str
    probe: Probe


@dataclass(frozen=True)
class Entrant:
    """A client that runs a load.

    Attributes:
        module: what must be installed.
        enter: opens its connections, and returns the function of one turn.
        rival: our entrant with the same transport to the server.
        note: what differs in its work.
    """

    name: str
    module: str
    enter: Callable[[Arena], AbstractAsyncContextManager[Turn]]
    rival: str = OURS
    note: str = ""


@dataclass(frozen=True)
class Load:
    """The same work for all entrants; the first are ours."""

    what: str
    unit: str
    entrants: tuple[Entrant, ...]
