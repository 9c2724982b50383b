"""All topologies, by the names that ``--only`` takes."""

from __future__ import annotations

from .arena import Always, Arena, Branches, Empty, EverySecond, Snapshots
from .failover import Replicated, Sentinels
from .sharded import Cluster, ClusterWait, Moving

ARENAS: dict[str, type[Arena]] = {
    "always": Always,
    "everysec": EverySecond,
    "snapshot": Snapshots,
    "branches": Branches,
    "empty": Empty,
    "sentinel": Sentinels,
    "sentinel-wait": Replicated,
    "moves": Moving,
    "cluster": Cluster,
    "cluster-wait": ClusterWait,
}
