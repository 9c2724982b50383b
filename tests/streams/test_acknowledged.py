"""What a process had acknowledged, and what of it a log has lost: ranges by term."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from helix_fast.streams.acknowledged import MAX_RANGES, Acknowledged
from helix_fast.streams.terms import TermKey, Terms

ONE, TWO = TermKey("10", "aaaa"), TermKey("20", "bbbb")


def test_a_term_that_ended_earlier_has_lost_the_rest_once() -> None:
    mine = Acknowledged()
    mine.add(ONE, 1, 3)
    mine.add(ONE, 4, 10)
    mine.add(ONE, 15, 15)
    terms = Terms("10:1:0:aaaa,20:16:7:bbbb", "e")
    assert mine.take_lost(terms, 30) == [(8, 10), (15, 15)]
    assert mine.take_lost(terms, 30) == []
    assert mine.take_all() == [(1, 7)]
    assert not mine


def test_a_term_of_a_lost_branch_is_lost_as_a_whole_and_a_pruned_one_is_not() -> None:
    mine = Acknowledged()
    mine.add(ONE, 1, 3)
    mine.add(TWO, 4, 6)
    assert mine.take_lost(Terms("10:1:0:aaaa,30:4:3:cccc", "e"), 9) == [(4, 6)]
    mine.add(TWO, 4, 6)
    long = ",".join(f"{number}:7:6:aaaa" for number in range(100, 228))
    assert mine.take_lost(Terms(long, "e"), 9) == []


def test_a_list_from_before_terms_had_tags_is_read() -> None:
    terms = Terms("10:1,20:5", "e")
    assert (terms.current, terms.id_at(4), terms.id_at(5)) == (20, b"10-4", b"20-5")
    assert terms.end_of(TermKey("10", ""), 9) == 4
    assert terms.key.text == "", "nothing could be recognised by it"


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(1, 9)), max_size=40), st.integers(0, 300))
def test_exactly_what_is_behind_the_end_is_lost(runs: list[tuple[TermKey, int]], end: int) -> None:
    mine, sequence, expected = Acknowledged(), 0, set[int]()
    runs.sort()
    bounds = {ONE: 0, TWO: 0}
    for term, count in runs:
        mine.add(term, sequence + 1, sequence + count)
        bounds[term] = sequence + count
        if term == TWO:
            expected |= {n for n in range(sequence + 1, sequence + count + 1) if n > end}
        sequence += count + 1  # another writer's
    terms = Terms(f"10:1:0:aaaa,20:{bounds[ONE] + 1}:{bounds[ONE]}:bbbb", "e")
    lost = mine.take_lost(terms, end)
    assert {n for first, last in lost for n in range(first, last + 1)} == expected
    assert all(one[1] + 1 < two[0] for one, two in itertools.pairwise(lost)), "merged"


def test_very_many_ranges_are_joined() -> None:
    mine = Acknowledged()
    for n in range(1, 4 * MAX_RANGES, 2):
        mine.add(ONE, n, n)
    assert len(mine._ranges) <= MAX_RANGES
    assert mine.take_all()[-1] == (4 * MAX_RANGES - 1, 4 * MAX_RANGES - 1)
