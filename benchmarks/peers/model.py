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
    """The server that all take turns on."""

    size: Size
    url: str
    tcp_url: str
    port: int
    socket_path: str
    probe: Probe


@dataclass(frozen=True)
class Entrant:
    """Who does a load, and how.

    Attributes:
        module: what must be installed.
        enter: opens its connections, and gives what does one turn.
        rival: the name of ours that goes the same way to the server.
        note: what is not the same work.
    """

    name: str
    module: str
    enter: Callable[[Arena], AbstractAsyncContextManager[Turn]]
    rival: str = OURS
    note: str = ""


@dataclass(frozen=True)
class Load:
    """The same work for all of them; the first entrants are ours."""

    what: str
    unit: str
    entrants: tuple[Entrant, ...]
