"""What the demo makes of a text, and what its readers' tally says when a store loses, doubles or mixes up chunks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.cli.demo import make_sessions, percentile_ms, standard_text, summarize
from helix_fast.cli.playback import Session, cut, slice_length
from helix_fast.streams.chunks import TextDeltaChunk
from helix_fast.streams.schema import StoredChunk

WORDS = ["one", " two", " three", " four"]


def session_of(*events: str) -> Session:
    session = Session(1, list(events), random.Random(1))
    session.written = len(events)
    return session


def deliver(session: Session, *sequences: int, text: str | None = None) -> None:
    for sequence in sequences:
        delta = session.events[sequence - 1] if text is None else text
        assert isinstance(delta, str)
        session.saw(StoredChunk(TextDeltaChunk(delta=delta), sequence, "e"), 0.0)


@given(st.text())
def test_deltas_joined_are_the_text(text: str) -> None:
    assert "".join(cut(text)) == text


def test_deltas_have_the_size_of_tokens() -> None:
    tokens = cut(standard_text())
    assert max(map(len, tokens)) <= 16
    assert 3 < sum(map(len, tokens)) / len(tokens) < 6


@pytest.mark.parametrize("sessions", [1, 2, 7, 200, 2000])
def test_default_text_gives_at_least_100_000_chunks_and_every_part_is_used(sessions: int) -> None:
    tokens = len(cut(standard_text()))
    length = slice_length(tokens, sessions)
    assert length * sessions >= 100_000
    starts = [number * tokens // sessions for number in range(sessions)]
    assert all(start + length >= following for start, following in zip(starts, [*starts[1:], tokens], strict=True))


def test_each_session_streams_a_short_text_once_with_tool_events_in_between() -> None:
    text = "Ein kurzer Text, naïve — 日本語 🎈\r\n"
    for session in make_sessions(text, 3, 0, 0):
        deltas = [event for event in session.events if isinstance(event, str)]
        tools = [event.type for event in session.events if not isinstance(event, str)]
        assert sorted(deltas) == sorted(cut(text))
        assert tools[:2] == ["tool_start", "tool_end"]


def test_same_seed_gives_the_same_chunks_and_another_seed_others() -> None:
    text = standard_text()[:5000]
    events = [[session.events for session in make_sessions(text, 5, 0, seed)] for seed in (3, 3, 4)]
    assert events[0] == events[1]
    assert events[0] != events[2]


def test_all_chunks_once_and_in_order_are_faultless() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 2, 3, 4)
    report = summarize([session], 2.0)
    assert report.faultless
    assert (report.chunks_written, report.chunks_read, report.chunks_per_second) == (4, 4, 2.0)


def test_a_chunk_that_never_came_is_lost() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 2, 4)
    report = summarize([session], 1.0)
    assert (report.lost, report.duplicated, report.out_of_order) == (1, 0, 0)
    assert not report.text_identical
    assert not report.faultless


def test_a_chunk_that_came_twice_is_duplicated_and_stays_in_the_text() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 2, 2, 3, 4)
    report = summarize([session], 1.0)
    assert (report.lost, report.duplicated, report.out_of_order) == (0, 1, 0)
    assert not report.text_identical


def test_a_chunk_of_a_sequence_that_was_never_written_is_duplicated() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 2, 3, 4)
    deliver(session, 5, text="x")
    assert summarize([session], 1.0).duplicated == 1


def test_a_chunk_behind_a_later_one_is_out_of_order() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 3, 2, 4)
    report = summarize([session], 1.0)
    assert (report.lost, report.duplicated, report.out_of_order) == (0, 0, 1)
    assert not report.faultless


def test_chunks_out_of_order_are_a_fault_even_where_the_text_is_the_same() -> None:
    session = session_of("a", "a", "a")
    deliver(session, 1, 3, 2)
    report = summarize([session], 1.0)
    assert report.text_identical
    assert not report.faultless


def test_another_text_under_the_right_sequence_is_different() -> None:
    session = session_of(*WORDS)
    deliver(session, 1, 2, 3)
    deliver(session, 4, text=" fOur")
    report = summarize([session], 1.0)
    assert (report.lost, report.duplicated, report.out_of_order, report.text_identical) == (0, 0, 0, False)


def test_a_tool_event_that_is_missing_makes_the_run_different() -> None:
    session = make_sessions("some words", 1, 0, 0)[0]
    session.written = len(session.events)
    for sequence, event in enumerate(session.events, 1):
        chunk = TextDeltaChunk(delta=event if isinstance(event, str) else "")
        session.saw(StoredChunk(chunk, sequence, "e"), 0.0)
    assert summarize([session], 1.0).text_identical is False


def test_percentiles_are_of_the_nearest_rank_and_none_without_samples() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert (percentile_ms(seconds, 0.5), percentile_ms(seconds, 0.99)) == (50.0, 99.0)
    assert percentile_ms([], 0.5) is None
