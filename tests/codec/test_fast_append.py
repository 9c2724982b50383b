"""The fast path of an awaited chunk: both codecs take the same steps, and leave it in the same places."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.codec.states import State
from tests.codec.append_doubles import Buffer, Lane, Topology, Waiting
from tests.codec.twins import TWINS, compared, on_each_twin


class ElsewhereError(Exception):
    """Another event loop runs."""


def appender_of(codec: ModuleType, *, lane: bool, max_length: int = 0, linger: float = 0.0) -> tuple[Any, list[Any]]:
    """An appender that writes down what it does not do itself, and its trace."""
    trace: list[Any] = []

    class Appender(codec.FastAppend):  # type: ignore[name-defined,misc]
        def put_many(self, chunks: Any, original: object, owner: object) -> str:
            trace.append(("put_many", chunks, original, owner))
            return "many"

        def replied(self, reply: Any) -> None:
            trace.append(("replied", reply))

        def suspend(self, error: Any) -> None:
            trace.append(("suspend", str(error)))
            self.state = State.SUSPENDED

        def schedule(self, delay: float) -> None:
            trace.append(("schedule", delay, self.state))

        def check_loop(self) -> None:
            if appender.elsewhere:
                raise ElsewhereError

        def check_open(self) -> None:
            raise REFUSED

    topology = Topology(Lane(codec, trace) if lane else None, trace)
    appender = Appender(
        "s", topology, codec.AppendFramer(b"k", b"c"), SimpleNamespace(current=5), Buffer(codec, trace), b"abcd",
        max_length, linger, lambda: Waiting(trace), lambda call, *args: trace.append(("soon", call.__name__, args)),
        lambda: appender.loop_over,
    )  # fmt: skip
    appender.failed = SimpleNamespace(writes=[])
    appender.loop_over = appender.elsewhere = False
    return appender, trace


def state_of(appender: Any) -> tuple[Any, ...]:
    flight = appender.single or appender._buffer.in_flight  # not by `buffer`, which would change the path
    batch = flight and (flight.body, flight.count, flight.first, flight.nonce, flight.sent, flight.writes == [])
    lane = appender.lane
    outbox = lane and lane.outbox
    out = lane and (outbox.frames, [slot is None for slot in outbox.slots], outbox.size, len(outbox.ready))
    return (
        appender.state, appender.closed, batch, appender.sequence.last, appender.numbered, appender.trimmed,
        appender.trouble, appender.open.size, out, appender.silent, appender.subscribers.present,
        appender.subscribers.pending, appender.subscribers.stale,
    )  # fmt: skip


REFUSED = ValueError("refused")
STEPS = [
    "put", "reply", "put", "reply", "error", "send_text", "taken", "moved", "linger", "state", "failed", "queued",
    "flushed", "assisted", "observer", "observed", "closed", "refuses", "trouble", "many", "advance", "handed over",
    "counted", "local", "polled", "counts_unreliable", "catch up", "joined", "changed", "elsewhere", "loop over",
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
        appender.lane.outbox.clear()
        return len(appender.lane.outbox.take_ready())
    if name == "moved":
        appender.generation += number % 2
    elif name == "linger":
        appender.linger = float(number % 2)
    elif name == "state" and not (appender.single or appender._buffer.in_flight):
        appender.state = [State.IDLE, State.SUSPENDED, State.READY, State.RECOVERING, State.CLOSED][number % 5]
    elif name == "failed":
        appender.failed.writes = [1] * (number % 2)
    elif name == "queued":
        appender.buffer.batches.extend([1] * (number % 2) or appender.buffer.batches.clear() or [])
    elif name == "flushed":
        appender.flushes.extend([1] * (number % 2) or appender.flushes.clear() or [])
    elif name == "advance" and not (appender.single or appender._buffer.in_flight):
        appender.advance()
    elif name == "assisted":
        appender.assisted_batches = number % 2
    elif name == "observer":
        appender.topology.observer = print if number % 2 else None
    elif name == "observed":
        appender.observed = print if number % 2 else None
    elif name == "closed" and appender.lane:
        appender.lane.closed = bool(number % 2)
    elif name == "counted":
        return appender.subscribers(number % 3 if number < 8 else ValueError("no right to publish"))
    elif name == "catch up":
        return appender.notify_catch_up()
    elif name == "changed":
        appender.topology.presence.subscribe_epoch += 1
    elif name == "joined":
        appender.subscribers.assume_present()
    elif name == "polled":
        appender.silent = False
    elif name == "counts_unreliable":
        appender.topology.presence.counts_unreliable = bool(number % 2)
    elif name == "local" and number < 3:
        appender.topology.presence.local.clear()
    elif name == "local":
        appender.topology.presence.subscribe(counted=bool(number % 2))
    elif name == "elsewhere":
        appender.elsewhere = bool(number % 2)
    elif name == "loop over":
        appender.loop_over = bool(number % 2)
    elif name == "refuses":
        appender.topology.refuses = bool(number % 2)
    elif name == "trouble":
        appender.trouble, appender.trims = "trouble", number
    elif name == "handed over":
        return appender.buffer.in_flight is None
    elif name == "many" and appender.buffer.in_flight is None:
        appender.buffer.in_flight, appender.state = codec.Batch(b"a\nb", 2, [], b"abcd0009"), State.IN_FLIGHT
    return None


def outcome(codec: ModuleType, appender: Any, name: str, number: int) -> Any:
    try:
        return step(codec, appender, name, number)
    except Exception as error:
        return type(error).__name__


@compared
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
    assert (write.future.result, appender.sequence.last, appender.state) == (8, 8, State.IDLE)
    assert outbox.frames[1:] == [framer.publish(5, 8, 8, b"{}")]
    assert outbox.slots[1:] == [appender.subscribers]


@on_each_twin
def test_where_nobody_elsewhere_listens_nothing_is_published_and_the_server_is_asked_once(codec) -> None:
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
def test_listeners_of_this_process_get_what_is_stored_and_count_for_nobody_else(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    presence = appender.topology.presence
    presence.subscribe(counted=True)
    appender.subscribers(1)
    appender.put(b"{}", None, None)
    appender(b"5-8")
    # The writer goes on when they have had their turn.
    assert trace == ["wake", ("push", 5, 8, 8, b"{}"), ("poll_later", "s", True), ("soon", "acknowledge", (1, 8))]
    assert len(appender.lane.outbox.frames) == 1
    appender.subscribers(2)
    assert appender.subscribers.present
    presence.subscribe(counted=False)  # the server does not count it yet: the one that it counts is another's
    appender.subscribers(1)
    assert appender.subscribers.present
    presence.counts_unreliable = True  # its counts mean nothing
    appender.subscribers(0)
    assert appender.subscribers.present


@on_each_twin
def test_a_refusal_is_left_to_the_appender_and_keeps_the_batch(codec) -> None:
    appender, trace = appender_of(codec, lane=False)
    appender.put(b"{}", "original", "owner")
    refusal = ValueError("no")
    appender(refusal)
    assert trace[-1] == ("replied", refusal)
    flight = appender.buffer.in_flight
    assert (flight.body, flight.first, appender.state, appender.sequence.last) == (b"{}", 8, State.IN_FLIGHT, 7)
    appender.state = State.CLOSED
    appender(b"5-8")  # closed meanwhile
    assert trace[-1] == ("replied", refusal)


@on_each_twin
def test_a_frame_that_cannot_be_made_leaves_nobody_waiting(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    appender.terms.current = -1
    appender.put(b"{}", "original", "owner")
    assert trace[-1][0] == "suspend"
    appender, trace = appender_of(codec, lane=True)
    write = appender.put(b"{}", "original", "owner")
    appender.terms.current = -1
    with pytest.raises(OverflowError):
        appender(b"5-8")
    assert (write.future.result, appender.state, appender.buffer.in_flight) == (8, State.IDLE, None)


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
def test_an_appender_is_ready_once_for_all_that_is_added_before_the_lane_writes(codec) -> None:
    appender, trace = appender_of(codec, lane=True)
    encoder, outbox = codec.ChunkEncoder("a"), appender.lane.outbox
    for _ in range(2):
        appender.send_text(encoder, "x", 1.0)
    assert (trace, outbox.ready, appender.state) == (["wake"], [appender], State.READY)
    assert outbox.take_ready() == [appender]
    assert outbox.ready == []
    appender.advance()  # the lane has asked it, its batch is stored, and more chunks were added meanwhile
    assert outbox.ready == [appender]


@on_each_twin
@pytest.mark.parametrize("why", ["no lane", "closed", "observed", "linger"])
def test_an_appender_sends_by_itself_where_no_lane_will_ask(codec, why) -> None:
    appender, trace = appender_of(codec, lane=why != "no lane", linger=0.5 if why == "linger" else 0.0)
    if why == "closed":
        appender.lane.closed = True
    if why == "observed":
        appender.topology.observer = print
    appender.send_text(codec.ChunkEncoder("a"), "x", 1.0)
    assert trace == [("schedule", appender.linger, State.READY)]
    assert appender.lane is None or appender.lane.outbox.ready == []


@on_each_twin
def test_what_was_counted_before_somebody_came_means_nothing(codec) -> None:
    appender, _trace = appender_of(codec, lane=True)
    subscribers = appender.subscribers
    for sequence in (1, 2):
        appender.announce(sequence, sequence, b"{}")
    subscribers.assume_present()
    appender.notify_catch_up()
    subscribers(0)
    subscribers(ValueError("no"))
    assert subscribers.present
    assert (subscribers.pending, subscribers.stale) == (1, 0)
    subscribers(0)  # the reply to the catch-up message: no subscriber is left
    assert not subscribers.present


@on_each_twin
def test_a_count_from_about_the_time_when_this_process_was_counted_means_nothing(codec) -> None:
    appender, _trace = appender_of(codec, lane=True)
    subscribers, presence = appender.subscribers, appender.topology.presence
    for sequence in (1, 2, 3):
        appender.announce(sequence, sequence, b"{}")
    presence.subscribe(counted=True)
    presence.subscribe_epoch += 1
    subscribers(1)  # another process, if this one was not counted yet; else this one
    subscribers(1)
    assert subscribers.present
    subscribers(1)
    assert subscribers.present
    appender.announce(4, 4, b"{}")
    subscribers(1)  # asked after that: this process alone
    assert not subscribers.present


@on_each_twin
def test_text_is_refused_on_another_loop_and_behind_the_end(codec) -> None:
    appender, _trace = appender_of(codec, lane=True)
    encoder = codec.ChunkEncoder("a")
    appender.elsewhere = True
    with pytest.raises(ElsewhereError):
        appender.send_text(encoder, "x", 1.0)
    appender.elsewhere = False
    appender.send_text(encoder, "x", 1.0)
    appender.elsewhere = appender.loop_over = True  # the batch was begun on a loop that is closed
    with pytest.raises(ElsewhereError):
        appender.send_text(encoder, "x", 1.0)
    appender.elsewhere = appender.loop_over = False
    appender.state = State.CLOSED
    with pytest.raises(ValueError, match="refused"):
        appender.send_text(encoder, "x", 1.0)
    assert appender.open.count == 1
