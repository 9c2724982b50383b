"""What is to be reached: the one table, which docs/performance.md explains."""

from __future__ import annotations

from typing import Final

from .measure import Reach

TARGETS: Final[dict[str, tuple[float, Reach]]] = {
    "P1": (2.5, "at least"),
    "P2": (25.0, "at least"),
    "P3": (10.0, "at least"),
    "P4": (2.0, "at most"),
    "P5": (0.9, "at least"),
    "P6": (1.1, "at most"),
    "P7": (0.3, "at most"),
    "P8": (0.9, "at least"),
    "P9": (4.5, "at least"),
    "P9-decode": (2.5, "at least"),
    "P10": (1.2, "at most"),
    "P11": (0.7, "at most"),
    "P12": (1.2, "at most"),
    "P13": (15.0, "at least"),
    "P14": (0.25, "at most"),
    "P15": (2.5, "at most"),
    "P16": (0.25, "at most"),
    "P18": (3.0, "at least"),
    "P19": (1.3, "at most"),
    "P20": (1.0, "at least"),
    "P21": (5.0, "at most"),
    "P22": (1.15, "at most"),
}
"""By measure: the ratio, and on which side of it one should be."""
SAVERS: Final[dict[str, tuple[float, Reach]]] = {
    "postgres, 1 thread": (3.0, "at least"),
    "postgres, many": (6.0, "at least"),
    "memory": (0.5, "at least"),
    "bytes": (1.1, "at most"),
}
"""P17: LangGraph's checkpointers, measured by ``make bench-langgraph``."""
SERVER_CPU_US: Final = 2.0
"""P2: CPU of the server for a chunk, at most."""
CONNECTIONS: Final = 3
"""P4: at most."""
WARM_ROLLUP_MS: Final = 1.0
"""P5: with 100 new entries, at most."""
SAVE_BYTES: Final = 4096
"""P7: on the wire, at most; the ratio is to this."""
SAVE_MICROS: Final = 2000.0
"""P7: a save, at most."""
PREBUILT_SHARE: Final = 0.7
"""P13: of an ASGI app that sends the same bytes prebuilt, at least."""
PREBUILT_LATENCY: Final = 2.0
"""P14: times the p99 of such an app, at most."""
