"""On paper: what more cores and more nodes carry, from the CPU and the bytes a chunk was measured to take.

``python -m benchmarks.projection [results.json]``. Nothing here was measured on such machines; what is assumed stands
in ``ASSUMPTIONS`` and beside the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .results import Results, ResultsFileError, load
from .table import Rows, align, number

CLIENT_CPU: Final = "client CPU a chunk, ours"
SERVER_CPU: Final = "server CPU a chunk (INFO cpu), ours"
BYTES: Final = "bytes to and from the server a chunk, ours"
# Of a core that a server or a client may use: above it, waiting grows faster than work.
HEADROOM: Final = 0.7
CORES: Final = 16
# For the kernel's network work and other processes.
SYSTEM_CORES: Final = 1
NODES: Final = 12
STREAMS: Final = 100_000
PACE: Final = 20
ASSUMPTIONS: Final = f"""\
- CPU and bytes a chunk stay what they were at {{rate}} on {{cores}} cores of this machine ({{cpu}}). Busier ones
  make larger batches and a chunk cheaper, so this errs to the low side; a network in place of a socket makes it dearer,
  on both sides. Live reads were measured with the timers of 1 000 writers in the same process: they are on its bill.
- A server runs its commands in one thread, so a node is one core; a client process is one core, too. No I/O threads.
- Servers and clients are used to {HEADROOM:.0%}. On the machine of {CORES} cores {SYSTEM_CORES} is left to the system;
  the others are shared out so that neither side waits for the other.
- Of {NODES} nodes the busiest decides. {STREAMS:,} streams are spread by hash slot as chance has it, so it has
  {{imbalance:.1%}} more than the mean. Every node has a core to itself, and clients run on others, as many as it takes.
- No replicas, no persistence: with `wait_replicas` or an append-only file the server's part grows.
- An agent writes {PACE} chunks a second."""


class Cost(NamedTuple):
    """Of a chunk: µs of CPU on server and client, bytes in and out; and at which rate this was seen."""

    what: str
    server: float
    client: float
    bytes: float
    rate: float


class Carried(NamedTuple):
    """What a set of machines carries."""

    where: str
    servers: int
    clients: int
    rate: float


def costs_of(results: Results) -> list[Cost]:
    """What P2 (acknowledged writes) and P4 (with a live reader for each stream) were seen to cost."""
    found = []
    for key, what in (("P2", "written"), ("P4", "written and read live")):
        result = results.measures.get(key)
        if result is None:
            continue
        values = {part.what: part.value for part in result.also}
        if {SERVER_CPU, CLIENT_CPU, BYTES} <= set(values):
            rate = result.ours if key == "P2" else values["chunks/s that were really written"]
            found.append(Cost(what, values[SERVER_CPU], values[CLIENT_CPU], values[BYTES], rate))
    return found


def imbalance(streams: int, nodes: int) -> float:
    """How much more than the mean the busiest of ``nodes`` is expected to have, as a share of the mean.

    Streams fall on nodes by chance: their number on one is nearly normal with variance ``streams / nodes``, and the
    largest of ``nodes`` such numbers lies about sqrt(2 ln nodes) deviations above the mean.
    """
    return math.sqrt(2 * math.log(nodes) / (streams / nodes)) if nodes > 1 else 0.0


def one_machine(cost: Cost, cores: int = CORES) -> Carried:
    """The best way to share out its cores: some for nodes of a cluster on this machine, the others for clients."""
    usable = cores - SYSTEM_CORES
    best = max(
        range(1, usable),
        key=lambda servers: min(servers / cost.server, (usable - servers) / cost.client),
    )
    rate = HEADROOM * 1e6 * min(best / cost.server, (usable - best) / cost.client)
    return Carried(f"one machine of {cores} cores", best, usable - best, rate)


def cluster(cost: Cost, nodes: int = NODES) -> Carried:
    """Nodes of one core each, and as many clients as they can serve."""
    rate = HEADROOM * 1e6 * nodes / cost.server / (1 + imbalance(STREAMS, nodes))
    return Carried(f"{nodes} nodes", nodes, math.ceil(rate * cost.client / 1e6 / HEADROOM), rate)


def projection_table(results: Results) -> Rows:
    """A row for each kind of load and place; none where a run lacks the measures."""
    head = ("a chunk is", "server µs", "client µs", "bytes", "on", "servers", "client cores")
    lines: Rows = [(*head, "chunks/s", f"agents at {PACE}/s", "Gbit/s")]
    for cost in costs_of(results):
        for carried in (one_machine(cost), cluster(cost)):
            seen = (cost.what, *map(number, (cost.server, cost.client, cost.bytes)))
            placed = (carried.where, str(carried.servers), str(carried.clients))
            gigabits = number(carried.rate * cost.bytes * 8 / 1e9)
            lines.append((*seen, *placed, number(carried.rate), number(carried.rate / PACE), gigabits))
    return lines if len(lines) > 1 else []


def assumptions(results: Results) -> str:
    """The assumptions with the numbers of the run."""
    machine, costs = results.machine, costs_of(results)
    return ASSUMPTIONS.format(
        rate=" and ".join(f"{cost.rate:,.0f} chunks/s ({cost.what})" for cost in costs),
        cores=machine.get("cores"),
        cpu=machine.get("cpu"),
        imbalance=imbalance(STREAMS, NODES),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the assumptions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.projection")
    parser.add_argument("results", type=Path, nargs="?", default=Path(__file__).parent / "results.json")
    options = parser.parse_args(arguments)
    try:
        results = load(options.results)
    except ResultsFileError as error:
        sys.stderr.write(f"projection: {error}\n")
        return 2
    table = projection_table(results)
    if not table:
        sys.stderr.write("projection: the run has neither P2 nor P4\n")
        return 2
    sys.stdout.write(align(table) + "\n\n" + assumptions(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
