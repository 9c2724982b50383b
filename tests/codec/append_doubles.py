"""Doubles of the lane, topology and presence, for tests of the fast path: each records its calls."""

from __future__ import annotations

from collections import deque
from types import ModuleType, SimpleNamespace
from typing import Any


class Waiting:
    """What an awaited write waits for."""

    def __init__(self, trace: list[Any]) -> None:
        self.trace = trace
        self.result: Any = None

    def done(self) -> bool:
        return self.result is not None

    def set_result(self, result: Any) -> None:
        self.result = result
        self.trace.append(("result", result))

    set_exception = set_result


class Lane:
    """Takes requests, and records when it is woken."""

    def __init__(self, codec: ModuleType, trace: list[Any]) -> None:
        self.outbox = codec.Outbox()
        self.closed = False
        self.next_generation = 0
        self.trace = trace

    def wake(self) -> None:
        self.trace.append("wake")
        self.outbox.scheduled = True


class Presence:
    """Has the local subscribers, and records the publishers to poll for."""

    def __init__(self, trace: list[Any]) -> None:
        self.local: dict[bytes, Any] = {}
        self.counts_unreliable = False
        self.subscribe_epoch = 0
        self.trace = trace

    def poll_later(self, publisher: Any) -> None:
        self.trace.append(("poll_later", publisher.stream_id, publisher.silent))

    def subscribe(self, *, counted: bool) -> None:
        def push_entry(entry: Any) -> None:
            self.trace.append(("push", entry.term, entry.first, entry.last, entry.body))

        self.local[b"c"] = SimpleNamespace(push_entry=push_entry, counted=counted)


class Topology:
    observer: Any = None

    def __init__(self, lane: Lane | None, trace: list[Any]) -> None:
        self.presence = Presence(trace)
        self.lane = lane
        self.moved = 0
        self.trace = trace
        self.refuses = False

    def lane_for(self, _tag: str) -> Lane | None:
        return self.lane

    def generation(self, _tag: str) -> int:
        return self.moved if self.lane is None else self.lane.next_generation

    def send(self, tag: str, frame: bytes, slot: Any, *, follow: bool) -> None:
        if self.refuses:
            raise RuntimeError("closed")
        self.trace.append(("send", tag, frame, slot is not None, follow))


class Buffer:
    """A write buffer that writes down when its open batch is closed."""

    def __init__(self, codec: ModuleType, trace: list[Any]) -> None:
        self.sequence = codec.Sequencer(7)
        self.open = codec.BatchBuilder()
        self.batches: deque[Any] = deque()
        self.flushes: deque[Any] = deque()
        self.in_flight: Any = None
        self.max_count = 3
        self.trace = trace

    def close_batch(self) -> None:
        self.trace.append("close_batch")
        self.open.take()
