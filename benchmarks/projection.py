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
# What a million sessions cost: assumptions, each of which a reader can replace.
SESSIONS: Final = 1_000_000
CHUNKS_A_SESSION: Final = 2_000  # four answers of 500 tokens
KEPT_SECONDS: Final = 86_400
MONTH_SECONDS: Final = 30 * 86_400
PEAK: Final = 4.0  # the busiest hour against the mean
CORE_MONTH: Final = 25.0  # US dollars
GIGABYTE_MONTH: Final = 4.0  # of memory
READER_CPU: Final = "CPU a chunk of the process that reads"
MONTHLY: Final = f"""\
- A session is {CHUNKS_A_SESSION:,} chunks, kept for a day. A million of them a month, spread over its days; the busiest
  hour has {PEAK:g} times the mean, and cores are bought for it, used to {HEADROOM:.0%}. Memory is for a day's sessions.
- A core costs {CORE_MONTH:g} US dollars a month, a GB of memory {GIGABYTE_MONTH:g}: prices of no provider in
  particular.
- One entry a token is the baseline of P2 (pydantic and redis-py: CPU) and of P11 (memory); without replicas, each."""
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


LOADS: Final = (
    ("P2", "written"),
    ("P4", "written and read live"),
    ("P15", "written and read live in another process"),
)


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
    """What acknowledged writes (P2) were seen to cost, and those read live here (P4) and in another process (P15)."""
    found = []
    for key, what in LOADS:
        result = results.measures.get(key)
        if result is None:
            continue
        values = {part.what: part.value for part in result.also}
        if {SERVER_CPU, CLIENT_CPU, BYTES} <= set(values):
            rate = result.ours if key == "P2" else values["chunks/s that were really written"]
            client = values[CLIENT_CPU] + values.get(READER_CPU, 0.0)
            found.append(Cost(what, values[SERVER_CPU], client, values[BYTES], rate))
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


class Monthly(NamedTuple):
    """A million sessions a month: cores of servers and of clients, GB of memory, and dollars."""

    what: str
    servers: float
    clients: float
    gigabytes: float

    @property
    def dollars(self) -> float:
        """A month."""
        return (self.servers + self.clients) * CORE_MONTH + self.gigabytes * GIGABYTE_MONTH


def monthly(what: str, server: float, client: float, stored: float) -> Monthly:
    """From µs of CPU and stored bytes a chunk."""
    rate = SESSIONS * CHUNKS_A_SESSION / MONTH_SECONDS
    cores = rate * PEAK / HEADROOM / 1e6
    return Monthly(what, cores * server, cores * client, rate * KEPT_SECONDS * stored / 1e9)


def monthly_rows(results: Results) -> list[Monthly]:
    """Ours, ours with sealed streams, and one entry a token; as far as the run has their measures."""
    written, stored, sealed = (results.measures.get(key) for key in ("P2", "P11", "P16"))
    if written is None or stored is None:
        return []
    values = {part.what: part.value for part in written.also}
    names = [(name, name.replace(", ours", ", baseline")) for name in (SERVER_CPU, CLIENT_CPU)]
    if not all(name in values for pair in names for name in pair):
        return []
    (server, their_server), (client, their_client) = ((values[ours], values[theirs]) for ours, theirs in names)
    rows = [monthly("one entry a token", their_server, their_client, stored.baseline)]
    rows.append(monthly("helix-fast", server, client, stored.ours))
    if sealed is not None:
        rows.append(monthly("helix-fast, sealed after the end", server, client, sealed.ours))
    return rows


def monthly_table(results: Results) -> Rows:
    """A row for each way to store; none where a run lacks the measures."""
    rows = monthly_rows(results)
    lines: Rows = [("a million sessions a month", "server cores", "client cores", "GB", "dollars a month")]
    for row in rows:
        lines.append((row.what, *map(number, (row.servers, row.clients, row.gigabytes, row.dollars))))
    return lines if rows else []


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
    costs = monthly_table(results)
    if costs:
        sys.stdout.write("\n" + align(costs) + "\n\n" + MONTHLY + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
