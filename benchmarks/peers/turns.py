"""Runs each load in turns with ours. A client that is not installed, or whose interface has changed, is reported and
left out; each is used as its documentation recommends for speed."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import statistics
from collections.abc import AsyncIterator, Callable

from benchmarks.measure import Size, timed_run
from benchmarks.probe import Probe
from benchmarks.results import Peer
from helix_fast.embedded import EmbeddedServer

from .model import OURS, Arena, Entrant, Load, Turn
from .relay import RELAY, RESUME
from .writes import WRITES


@contextlib.asynccontextmanager
async def open_arena(size: Size) -> AsyncIterator[Arena]:
    """A server on a unix socket and a TCP port: not every client has both."""
    port = free_port()
    async with EmbeddedServer(options={"port": str(port), "bind": "127.0.0.1"}) as server:
        probe = Probe(server.socket_path)
        try:
            tcp = f"redis://127.0.0.1:{port}"
            yield Arena(size, server.url, tcp, port, server.socket_path, probe)
        finally:
            probe.close()


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def take_load(load: Load, arena: Arena, say: Callable[[str], None]) -> list[Peer]:
    """Run all entrants in turns; the ratio is the median over the turns."""
    rates: dict[str, list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        turns: dict[str, Turn] = {}
        for entrant in load.entrants:
            if importlib.util.find_spec(entrant.module) is None:
                say(f"{entrant.name} is not installed")
                continue
            try:
                turns[entrant.name] = await stack.enter_async_context(entrant.enter(arena))
            except Exception as error:
                # Another version of a peer, with another interface, must not cost the run.
                leave_out(entrant.name, error, turns, say)
        # One turn to warm up, as the measures have; the short runs have time for one turn only.
        turns_taken = arena.size.pick(arena.size.runs, 1, 1)
        for run in range(0 if arena.size.full else 1, turns_taken + 1):
            for name in list(turns):
                turn = turns[name]
                try:
                    rate = await timed_run(lambda turn=turn, prefix=f"{name}-{run}": turn(prefix))  # type: ignore[misc]
                except Exception as error:
                    leave_out(name, error, turns, say)
                    continue
                if run:
                    rates.setdefault(name, []).append(rate)
        arena.probe.flush()
    return [peer_of(load, entrant, rates) for entrant in load.entrants if entrant.name in turns]


def leave_out(name: str, error: Exception, turns: dict[str, Turn], say: Callable[[str], None]) -> None:
    """Report a failed peer and leave it out. A failure of ours fails the benchmark."""
    if name.startswith(OURS):
        raise error
    turns.pop(name, None)
    say(f"{name} left out: {type(error).__name__}: {error}")


def peer_of(load: Load, entrant: Entrant, rates: dict[str, list[float]]) -> Peer:
    """The medians of the runs."""
    mine, theirs = rates[entrant.rival], rates[entrant.name]
    return Peer(
        load=load.what,
        name=entrant.name,
        value=statistics.median(theirs),
        unit=load.unit,
        ratio=statistics.median(ours / other for ours, other in zip(mine, theirs, strict=True)),
        runs=theirs,
        note=entrant.note,
    )


async def take_peers(size: Size, say: Callable[[str], None]) -> list[Peer]:
    """Run all loads."""
    found: list[Peer] = []
    async with open_arena(size) as arena:
        for load in (WRITES, RELAY, RESUME):
            found += await take_load(load, arena, say)
            say(f"peers: {load.what}")
    return found
