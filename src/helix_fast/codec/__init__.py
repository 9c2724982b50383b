"""The codec that this process uses: the compiled one, or its plain Python twin.

`HELIX_FAST_PURE=1` in the environment forces Python; so does an extension that was not built or does not load, which is
logged as a warning, once. The contract of all names is the stub, `_codec.pyi`.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helix_fast._codec import *  # noqa: F403

__all__ = [  # noqa: F405
    "ACCELERATED",
    "MAX_BATCH_BYTES",
    "AppendFramer",
    "Batch",
    "BatchBuilder",
    "ChunkEncoder",
    "ChunkIterator",
    "FastAppend",
    "Outbox",
    "PushBuffer",
    "RemoteSubscribers",
    "ReplyCutter",
    "Rollup",
    "Sequencer",
    "StreamEntry",
    "StringArray",
    "Window",
    "Write",
    "check_finite",
    "decode_texts",
    "deliver_messages",
    "frame_command",
    "frame_deltas",
    "frame_events",
    "iterate_but_last",
    "join_lines",
    "load_entry",
    "merge_entries",
    "merge_page",
    "number_chunks",
    "parse_push",
    "push_entry",
    "push_payload",
    "select_entries",
    "split_lines",
]

_chosen = None
if os.environ.get("HELIX_FAST_PURE") != "1":
    try:
        _chosen = import_module("helix_fast._codec")
    except ImportError as _why:
        # Logged here too: pip hides the output of a build that succeeds.
        logging.getLogger("helix_fast").warning(
            "the compiled codec is missing (%s); the plain Python one is used, which is slower. To get it, "
            "install with a C compiler and the Python headers. HELIX_FAST_PURE=1 switches this warning off",
            _why,
        )
ACCELERATED = _chosen is not None
"""Whether the names here are those of the compiled codec."""

_chosen = _chosen or import_module("helix_fast.codec.plain")
globals().update({name: getattr(_chosen, name) for name in __all__ if name != "ACCELERATED"})
