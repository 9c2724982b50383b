"""The bookkeeping of sequences: nothing reserved twice, nothing seen twice, no hole unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, U64_MAX, compared, numbers, on_each_twin, outcome

counts = st.integers(1, 50) | st.integers(1, U64_MAX)


@on_each_twin
@given(
    last=st.integers(0, 10) | st.integers(U64_MAX - 60, U64_MAX),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), counts),
            st.tuples(st.just("commit")),
            st.tuples(st.just("rollback")),
            st.tuples(st.just("jump"), st.integers(-3, 60)),
        ),
        max_size=30,
    ),
)
def test_sequencer_follows_a_plain_list_of_sequences(codec, last, steps) -> None:
    sequencer = codec.Sequencer(last)
    in_flight: int | None = None
    for name, *rest in steps:
        if name == "reserve":
            if in_flight is not None:
                with pytest.raises(RuntimeError):
                    sequencer.reserve(rest[0])
            elif last + rest[0] > U64_MAX:
                with pytest.raises(OverflowError):
                    sequencer.reserve(rest[0])
            else:
                assert sequencer.reserve(rest[0]) == last + 1
                in_flight = rest[0]
        elif name == "commit" and in_flight is None:
            with pytest.raises(RuntimeError):
                sequencer.commit()
        elif name == "commit":
            last, in_flight = last + in_flight, None
            assert sequencer.commit() == last
        elif name == "rollback":
            sequencer.rollback()
            in_flight = None
        elif 0 <= last + rest[0] <= U64_MAX and rest[0] >= 0:
            sequencer.jump(last + rest[0])
            last, in_flight = last + rest[0], None
        else:
            with pytest.raises((ValueError, OverflowError)):
                sequencer.jump(last + rest[0])
        assert sequencer.last == last


@on_each_twin
def test_a_range_rolled_back_is_reserved_again(codec) -> None:
    sequencer = codec.Sequencer(7)
    assert sequencer.reserve(3) == 8
    sequencer.rollback()
    assert sequencer.reserve(2) == 8
    assert sequencer.commit() == 9
    assert sequencer.reserve(1) == 10


@on_each_twin
def test_a_second_range_in_flight_is_refused_and_the_first_kept(codec) -> None:
    sequencer = codec.Sequencer()
    sequencer.reserve(3)
    with pytest.raises(RuntimeError):
        sequencer.reserve(1)
    assert sequencer.commit() == 3


@on_each_twin
def test_a_stream_never_goes_back_and_keeps_what_flies_when_asked_to(codec) -> None:
    sequencer = codec.Sequencer(5)
    sequencer.reserve(2)
    with pytest.raises(ValueError, match="does not go back"):
        sequencer.jump(4)
    assert sequencer.commit() == 7


@on_each_twin
def test_a_jump_drops_what_flies_and_may_stay_in_place(codec) -> None:
    sequencer = codec.Sequencer(5)
    sequencer.reserve(2)
    sequencer.jump(5)
    with pytest.raises(RuntimeError):
        sequencer.commit()
    sequencer.rollback()
    assert sequencer.reserve(1) == 6


@on_each_twin
@pytest.mark.parametrize("count", [0, -1, U64_MAX + 1, True, 1.0, None])
def test_a_count_that_is_none_is_refused_and_nothing_flies(codec, count) -> None:
    sequencer = codec.Sequencer()
    with pytest.raises((ValueError, OverflowError, TypeError)):
        sequencer.reserve(count)
    assert sequencer.reserve(1) == 1


@on_each_twin
def test_sequences_end_at_64_bits(codec) -> None:
    sequencer = codec.Sequencer(U64_MAX - 1)
    with pytest.raises(OverflowError):
        sequencer.reserve(2)
    assert sequencer.reserve(1) == U64_MAX
    assert sequencer.commit() == U64_MAX
    with pytest.raises(OverflowError):
        sequencer.reserve(1)


@on_each_twin
@given(after=st.integers(0, 30), entries=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)), max_size=40))
def test_window_takes_each_sequence_once_and_in_order(codec, after, entries) -> None:
    window = codec.Window(after)
    taken: list[int] = []
    for first, more in entries:
        last, seen = first + more, window.last
        answer = window.offer(first, last)
        if answer >= 0:
            taken.extend(range(first, last + 1)[answer:])
        else:
            assert window.last == seen
        if answer == -1:
            assert last <= seen
        if answer == -2:
            assert first > seen + 1
        assert (first <= seen < last) == (answer > 0)
    assert taken == list(range(after + 1, window.last + 1))


@on_each_twin
@pytest.mark.parametrize(
    ("entry", "answer", "last"),
    [
        ((6, 8), 0, 8),
        ((5, 8), 1, 8),
        ((1, 6), 5, 6),
        ((1, 5), -1, 5),
        ((5, 5), -1, 5),
        ((7, 7), -2, 5),
        ((6, 6), 0, 6),
        ((1, U64_MAX), 5, U64_MAX),
        ((U64_MAX, U64_MAX), -2, 5),
    ],
)
def test_window_answers_to_what_was_seen(codec, entry, answer, last) -> None:
    window = codec.Window(5)
    assert window.offer(*entry) == answer
    assert window.last == last


@on_each_twin
def test_window_at_the_last_sequence_of_all(codec) -> None:
    window = codec.Window(U64_MAX)
    assert window.offer(1, U64_MAX) == -1
    window = codec.Window(U64_MAX - 1)
    assert window.offer(1, U64_MAX) == U64_MAX - 1


@on_each_twin
@pytest.mark.parametrize(
    ("entry", "error"),
    [((0, 1), ValueError), ((3, 2), ValueError), ((-1, 2), OverflowError), ((1, U64_MAX + 1), OverflowError)],
)
def test_window_refuses_what_is_no_range(codec, entry, error) -> None:
    window = codec.Window(1)
    with pytest.raises(error):
        window.offer(*entry)
    assert window.last == 1


@compared
@given(start=numbers, calls=st.lists(st.tuples(numbers, numbers), max_size=8))
def test_twins_keep_the_same_window(start, calls) -> None:
    windows = [outcome(twin.Window, start) for twin in TWINS]
    if isinstance(windows[0], tuple):
        assert windows[0] == windows[1]
        return
    for first, last in calls:
        assert outcome(windows[0].offer, first, last) == outcome(windows[1].offer, first, last)
        assert windows[0].last == windows[1].last


@compared
@given(
    start=numbers,
    calls=st.lists(st.tuples(st.sampled_from(["reserve", "jump", "commit", "rollback"]), numbers), max_size=8),
)
def test_twins_keep_the_same_sequencer(start, calls) -> None:
    sequencers = [outcome(twin.Sequencer, start) for twin in TWINS]
    if isinstance(sequencers[0], tuple):
        assert sequencers[0] == sequencers[1]
        return
    for name, number in calls:
        arguments = (number,) if name in ("reserve", "jump") else ()
        assert outcome(getattr(sequencers[0], name), *arguments) == outcome(getattr(sequencers[1], name), *arguments)
        assert sequencers[0].last == sequencers[1].last
