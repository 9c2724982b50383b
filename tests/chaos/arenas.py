"""All topologies, by the names that ``--only`` takes."""

from __future__ import annotations

from .arena import Always, Arena, Branches, Empty, EverySecond, Runs, Sealed, Snapshots, Trimmed
from .conditions import Evicting, Full, Skewed, SkewedSnapshots
from .failover import Replicated, Sentinels
from .networked import Networked, NetworkedWait
from .sharded import Cluster, ClusterWait, Moving

ARENAS: dict[str, type[Arena]] = {
    "always": Always,
    "everysec": EverySecond,
    "snapshot": Snapshots,
    "branches": Branches,
    "empty": Empty,
    "full": Full,
    "evict": Evicting,
    "trim": Trimmed,
    "seal": Sealed,
    "runs": Runs,
    "clock": Skewed,
    "clock-snapshot": SkewedSnapshots,
    "sentinel": Sentinels,
    "sentinel-wait": Replicated,
    "moves": Moving,
    "cluster": Cluster,
    "cluster-wait": ClusterWait,
    "network": Networked,
    "network-wait": NetworkedWait,
}
