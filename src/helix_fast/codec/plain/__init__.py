"""The codec in plain Python: the oracle of the tests, and the fallback where nothing compiles.

Its files have the stems of `compiled/`. Without a counterpart here: `escape` (two expressions in `encode`), and `scan`,
`shape` and `entry`, by which the compiled rollup reads an entry without an object for each value (here: `rollup`).
`sums` is the part of `rollup` that both use. Only this module knows all names; the others import what they need.
"""

from .append import MAX_BATCH_BYTES, Batch, FastAppend, Outbox, Write
from .decode import decode_texts, iterate_but_last, merge_entries, number_chunks
from .encode import BatchBuilder, ChunkEncoder
from .events import frame_deltas, frame_events
from .finite import check_finite
from .frame import AppendFramer, frame_command, parse_push
from .lines import join_lines, split_lines
from .reader import ChunkIterator, PushBuffer, StreamEntry
from .replies import ReplyCutter, StringArray, merge_page
from .rollup import Rollup, load_entry, select_entries
from .sequence import Sequencer, Window
from .subscribers import RemoteSubscribers, deliver_messages, push_entry, push_payload

__all__ = [
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
