"""The codec that this process uses: the compiled one, or its plain Python twin.

`HELIX_FAST_PURE=1` in the environment forces Python; so does an extension that was not built or does not load, which is
logged as a warning, once.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

ACCELERATED: bool
"""Whether the names here are those of the compiled codec."""

if TYPE_CHECKING:
    from helix_fast._codec import (
        AppendFramer,
        Batch,
        BatchBuilder,
        ChunkEncoder,
        FastAppend,
        Inbox,
        Items,
        Listeners,
        Outbox,
        Rollup,
        Sequencer,
        Window,
        Write,
        check_finite,
        count_frame,
        decode_texts,
        frame_command,
        heard_elsewhere,
        join_lines,
        merge_entries,
        number_chunks,
        parse_push,
        select_entries,
        split_lines,
    )
else:
    ACCELERATED = os.environ.get("HELIX_FAST_PURE") != "1"
    if ACCELERATED:
        try:
            import helix_fast._codec as _chosen
        except ImportError as why:
            ACCELERATED = False
            # Told here too: pip shows nothing of what a build that succeeds has to say.
            logging.getLogger("helix_fast").warning(
                "the compiled codec is missing (%s); the plain Python one is used, which is slower. To get it, "
                "install with a C compiler and the Python headers. HELIX_FAST_PURE=1 switches this warning off",
                why,
            )
    if not ACCELERATED:
        from .plain import wire as _chosen
    AppendFramer = _chosen.AppendFramer
    BatchBuilder = _chosen.BatchBuilder
    ChunkEncoder = _chosen.ChunkEncoder
    Inbox = _chosen.Inbox
    Items = _chosen.Items
    Listeners = _chosen.Listeners
    Outbox = _chosen.Outbox
    Rollup = _chosen.Rollup
    Batch = _chosen.Batch
    Sequencer = _chosen.Sequencer
    FastAppend = _chosen.FastAppend
    Window = _chosen.Window
    Write = _chosen.Write
    check_finite = _chosen.check_finite
    count_frame = _chosen.count_frame
    decode_texts = _chosen.decode_texts
    frame_command = _chosen.frame_command
    heard_elsewhere = _chosen.heard_elsewhere
    join_lines = _chosen.join_lines
    merge_entries = _chosen.merge_entries
    number_chunks = _chosen.number_chunks
    parse_push = _chosen.parse_push
    select_entries = _chosen.select_entries
    split_lines = _chosen.split_lines

__all__ = [
    "ACCELERATED",
    "AppendFramer",
    "Batch",
    "BatchBuilder",
    "ChunkEncoder",
    "FastAppend",
    "Inbox",
    "Items",
    "Listeners",
    "Outbox",
    "Rollup",
    "Sequencer",
    "Window",
    "Write",
    "check_finite",
    "count_frame",
    "decode_texts",
    "frame_command",
    "heard_elsewhere",
    "join_lines",
    "merge_entries",
    "number_chunks",
    "parse_push",
    "select_entries",
    "split_lines",
]
