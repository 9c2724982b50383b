"""The straight way of an awaited chunk: both codecs take the same steps, and leave it in the same places."""

from __future__ import annotations

from collections import deque
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, compared, examples, on_each_twin


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
    """Takes requests, and writes down when it is woken."""

    def __init__(self, codec: ModuleType, trace: list[Any]) -> None:
        self.outbox = codec.Outbox()
        self.closed = False
        self.next_generation = 0
        self.trace = trace

    def wake(self) -> None:
        self.trace.append("wake")
        self.outbox.scheduled = True


class Presence:
    """Has the subscribers of this process, and writes down which publishers are to be polled for."""

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


def appender_of(codec: ModuleType, *, lane: bool, max_length: int = 0, linger: float = 0.0) -> tuple[Any, list[Any]]:
    """An appender that writes down what it does not do itself, and its trace."""
    trace: list[Any] = []

    class Appender(codec.StraightAppender):  # type: ignore[name-defined,misc]
        def put_many(self, chunks: Any, original: object, owner: object) -> str:
            trace.append(("put_many", chunks, original, owner))
            return "many"

        def replied(self, reply: Any) -> None:
            trace.append(("replied", reply))

        def pause(self, error: Any) -> None:
            trace.append(("pause", str(error)))

        def pump(self) -> None:
            trace.append("pump")

        def seal(self) -> None:
            trace.append("seal")
            self.batch.take()

        def schedule(self) -> None:
            trace.append("schedule")
            self.scheduled = True

    topology = Topology(Lane(codec, trace) if lane else None, trace)
    appender = Appender(
        "s", topology, codec.AppendFramer(b"k", b"c"), SimpleNamespace(number=5), 7, b"abcd", max_length, 3, linger,
        lambda: Waiting(trace), lambda call, *args: trace.append(("soon", call.__name__, args)),
    )  # fmt: skip
    appender.queue, appender.flushes, appender.raised = deque(), deque(), SimpleNamespace(writes=[])
    return appender, trace


def state_of(appender: Any) -> tuple[Any, ...]:
    flight = appender.flight
    sealed = flight and (flight.body, flight.count, flight.first, flight.nonce, flight.sent, flight.writes == [])
    lane = appender.lane
    out = lane and (lane.outbox.frames, [slot is None for slot in lane.outbox.slots], lane.outbox.size)
    return (
        appender.busy, sealed, appender.sequence.last, appender.given, appender.settled, appender.batches,
        appender.trimmed, appender.collisions, appender.in_trouble, appender.trouble_since, appender.batch.size, out,
        appender.silent, appender.subscribers.present, appender.subscribers.pending, appender.subscribers.stale,
    )  # fmt: skip


REFUSED = ValueError("refused")
STEPS = [
    "put", "reply", "put", "reply", "error", "send_text", "taken", "moved", "linger", "dead", "raised", "queued",
    "flushed", "assisted", "observer", "observed", "closed", "refuses", "collided", "many", "published", "local",
    "polled", "unreliable", "catch_up", "assume", "epoch",
]  # fmt: skip


def step(codec: ModuleType, appender: Any, name: str, number: int) -> Any:
    if name == "put":
        write = appender.put(b"chunk%d" % number, "original", "owner")
        return write if isinstance(write, str) else (write.count, write.acked, write.fresh, write.original, write.owner)
    if name == "reply":
        return appender(b"5-%d" % number)
    if name == "error":
        return appender(REFUSED)
    if name == "send_text":
        return appender.send_text(codec.ChunkEncoder("a"), "x" * number * 5000, 1.5 + number)
    if name == "taken" and appender.lane:
        appender.lane.outbox.scheduled = False
        return appender.lane.outbox.clear()
    if name == "moved":
        appender.generation += number % 2
    elif name == "linger":
        appender.linger = float(number % 2)
    elif name == "dead":
        appender.dead = print if number % 2 else None
    elif name == "raised":
        appender.raised.writes = [1] * (number % 2)
    elif name == "queued":
        appender.queue = deque([1] * (number % 2))
    elif name == "flushed":
        appender.flushes = deque([1] * (number % 2))
    elif name == "assisted":
        appender.assisted_batches = number % 2
    elif name == "observer":
        appender.topology.observer = print if number % 2 else None
    elif name == "observed":
        appender.observed = print if number % 2 else None
    elif name == "closed" and appender.lane:
        appender.lane.closed = bool(number % 2)
    elif name == "published":
        return appender.subscribers(number % 3 if number < 8 else ValueError("no right to publish"))
    elif name == "catch_up":
        return appender.notify_catch_up()
    elif name == "epoch":
        appender.topology.presence.subscribe_epoch += 1
    elif name == "assume":
        appender.subscribers.assume_present()
    elif name == "polled":
        appender.silent = False
    elif name == "unreliable":
        appender.topology.presence.counts_unreliable = bool(number % 2)
    elif name == "local" and number < 3:
        appender.topology.presence.local.clear()
    elif name == "local":
        appender.topology.presence.subscribe(counted=bool(number % 2))
    elif name == "refuses":
        appender.topology.refuses = bool(number % 2)
    elif name == "collided":
        appender.collisions, appender.trouble_since, appender.in_trouble, appender.trims = 1, 2.0, True, number
    elif name == "many" and appender.flight is None:
        appender.flight, appender.busy = codec.Sealed(b"a\nb", 2, [], b"abcd0009"), True
    return None


def outcome(codec: ModuleType, appender: Any, name: str, number: int) -> Any:
    try:
        return step(codec, appender, name, number)
    except Exception as error:
        return type(error).__name__


@compared
@examples
@given(
    program=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=40),
    lane=st.booleans(),
    max_length=st.sampled_from([0, 75]),
)
def test_both_codecs_take_the_same_steps(program, lane, max_length) -> None:
    sides = [(codec, *appender_of(codec, lane=lane, max_length=max_length)) for codec in TWINS]
    for name, number in program:
        answers = [outcome(codec, appender, name, number) for codec, appender, _trace in sides]
        assert answers[0] == answers[1]
        assert state_of(sides[0][1]) == state_of(sides[1][1])
        assert sides[0][2] == sides[1][2]


@on_each_twin
def test_a_chunk_goes_out_with_the_next_sequence_and_is_published_once_it_is_stored(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    write = appender.put(b"{}", "original", "owner")
    outbox = appender.lane.outbox
    framer = codec.AppendFramer(b"k", b"c")
    assert trace == ["wake"]
    assert outbox.frames == [framer.xadd(5, 8, 1, b"{}", b"abcd0001")]
    assert outbox.slots[0] is appender
    assert appender.put(b"[]", None, None) == "many"  # one batch is in flight at a time
    assert not write.future.done()
    appender(b"5-8")
    assert (write.future.result, appender.sequence.last, appender.settled) == (8, 8, 1)
    assert outbox.frames[1:] == [framer.publish(5, 8, 8, b"{}")]
    assert outbox.slots[1:] == [appender.subscribers]


@on_each_twin
def test_without_remote_subscribers_nothing_is_published_and_the_server_is_polled_once(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    framer, frames = codec.AppendFramer(b"k", b"c"), appender.lane.outbox.frames
    appender.announce(1, 2, b"[]")
    assert frames == [framer.publish(5, 1, 2, b"[]")]
    appender.subscribers(0)
    appender.announce(3, 4, b"[]")
    appender.announce(5, 6, b"[]")
    appender.subscribers(ValueError("no"))
    appender.announce(7, 7, b"[]")
    assert frames == [framer.publish(5, 1, 2, b"[]")]
    assert trace == ["wake", ("poll_later", "s", True)]
    appender.silent = False
    appender.announce(8, 8, b"[]")
    assert trace[2:] == [("poll_later", "s", True)]
    appender.subscribers(1)
    appender.announce(9, 9, b"[]")
    appender.notify_catch_up()
    assert frames[1:] == [framer.publish(5, 9, 9, b"[]"), framer.catch_up_frame]
    assert framer.catch_up_frame == codec.frame_command([b"PUBLISH", b"c", b"!"])


@on_each_twin
def test_readers_of_this_process_get_what_is_stored_and_do_not_count_as_remote(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    presence = appender.topology.presence
    presence.subscribe(counted=True)
    appender.subscribers(1)
    appender.put(b"{}", None, None)
    appender(b"5-8")
    # The writer goes on after them.
    assert trace == ["wake", ("push", 5, 8, 8, b"{}"), ("poll_later", "s", True), ("soon", "settle", (1, 8))]
    assert len(appender.lane.outbox.frames) == 1
    appender.subscribers(2)
    assert appender.subscribers.present
    presence.subscribe(counted=False)  # the server does not count it yet: its one subscriber is another
    appender.subscribers(1)
    assert appender.subscribers.present
    presence.counts_unreliable = True
    appender.subscribers(0)
    assert appender.subscribers.present


@on_each_twin
def test_a_refusal_is_left_to_the_appender_and_keeps_the_batch(codec) -> None:
    appender, trace = appender_of(codec, lane=False)
    appender.put(b"{}", "original", "owner")
    refusal = ValueError("no")
    appender(refusal)
    assert trace[-1] == ("replied", refusal)
    assert (appender.flight.body, appender.flight.first, appender.busy, appender.sequence.last) == (b"{}", 8, True, 7)
    appender.flight = None
    appender(b"5-8")  # closed meanwhile
    assert trace[-1] == ("replied", refusal)


@on_each_twin
def test_a_frame_that_cannot_be_made_leaves_nobody_waiting(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    appender.terms.number = -1
    appender.put(b"{}", "original", "owner")
    assert trace[-1][0] == "pause"
    appender, trace = appender_of(codec, lane=True)
    write = appender.put(b"{}", "original", "owner")
    appender.terms.number = -1
    with pytest.raises(OverflowError):
        appender(b"5-8")
    assert (write.future.result, appender.busy, appender.flight) == (8, False, None)


@on_each_twin
@pytest.mark.parametrize("frame", [None, "text", bytearray(b"x")])
def test_an_outbox_takes_bytes(codec, frame) -> None:
    outbox = codec.Outbox()
    with pytest.raises(TypeError):
        outbox.add(frame, None)
    assert (outbox.frames, outbox.slots, outbox.size, outbox.requests) == ([], [], 0, 0)
    assert outbox.add(b"abc", print) is True
    outbox.scheduled = True
    assert outbox.add(b"de", None) is False
    assert (outbox.frames, outbox.slots, outbox.size, outbox.requests) == ([b"abc", b"de"], [print, None], 5, 2)
    outbox.clear()
    assert (outbox.frames, outbox.slots, outbox.size, outbox.requests) == ([], [], 0, 2)


@on_each_twin
def test_counts_from_before_a_subscriber_came_mean_nothing(codec) -> None:
    appender, _trace = appender_of(codec, lane=True)
    remote = appender.subscribers
    for sequence in (1, 2):
        appender.announce(sequence, sequence, b"{}")
    remote.assume_present()
    appender.notify_catch_up()
    remote(0)
    remote(ValueError("no"))
    assert remote.present
    assert (remote.pending, remote.stale) == (1, 0)
    remote(0)  # the reply to the word to catch up: the subscriber has left
    assert not remote.present


@on_each_twin
def test_a_count_from_about_the_time_when_this_process_was_counted_means_nothing(codec) -> None:
    appender, _trace = appender_of(codec, lane=True)
    remote, presence = appender.subscribers, appender.topology.presence
    for sequence in (1, 2, 3):
        appender.announce(sequence, sequence, b"{}")
    presence.subscribe(counted=True)
    presence.subscribe_epoch += 1
    remote(1)  # another process, and this one was not counted yet; or this process
    remote(1)
    assert remote.present
    remote(1)
    assert remote.present
    appender.announce(4, 4, b"{}")
    remote(1)  # asked after that: this process alone
    assert not remote.present
