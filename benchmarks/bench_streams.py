"""Streams: P1, P2, P3, P4, P10, P11, P16, P20."""

from __future__ import annotations

from .stream_reads import LiveLatency, StoredReads
from .stream_sealed import SealedMemory
from .stream_writes import LongTexts, ManyWriters, OneWriter, OpenStreamsCost, StoredMemory
from .under_pytest import benchmark_of

MEASURES = (OneWriter, ManyWriters, StoredReads, LiveLatency, OpenStreamsCost, StoredMemory, SealedMemory, LongTexts)
test_streams = benchmark_of(*MEASURES)
