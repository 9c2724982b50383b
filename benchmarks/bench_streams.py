"""Streams: P1, P2, P3, P4, P10, P11, P15, P16, P20, P21, P22."""

from __future__ import annotations

from .elsewhere import ReadElsewhere
from .fan_out import FanOut
from .producers import ManyProducers
from .stream_reads import LiveLatency, StoredReads
from .stream_sealed import SealedMemory
from .stream_writes import LongTexts, ManyWriters, OneWriter, OpenStreamsCost, StoredMemory
from .under_pytest import benchmark_of

MEASURES = (
    OneWriter,
    ManyWriters,
    StoredReads,
    LiveLatency,
    ReadElsewhere,
    OpenStreamsCost,
    StoredMemory,
    SealedMemory,
    LongTexts,
    FanOut,
    ManyProducers,
)
test_streams = benchmark_of(*MEASURES)
