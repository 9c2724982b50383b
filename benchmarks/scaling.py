"""One process and a cluster: whether keys spread evenly, and whether it talks to all nodes at once.

The load is that of P2. On the two or four cores of one machine three nodes cannot be faster than one: client and nodes
share them. What a chunk costs the client and the nodes together is what must not grow.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.testing.cluster import ServerCluster

from .measure import Size, check
from .payloads import HEADLINE
from .probe import Probe
from .stream_loads import check_last, close_and_delete, open_writers, write_each

NODES: Final = 3
SLICE_SECONDS: Final = 0.05
# A node that was only asked by the watcher, or pinged by the others, has fewer commands in a slice.
BUSY: Final = 20


class NodeShare(msgspec.Struct):
    """What one node had of the load."""

    chunks: int
    server_cpu_us: float
    connections: int


class ScalingPoint(msgspec.Struct):
    """The load on so many nodes. CPU a chunk is of all nodes together; ``busy_together`` is the share of slices of 50
    ms in which every node had commands to do."""

    nodes: int
    chunks_per_second: float
    server_cpu_us: float
    client_cpu_us: float
    busy_together: float
    shares: list[NodeShare]


class Watcher:
    """Counts the commands of every node, slice by slice, in a thread of its own."""

    def __init__(self, ports: list[int]) -> None:
        self._probes = [Probe(port=port) for port in ports]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._counts: list[list[int]] = []

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        for probe in self._probes:
            probe.close()

    def _watch(self) -> None:
        while True:
            over = self._over.wait(SLICE_SECONDS if self._counts else 0)
            self._counts.append([int(probe.info("stats")["total_commands_processed"]) for probe in self._probes])
            if over:
                return

    def busy_together(self) -> float:
        """The share of slices in which all had something to do."""
        slices = list(zip(self._counts, self._counts[1:], strict=False))
        together = sum(
            all(later - earlier >= BUSY for earlier, later in zip(first, second, strict=True))
            for first, second in slices
        )
        return together / max(1, len(slices))


class Side:
    """A cluster of so many nodes, and one process's connections to it."""

    def __init__(self, cluster: ServerCluster, helix: Helix, size: Size) -> None:
        self._helix = helix
        self._ports = [node.port for node in cluster.nodes]
        self._probes = [Probe(port=port) for port in self._ports]
        self._streams = size.pick(1_000, 500, 30)
        self._each = size.pick(400, 40, 5)  # seconds: many slices
        self._serial = 0
        self.points: list[ScalingPoint] = []

    async def run(self) -> None:
        """One turn."""
        gc.collect()
        self._serial += 1
        names = [f"n{self._serial}-{number}" for number in range(self._streams)]
        writers = await open_writers(self._helix.streams, names)
        chunks = self._streams * self._each
        servers = [probe.cpu_seconds() for probe in self._probes]
        with Watcher(self._ports) as watcher:
            client, began = time.process_time(), time.perf_counter()
            await asyncio.gather(*(write_each(writer, self._each, HEADLINE) for writer in writers))
            seconds, client = time.perf_counter() - began, time.process_time() - client
        used = [probe.cpu_seconds() - before for probe, before in zip(self._probes, servers, strict=True)]
        await check_last(self._helix.streams, names, self._each)
        shares = [
            NodeShare(stored_chunks(probe), cpu / chunks * 1e6, probe.connections())
            for probe, cpu in zip(self._probes, used, strict=True)
        ]
        check(sum(share.chunks for share in shares), chunks, "chunks on all nodes")
        await close_and_delete(self._helix.streams, names, writers)
        together = watcher.busy_together()
        rate, server, client = chunks / seconds, sum(used) / chunks * 1e6, client / chunks * 1e6
        self.points.append(ScalingPoint(len(shares), rate, server, client, together, shares))

    def close(self) -> None:
        """Close the probes."""
        for probe in self._probes:
            probe.close()

    def middle(self) -> ScalingPoint:
        """The turn whose rate is the median, with the medians of the CPU."""
        ordered = sorted(self.points, key=lambda point: point.chunks_per_second)
        found = ordered[len(ordered) // 2]
        found.server_cpu_us = statistics.median(point.server_cpu_us for point in self.points)
        found.client_cpu_us = statistics.median(point.client_cpu_us for point in self.points)
        return found


def stored_chunks(probe: Probe) -> int:
    """Chunks on a node: each was awaited alone and is an entry; the entry that opens a stream is none."""
    keys: list[Any] = probe.keys("helix:stream:{*}")
    return probe.lengths(keys) - len(keys)


async def measure_scaling(size: Size) -> list[ScalingPoint]:
    """One node and three, in turns."""
    with tempfile.TemporaryDirectory(prefix="hf-") as room:
        clusters, sides, opened = [], [], []
        try:
            for nodes in (1, NODES):
                directory = Path(room) / str(nodes)
                directory.mkdir()
                cluster = ServerCluster(directory, primaries=nodes)
                clusters.append(cluster)
                await cluster.start()
                helix = await connect(cluster.url)
                opened.append(helix)
                sides.append(Side(cluster, helix, size))
            for run in range(size.runs + 1):
                for side in sides:
                    await side.run()
                    if run == 0:
                        side.points.clear()
            return [side.middle() for side in sides]
        finally:
            for side in sides:
                side.close()
            for helix in opened:
                await helix.close()
            for cluster in clusters:
                await cluster.stop()
